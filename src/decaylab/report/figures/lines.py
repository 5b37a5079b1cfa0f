"""The curves of one panel: means over seeds with their bands, diverged runs, and the running loss behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from decaylab.report.figures.labels import levels
from decaylab.report.figures.pointer import MEAN, PART, mark
from decaylab.report.figures.style import STYLES, THIN

MOST_POINTS = 240
"""points of one curve; more cannot be seen and make pages slow"""


def draw(
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    hue: str,
    dash: str | None,
    tints: dict[Any, str],
    arms: dict[tuple[Any, Any], int],
    errorbar: Callable[[pd.Series], tuple[float, float]] | None,
) -> None:
    """Mean over seeds of each arm in one panel, with a band unless `errorbar` is None, and each diverged run.

    Args:
        hue: parameter that decides the colour; dash: parameter that decides the line style.
        tints: colour of each level of `hue`; arms: number of each arm, as `arm_ranks` gives it.
    """
    import seaborn as sns  # a second to import, which most processes need not wait for

    arm = [hue, *([dash] if dash else [])]
    ends = frame.groupby([*arm, "run_id"], sort=False)[x].max().rename("end").reset_index()
    ends["early"] = ends["end"] < ends.groupby(arm)["end"].transform("max")
    early = frame[frame["run_id"].isin(ends.loc[ends["early"], "run_id"])]
    for run, curve in early.groupby("run_id", sort=False):
        curve = curve.sort_values(x)
        colour = tints[curve[hue].iloc[0]]
        drawn = axes.plot(curve[x], curve["value"], color=colour, linewidth=0.7, alpha=0.6)
        drawn += axes.plot(curve[x].iloc[-1:], curve["value"].iloc[-1:], "X", color=colour, markersize=7, label=run)
        mark(drawn, PART, arms[_arm_of(curve, hue, dash)])
    # the mean of those that are left would jump where one of the seeds ends
    seeds = frame.groupby(arm)["run_id"].transform("nunique")
    common = frame[frame.groupby([*arm, x])["run_id"].transform("nunique") == seeds]
    steps = np.sort(common[x].unique())
    kept = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    common = common[common[x].isin(kept)]
    kinds = list(dict.fromkeys(kind for _, kind in arms)) if dash else []
    dashes = dict(zip(kinds, STYLES, strict=False))
    before = len(axes.lines), len(axes.collections)
    sns.lineplot(
        common, x=x, y="value", hue=hue, hue_order=list(tints), style=dash, style_order=kinds or None, palette=tints,
        dashes={level: "" if style == "-" else style[1] for level, style in dashes.items()} or True,
        errorbar=errorbar, err_kws={"alpha": 0.16, "linewidth": 0}, linewidth=1.8, legend=False, ax=axes,
    )  # fmt: skip
    # seaborn draws arms in the order of their colours, then of their line styles
    here = set(zip(common[hue], common[dash] if dash else [None] * len(common), strict=True))
    order = [arms[level, kind] for level in tints for kind in kinds or [None] if (level, kind) in here]
    for rank, mean in zip(order, axes.lines[before[0] :], strict=True):
        mark([mean], MEAN, rank)
    for rank, band in zip(order, axes.collections[before[1] :], strict=False):  # none without an error bar
        mark([band], PART, rank)


def draw_running(
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    hue: str,
    dash: str | None,
    tints: dict[Any, str],
    arms: dict[tuple[Any, Any], int],
) -> None:
    """The running loss of the first seed of each arm, behind everything else; the axes keep what they show."""
    limits = axes.get_xlim(), axes.get_ylim()
    for _, arm in frame.groupby([hue, *([dash] if dash else [])], sort=False):
        seed = arm[arm["run_id"] == arm.sort_values(["seed", "run_id"])["run_id"].iloc[0]].sort_values(x)
        seed = seed.drop_duplicates(x)
        kept = np.unique(np.linspace(0, len(seed) - 1, min(len(seed), MOST_POINTS)).round().astype(int))
        drawn = axes.plot(seed[x].iloc[kept], seed["value"].iloc[kept], color=tints[seed[hue].iloc[0]], **THIN)
        mark(drawn, PART, arms[_arm_of(seed, hue, dash)])
    axes.set(xlim=limits[0], ylim=limits[1])


def _arm_of(frame: pd.DataFrame, hue: str, dash: str | None) -> tuple[Any, Any]:
    """The arm of a frame that has one."""
    return frame[hue].iloc[0], frame[dash].iloc[0] if dash else None


def arm_ranks(frame: pd.DataFrame, hue: str, dash: str | None, tints: dict[Any, str]) -> dict[tuple[Any, Any], int]:
    """Number of each arm (value of `hue`, of `dash`), in the order of the legend."""
    here = set(zip(frame[hue], frame[dash] if dash else [None] * len(frame), strict=True))
    kinds = levels(frame, dash) if dash else [None]
    found = [(level, kind) for kind in kinds for level in tints if (level, kind) in here]
    return {arm: rank for rank, arm in enumerate(found)}
