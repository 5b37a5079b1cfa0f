"""What all figures share: the theme, panels, legends and the marks of seeds and of negligible differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from decaylab.analysis.statistics import mean_interval
from decaylab.report.colours import LIGHT
from decaylab.report.figures.labels import level_text, wrap

STYLES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))
THIN = {"linewidth": 0.6, "alpha": 0.55, "zorder": 1.5}
"""a line behind the means"""
DROP = {"color": LIGHT["muted"], "linewidth": 1, "linestyle": (0, (1, 1.5))}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % Student interval over seeds; a single seed has no width."""
    mean, ends = mean_interval(values)
    return mean, *(ends or (mean, mean))


def student(values: pd.Series) -> tuple[float, float]:
    """Error bar for seaborn: the ends of `interval`."""
    return interval(values)[1:]


def seed_range(values: pd.Series) -> tuple[float, float]:
    """Error bar for seaborn: the lowest and the highest seed."""
    return values.min(), values.max()


def theme() -> dict[str, Any]:
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "text.parse_math": False,  # labels come from files, and a dollar sign is one
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.labelsize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": LIGHT["muted"],
        "axes.linewidth": 0.8,
        "axes.labelcolor": LIGHT["ink"],
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT["line"],
        "grid.linewidth": 0.6,
        "text.color": LIGHT["ink"],
        "axes.titlecolor": LIGHT["ink"],
        "xtick.color": LIGHT["muted"],
        "ytick.color": LIGHT["muted"],
        "xtick.labelcolor": LIGHT["ink"],
        "ytick.labelcolor": LIGHT["ink"],
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.title_fontsize": 9,
        "lines.solid_capstyle": "round",
        "patch.edgecolor": "white",
        "patch.force_edgecolor": True,
        "figure.constrained_layout.use": True,
    }


def panels(
    count: int, width: float = 3.6, height: float = 2.9, most: int = 3, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """A grid of `count` axes, at most `most` in a row; call it, and draw, within `theme`.

    Where axes share their scale, the lowest of each column has the numbers.
    """
    columns = 2 if count == 4 and most == 3 else min(count, most)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    flat = list(figure.subplots(rows, columns, squeeze=False, **kwargs).flat)
    for spare in flat[count:]:
        spare.remove()
    for axes in flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, flat[:count]


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    """One legend below all panels, in as many columns as fit at about 13 characters an inch."""
    longest = max((len(handle.get_label()) for handle in handles), default=0) + 6
    width, height = figure.get_size_inches()
    columns = max(1, min(len(handles), int(13 * width / longest)))
    rows = math.ceil(len(handles) / columns)
    figure.set_size_inches(width, height + 0.19 * max(0, rows - 2))  # a long legend leaves the panels their height
    with matplotlib.rc_context(theme()):
        made = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    for entry, text, handle in zip(made.legend_handles, made.get_texts(), handles, strict=True):
        entry.set_gid(handle.get_gid())
        text.set_gid(handle.get_gid())


def line(text: str, colour: str, **kwargs: Any) -> Line2D:
    """A line of the legend."""
    return Line2D([], [], color=colour, label=text, **({"linewidth": 2} | kwargs))


def panel_title(axes: Axes, name: str, value: Any, frame: pd.DataFrame | None = None, width: int = 32) -> None:
    """What the panel shows, in lines of that many characters."""
    axes.set_title(wrap(level_text(name, value, frame), width))


def usable(frame: pd.DataFrame | None, *columns: str) -> pd.DataFrame | None:
    """Rows that have all the columns, or None if none has."""
    if frame is None or frame.empty or any(column not in frame for column in columns):
        return None
    frame = frame.dropna(subset=list(columns))
    return None if frame.empty else frame


def select_columns(frame: pd.DataFrame, *names: str | None) -> pd.DataFrame:
    """What a figure keeps as its data: run, grid, those of `names` that the frame has, and seed before the last."""
    wanted = ["run_id", "reference_run_id", "grid", *names]
    wanted.insert(len(wanted) - 1, "seed")
    return frame[[name for name in dict.fromkeys(wanted) if name in frame]]


def negligible(effect: str) -> Patch:
    """Entry of the legend for the negligible range."""
    return Patch(color=LIGHT["line"], label=f"negligible (\u00b1{effect})")


def zero_line(axes: Axes, band: float | None, which: str = "y") -> None:
    """A line at zero and, around it, the range of negligible differences."""
    span, line = (axes.axhspan, axes.axhline) if which == "y" else (axes.axvspan, axes.axvline)
    if band:
        span(-band, band, color=LIGHT["line"], alpha=0.7, linewidth=0, zorder=0)
    line(0, color=LIGHT["muted"], linewidth=1)
