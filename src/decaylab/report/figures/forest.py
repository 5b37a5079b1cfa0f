"""Forest plot of claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from decaylab.analysis.verdict import VERDICTS
from decaylab.report import colours
from decaylab.report.colours import LIGHT
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.labels import wrap
from decaylab.report.figures.style import legend, line, theme
from decaylab.report.mini_forest import archived, claimed, ends, extent, is_proportion


def claims_forest(claims: Sequence[Mapping[str, Any]]) -> Chart | None:
    """One row a claim, each on its own axis and in its own unit.

    The tinted area is where the claim says that the whole interval lies. The grey band is the negligible range. The
    diamond is the source's number. Thinner lines below are archived runs, the best first.
    """
    claims = [claim for claim in claims if claim.get("estimate") is not None and claim.get("interval")]
    if not claims:
        return None
    with matplotlib.rc_context(theme()):
        figure = Figure(figsize=(8.2, 0.86 * len(claims) + 0.5), layout="constrained")
        axes_list = figure.subplots(len(claims), 1, squeeze=False)
        for axes, claim in zip(axes_list[:, 0], claims, strict=True):
            _forest_row(axes, claim)
    seen = [verdict for verdict in VERDICTS if verdict in {claim["verdict"] for claim in claims}]
    handles = [Line2D([], [], label=verdict, linewidth=2, markersize=7, **_mark(verdict)) for verdict in seen]
    if any((claim.get("source_value") or {}).get("value") is not None for claim in claims):
        handles.append(line("source", LIGHT["ink"], marker="D", markerfacecolor="none", linestyle="none"))
    if any(archived(claim) for claim in claims):
        handles.append(line("archived runs", LIGHT["muted"], marker="o", markersize=4, linewidth=1.2))
    handles += [
        Patch(color=LIGHT["good"], label="what the claim says"),
        Patch(color=LIGHT["line"], label="negligible"),
    ]
    legend(figure, handles)
    return Chart("claims", figure, claims_data(claims))


def claims_data(claims: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a claim, with the ends of its interval and the source's value in columns of their own."""
    return pd.DataFrame(
        {
            "claim": claim["claim"],
            "verdict": claim["verdict"],
            "estimate": claim["estimate"],
            "low": (claim["interval"] or (None, None))[0],
            "high": (claim["interval"] or (None, None))[1],
            "n": claim["n"],
            "unit": claim["unit"],
            "direction": claim["direction"],
            "smallest_effect": claim["smallest_effect"],
            "source": (claim.get("source_value") or {}).get("value"),
            "scale": claim.get("scale"),
            "runs": " ".join(claim.get("run_ids") or ()),
        }
        for claim in claims
    )


MARKS = {"reproduced": "o", "contradicted": "X", "negligible": "s"}
"""shape of a verdict; the others have a hollow circle"""


def _mark(verdict: str) -> dict[str, Any]:
    hollow = {} if verdict in MARKS else {"markerfacecolor": LIGHT["card"]}
    return {"marker": MARKS.get(verdict, "o"), "color": colours.verdict_colour(verdict), **hollow}


def _forest_row(axes: Axes, claim: Mapping[str, Any]) -> None:
    others = archived(claim)
    effect = claim.get("smallest_effect") or 0
    source = (claim.get("source_value") or {}).get("value")
    left, right = extent(claim)
    axes.axvspan(*claimed(claim, left, right), color=LIGHT["good"], linewidth=0)
    if effect and claim["direction"] != "within" and not is_proportion(claim):
        axes.axvspan(-effect, effect, color=LIGHT["line"], alpha=0.7, linewidth=0)
    axes.axvline(0, color=LIGHT["muted"], linewidth=1)
    heights = np.linspace(0.5, -0.7, 1 + len(others)) if others else [0.0]
    for item, height in zip((claim, *others), heights, strict=True):
        mark, own = _mark(item["verdict"]), item is claim
        axes.plot(ends(item), [height, height], color=mark["color"], linewidth=2.4 if own else 1.2)
        axes.plot([item["estimate"]], [height], linestyle="none", markersize=7 if own else 4, **mark)
    if source is not None:
        axes.plot([source], heights[:1], "D", markerfacecolor="none", markeredgecolor=LIGHT["ink"], markersize=8)
    axes.set_xlim(left, right)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", pad=1, labelsize=7.5)
    test = f"{claim['test']}: " if len(claim.get("parts") or ()) > 1 else ""
    statement = " ".join((claim.get("statement") or claim["claim"]).split())
    unit = f"({test}{claim['unit']}, n = {claim['n']})"
    title = wrap(f"{statement}{' ' if len(statement) + len(unit) < 122 else chr(10)}{unit}", 122)
    axes.set_title(title, fontsize=8.5, fontweight="normal", pad=3)
