"""From a matplotlib figure to inline SVG, to PNG and to words."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from decaylab.report import colours
from decaylab.report.figures import pointer

FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
"""Text stays text. The layout was computed for the first; the others are as wide or narrower."""


def describe(figure: Figure) -> str:
    """What a figure shows, in words: titles, axes and legend entries."""
    parts = []
    for axes in figure.axes:
        names = [
            axes.get_title(loc="left").replace("\n", " "),
            _axis("x", axes.get_xlabel()),
            _axis("y", axes.get_ylabel()),
        ]
        if any(names):
            parts.append(", ".join(name for name in names if name))
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())] + list(figure.legends)
    entries = dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts())
    if entries:
        parts.append("legend: " + ", ".join(entries))
    return ("Chart. " + "; ".join(parts)).replace("\n", " ")


def _axis(name: str, label: str) -> str:
    return f"{name} axis {label}" if label else ""


def svg(figure: Figure) -> str:
    """Inline SVG that follows the page's colours, with a text alternative for screen readers.

    It has no identifiers and no date; coordinates are rounded to a hundredth of a point.
    """
    width = figure.get_size_inches()[0] * 72
    buffer = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set(facecolor="none", edgecolor="none")
    # savefig would draw everything once more before, to learn sizes that our layout has settled already
    with matplotlib.rc_context({"svg.hashsalt": "decaylab", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # settled: a PNG of the same figure need not compute it again
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", pointer.attributes(text))
    text = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", text, count=1)
    text = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\d+\.\d\d)\d+", r"\1", match[0]), text)
    text = re.sub(r'((?:x|y)=")(\d+\.\d\d)\d+', r"\1\2", text)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", FONTS, text)
    for name, value in colours.LIGHT.items():
        text = text.replace(f": {value}", f": var(--{name.replace('_', '-')},{value})")
    # on a narrow screen a wide figure scrolls in its own box rather than becoming unreadable
    attributes = f'role="img" aria-label="{escape(describe(figure))}" {pointer.description(figure)}'
    attributes += f'style="width:{width:.0f}pt;min-width:{0.66 * width:.0f}pt"'
    return re.sub(r"\n\s*", "\n", text.replace("<svg ", f"<svg {attributes} ", 1))


def png(figure: Figure) -> bytes:
    """The figure on a white ground, for JupyterLab, GitHub and documents."""
    buffer = io.BytesIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set(facecolor="white")
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
