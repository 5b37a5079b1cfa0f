"""What a page's script has to know to answer the pointer: which line belongs to which arm, and where the axes lie.

Artists are marked by their gid while a figure is drawn; `attributes` turns the marks in its SVG into data attributes,
which templates/curves.js reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.report.figures.labels import percent, points
from decaylab.report.plot_data import attributes_of, panel_of

MEAN, PART, PANEL = "mean", "part", "panel"
"""the curve whose values are read; whatever else belongs to an arm; the axes around both"""
_MARKED = re.compile(rf' id="({MEAN}|{PART}|{PANEL})-(\d+)"')
UNITS = {percent: " %", points: " points"}
"""of axes that show shares"""


def mark(artists: Iterable[Artist], kind: str, rank: int) -> None:
    """Say that artists belong to the arm, or are the panel, of that number."""
    for artist in artists:
        artist.set_gid(f"{kind}-{rank}")


def attributes(svg: str) -> str:
    """The SVG of a figure with data attributes in place of marks."""

    def named(match: re.Match[str]) -> str:
        kind, rank = match.groups()
        if kind == PANEL:
            return f' data-panel="{rank}"'
        return f' data-arm="{rank}"{" data-mean" if kind == MEAN else ""}'

    return _MARKED.sub(named, svg)


def description(figure: Figure) -> str:
    """Attributes of the SVG: its panels, with their place in points and their axes, and the names of its arms.

    Empty if nothing in the figure is marked. The layout has to be settled.
    """
    panels = [axes for axes in figure.axes if str(axes.get_gid()).startswith(PANEL)]
    if not panels:
        return ""
    names = [text for legend in figure.legends for text in legend.get_texts() if text.get_gid()]
    arms = [text.get_text() for text in names]
    return attributes_of([_panel(axes, figure) for axes in panels], arms)


def _panel(axes: Axes, figure: Figure) -> dict[str, object]:
    width, height = (72 * inches for inches in figure.get_size_inches())
    place = axes.get_position()
    box = (place.x0 * width, (1 - place.y1) * height, place.x1 * width, (1 - place.y0) * height)
    x = (*axes.get_xlim(), axes.get_xscale() == "log")
    y = (*axes.get_ylim(), axes.get_yscale() == "log")
    title = axes.get_title(loc="left")
    label = ", ".join(text.replace("\n", " ") for text in (title, axes.get_ylabel()) if text)
    unit = UNITS.get(axes.yaxis.get_major_formatter(), "")
    return panel_of(box, x, y, label, unit, axes.get_xlabel().split(" (")[0])
