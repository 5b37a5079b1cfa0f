"""Forest plot of claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from decaylab.analysis.verdict import VERDICTS
from decaylab.report import colours
from decaylab.report.colours import LIGHT
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.style import legend, line, theme


def claims_forest(claims: Sequence[Mapping[str, Any]]) -> Chart | None:
    """One row a claim, each on its own axis and in its own unit.

    The green side is where the claim says the whole interval lies; the grey band holds differences too small
    to matter; the diamond is the source's number. Squares below are what filed evidence found, best first.
    """
    claims = [claim for claim in claims if claim.get("estimate") is not None and claim.get("interval")]
    if not claims:
        return None
    with matplotlib.rc_context(theme()):
        figure = Figure(figsize=(8.2, 0.78 * len(claims) + 0.5), layout="constrained")
        axes_list = figure.subplots(len(claims), 1, squeeze=False)
        for axes, claim in zip(axes_list[:, 0], claims, strict=True):
            _forest_row(axes, claim)
    seen = [verdict for verdict in VERDICTS if verdict in {claim["verdict"] for claim in claims}]
    handles = [line(verdict, colours.verdict_colour(verdict), marker="o") for verdict in seen]
    if any((claim.get("source_value") or {}).get("value") is not None for claim in claims):
        handles.append(line("source", LIGHT["ink"], marker="D", markerfacecolor="none", linestyle="none"))
    if any(_filed(claim) for claim in claims):
        handles.append(line("filed evidence", LIGHT["muted"], marker="s"))
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


MOST_FILED = 3
"""evidence in one row of the forest: the table below it has them all"""


def _filed(claim: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Evidence beside a claim that has an estimate, the best first."""
    return [item for item in claim.get("evidence") or [] if item["estimate"] is not None][:MOST_FILED]


def _ends(claim: Mapping[str, Any]) -> list[float]:
    """Both ends of the interval; the estimate where there is none."""
    return [claim["estimate"] if end is None else end for end in claim["interval"] or (None, None)]


def _forest_row(axes: Axes, claim: Mapping[str, Any]) -> None:
    filed = _filed(claim)
    effect = claim.get("smallest_effect") or 0
    # a proportion is compared with the smallest effect itself and has no other side of zero
    rate = claim.get("kind") == "proportion"
    source = (claim.get("source_value") or {}).get("value")
    points = [0, *(end for item in (claim, *filed) for end in _ends(item)), *([effect] if rate else [effect, -effect])]
    points += [source] if source is not None else []
    reach = max(points) - min(points) or 1.0
    left, right = min(points) - 0.08 * reach, max(points) + 0.08 * reach
    claimed = {"above": (effect, right), "below": (left, effect if rate else -effect), "within": (-effect, effect)}
    axes.axvspan(*claimed[claim["direction"]], color=LIGHT["good"], linewidth=0)
    if effect and claim["direction"] != "within" and not rate:
        axes.axvspan(-effect, effect, color=LIGHT["line"], alpha=0.7, linewidth=0)
    axes.axvline(0, color=LIGHT["muted"], linewidth=1)
    heights = np.linspace(0.5, -0.7, 1 + len(filed)) if filed else [0.0]
    for item, height in zip((claim, *filed), heights, strict=True):
        colour, own = colours.verdict_colour(item["verdict"]), item is claim
        axes.plot(_ends(item), [height, height], color=colour, linewidth=2.4 if own else 1.2)
        axes.plot([item["estimate"]], [height], "o" if own else "s", color=colour, markersize=7 if own else 4)
    if source is not None:
        axes.plot([source], heights[:1], "D", markerfacecolor="none", markeredgecolor=LIGHT["ink"], markersize=7)
    axes.set_xlim(left, right)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="x", pad=1, labelsize=7.5)
    axes.set_title(f"{claim['claim']}  ({claim['unit']}, n = {claim['n']})", fontsize=8.5, fontweight="normal", pad=3)
