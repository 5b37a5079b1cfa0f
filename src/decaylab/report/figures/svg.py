"""From a matplotlib figure to inline SVG."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from decaylab.report import colours
from decaylab.report.html import Html, note


def show(figure: Figure | None, caption: str, alt: str | None = None) -> Html:
    """The figure as inline SVG with its caption, or a line that says it cannot be drawn (figure is None).

    `alt` is what a screen reader says; by default the axes and the legend put into words.
    """
    if figure is None:
        return note(f"No run at this scale has what this figure needs: {caption}")
    alt = alt or describe(figure)
    width = figure.get_size_inches()[0] * 72
    text = _svg(figure)
    # on a narrow screen a wide figure scrolls in its own box rather than becoming unreadable
    attributes = f'role="img" aria-label="{escape(alt)}" style="width:{width:.0f}pt;min-width:{0.66 * width:.0f}pt"'
    text = text.replace("<svg ", f"<svg {attributes} ", 1)
    return Html(f'<figure><div class="scroll">{text}</div><figcaption>{escape(caption)}</figcaption></figure>')


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


def _svg(figure: Figure) -> str:
    """SVG without identifiers, dates or fixed colours of the page; coordinates to a hundredth of a point."""
    buffer = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set(facecolor="none", edgecolor="none")
    # savefig would draw everything once more before, to learn sizes that our layout has settled already
    with matplotlib.rc_context({"svg.hashsalt": "decaylab", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = re.sub(r' (xmlns(:xlink)?|version)="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", text, count=1)
    text = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\d+\.\d\d)\d+", r"\1", match[0]), text)
    text = re.sub(r'((?:x|y)=")(\d+\.\d\d)\d+', r"\1\2", text)
    for name, value in colours.LIGHT.items():
        text = text.replace(f": {value}", f": var(--{name.replace('_', '-')},{value})")
    return re.sub(r"\n\s*", "\n", text)
