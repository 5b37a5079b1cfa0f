"""The forest plot of one claim, small enough for a line of a table: plain SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from decaylab.report.colours import LIGHT
from decaylab.report.html import estimate

WIDTH, HEIGHT, EDGE = 230.0, 40.0, 8.0
MOST_ARCHIVED = 3
"""archived runs in one plot; the details below have them all"""


def archived(view: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Archived runs beside a claim that have an estimate, the best first."""
    return [item for item in view.get("evidence") or [] if item["estimate"] is not None][:MOST_ARCHIVED]


def ends(item: Mapping[str, Any]) -> tuple[float, float]:
    """Both ends of the interval; the estimate where there is none."""
    low, high = item["interval"] or (None, None)
    return (item["estimate"] if low is None else low), (item["estimate"] if high is None else high)


def extent(view: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the axis: zero, all intervals, the smallest effect and the source's number, with a margin."""
    effect = view.get("smallest_effect") or 0
    points = [0, *(end for item in (view, *archived(view)) for end in ends(item))]
    points += [effect] if is_proportion(view) else [effect, -effect]
    source = (view.get("source_value") or {}).get("value")
    points += [source] if source is not None else []
    margin = 0.08 * ((max(points) - min(points)) or 1.0)
    return min(points) - margin, max(points) + margin


def claimed(view: Mapping[str, Any], left: float, right: float) -> tuple[float, float]:
    """Where the claim says that the whole interval lies."""
    effect = view.get("smallest_effect") or 0
    below = effect if is_proportion(view) else -effect
    return {"above": (effect, right), "below": (left, below), "within": (-effect, effect)}[view["direction"]]


def is_proportion(view: Mapping[str, Any]) -> bool:
    """A proportion is held against the smallest effect itself, and has no other side of zero."""
    return view.get("kind", "mean") != "mean"


def mini_forest(view: Mapping[str, Any]) -> str:
    """Our interval, archived ones below it, the source's number as a diamond; empty without an estimate.

    Colours are set in place, so that it needs no style sheet.
    """
    if view.get("estimate") is None:
        return ""
    left, right = extent(view)

    def at(value: float) -> float:
        return round(EDGE + (WIDTH - 2 * EDGE) * (value - left) / (right - left), 1)

    def area(low: float, high: float, colour: str) -> str:
        width = round(at(high) - at(low), 1)
        return f'<rect x="{at(low)}" y="1" width="{width}" height="26" style="fill:{_colour(colour)}"/>'

    shapes = [area(*claimed(view, left, right), "good")]
    effect = view.get("smallest_effect") or 0
    if effect and view["direction"] != "within" and not is_proportion(view):
        shapes.append(area(-effect, effect, "line"))
    shapes.append(f'<path d="M{at(0)} 1v26" style="stroke:{_colour("muted")}"/>')
    others = archived(view)
    heights = [9.0, *(15.5 + 4 * rank for rank in range(len(others)))] if others else [14.0]
    for item, height in zip((view, *others), heights, strict=True):
        low, high = map(at, ends(item))
        thick, size = (2.4, 4.2) if item is view else (1.2, 2.2)
        colour = _colour(item["verdict"].replace(" ", "_"))
        shapes.append(
            f'<g style="stroke:{colour};fill:{colour};stroke-width:{thick}"><path d="M{low} {height}H{high}"/>'
            f"{_mark(item['verdict'], at(item['estimate']), height, size)}</g>"
        )
    source = (view.get("source_value") or {}).get("value")
    if source is not None:
        diamond = f"M{at(source)} {heights[0] - 5}l5 5l-5 5l-5 -5z"
        shapes.append(f'<path d="{diamond}" style="fill:none;stroke:{_colour("ink")};stroke-width:1.3"/>')
    texts = [(at(0), "middle", "0")]
    texts += [(0, "start", "\u2190 lower")] if at(0) > 70 else []
    texts += [(WIDTH, "end", "higher \u2192")] if at(0) < WIDTH - 70 else []
    style = f"font-size:10px;fill:{_colour('muted')}"
    shapes += [f'<text x="{x:g}" y="38" text-anchor="{side}" style="{style}">{text}</text>' for x, side, text in texts]
    return (
        f'<svg class="forest" role="img" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" width="{WIDTH:g}" height="{HEIGHT:g}" '
        f'aria-label="{escape(_words(view, others, source))}">{"".join(shapes)}</svg>'
    )


def _colour(name: str) -> str:
    return f"var(--{name.replace('_', '-')},{LIGHT[name]})"


def _mark(verdict: str, x: float, y: float, size: float) -> str:
    """A shape for each verdict, so that colour is not needed: disc, cross, square, ring."""
    if verdict == "contradicted":
        cross = f"M{x - size:.1f} {y - size:.1f}l{2 * size} {2 * size}m0 {-2 * size}l{-2 * size} {2 * size}"
        return f'<path d="{cross}" style="stroke-width:2"/>'
    if verdict == "negligible":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}"/>'
    hollow = "" if verdict == "reproduced" else f' style="fill:{_colour("card")};stroke-width:1.6"'
    return f'<circle cx="{x}" cy="{y}" r="{size}"{hollow}/>'


def _words(view: Mapping[str, Any], others: Sequence[Mapping[str, Any]], source: float | None) -> str:
    text = f"Ours: {estimate(view['estimate'], view['interval'])}, {view['verdict']}"
    text += "".join(f"; {item['label']}: {estimate(item['estimate'], item['interval'])}" for item in others)
    return text + (f"; source: {estimate(source)}" if source is not None else "")
