"""Metrics over the steps of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.labels import (
    VALUES,
    count_seeds,
    difference_label,
    effect_text,
    level_text,
    levels,
    points,
    value_axis,
    wrap,
)
from decaylab.report.figures.style import (
    DROP,
    STYLES,
    legend,
    line,
    negligible,
    panel_title,
    panels,
    seed_range,
    select_columns,
    student,
    theme,
    usable,
    zero_line,
)
from decaylab.report.metric_names import is_share, label, lower_is_better

MOST_POINTS = 240
"""points of one curve; more cannot be seen and make pages slow"""
NEEDED = ("run_id", "reference_run_id", "grid", "seed", "fraction", "metric", "value", "epochs", *VALUES.values())
"""columns that curves keep besides their parameters, where a frame has them"""


def training_curves(
    frame: pd.DataFrame | None,
    *,
    hue: str = "weight_decay",
    dash: str | None = None,
    panel: str = "metric",
    drop: float | None = None,
    x: str = "step",
    late: float = 0.0,
) -> Chart | None:
    """Metrics over training: mean over seeds, with a band from the lowest to the highest seed.

    The mean ends where the first seed diverges; a cross marks the end of each diverged run.

    Args:
        frame: long, with columns run_id, seed, metric, value, `x`, and the parameters used.
        hue: parameter that decides the colour; dash: parameter that decides the line style.
        panel: column with one panel a value (`metric`, or a parameter if there is one metric).
        drop: x at which the learning rate falls, drawn as a vertical line.
        late: a linear value axis holds what lies after this fraction of the run, so that the initial fall does not
            flatten the rest.
    """
    frame = usable(frame, "value", hue, panel, x, *([dash] if dash else []))
    if frame is None:
        return None
    kept = dict.fromkeys([*NEEDED, hue, dash, panel, x])
    frame = frame[[name for name in frame if name in kept]]
    tints = palette(levels(frame, hue), hue)
    figure, grid = _curves(frame, x, hue, dash, panel, tints, seed_range, drop, late)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, _panels_of(frame, panel), strict=True):
            part = frame[frame[panel] == key]
            metric = part["metric"].iloc[0]
            value_axis(axes, metric, values=part["value"])
            if axes.get_yscale() == "log":
                axes.autoscale(axis="y")  # the initial fall hides nothing there
            axes.set_ylabel(wrap(label(metric), 32))
    handles = _arms(frame, hue, dash, panel, tints)
    handles += [Patch(color=LIGHT["muted"], alpha=0.25, label="lowest to highest seed")]
    handles += [Line2D([], [], label="learning rate drops", **DROP)] if drop is not None else []
    legend(figure, handles)
    return Chart("training-curves", figure, frame.drop(columns=["epochs", *VALUES.values()], errors="ignore"))


def difference_curves(
    frame: pd.DataFrame | None,
    *,
    hue: str = "weight_decay",
    reference: Any = 0,
    panel: str = "metric",
    x: str = "step",
    late: float = 0.0,
    smallest_effect: float | None = None,
) -> Chart | None:
    """Each arm minus the reference arm, seed by seed, over training: mean and, for one or two arms, 95 % interval.

    More bands would hide each other; `paired_differences` has the intervals at the end of the run.

    Args:
        frame, hue, panel, x, late: as for `training_curves`.
        reference: the value of `hue` that is subtracted.
        smallest_effect: half-width of the band of negligible differences.
    """
    frame = usable(frame, "value", hue, panel, x)
    if frame is None:
        return None
    keys = list(dict.fromkeys(["metric", "step", "seed", panel]))
    base = frame[frame[hue] == reference].drop_duplicates(keys).set_index(keys)[["value", "run_id"]]
    paired = frame[frame[hue] != reference].join(base.add_prefix("reference_"), on=keys)
    paired = paired.dropna(subset=["reference_value"])
    if paired.empty:
        return None
    paired = paired.assign(difference=paired["value"] - paired["reference_value"])
    tints = palette(levels(frame, hue), hue)
    drawn = paired.assign(value=paired["difference"])
    few = drawn[hue].nunique() <= 2
    figure, grid = _curves(drawn, x, hue, None, panel, tints, student if few else None, None, late)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, _panels_of(drawn, panel), strict=True):
            metric = drawn.loc[drawn[panel] == key, "metric"].iloc[0]
            zero_line(axes, smallest_effect)
            if is_share(metric):
                axes.yaxis.set_major_formatter(points)
            minus = f"\nminus {level_text(hue, reference, frame)}"
            axes.set_ylabel(wrap(difference_label(metric, minus), 32))
            if lower_is_better(metric):
                _better(axes)
    handles = _arms(drawn, hue, None, panel, {level: tints[level] for level in levels(drawn, hue)})
    handles += [Patch(color=LIGHT["muted"], alpha=0.25, label="95 % interval")] if few else []
    if smallest_effect:
        handles.append(negligible(effect_text(drawn["metric"].iloc[0], smallest_effect)))
    legend(figure, handles)
    columns = [name for name in drawn if name in {*NEEDED, hue, panel, x, "reference_value", "difference"}]
    return Chart(
        "difference-curves", figure, paired[columns].drop(columns=["epochs", *VALUES.values()], errors="ignore")
    )


def _panels_of(frame: pd.DataFrame, panel: str) -> list[Any]:
    """Panels in order; metrics keep the order in which they were asked for."""
    return list(dict.fromkeys(frame[panel])) if panel == "metric" else levels(frame, panel)


def _curves(
    frame: pd.DataFrame,
    x: str,
    hue: str,
    dash: str | None,
    panel: str,
    tints: dict[Any, str],
    errorbar: Callable[[pd.Series], tuple[float, float]] | None,
    drop: float | None,
    late: float,
) -> tuple[Any, list[Axes]]:
    """One panel for each value of `panel`, without labels of the value axis and without legend."""
    keys = _panels_of(frame, panel)
    with matplotlib.rc_context(theme()):
        wide = len(keys) == 4
        width = 5.6 if len(keys) == 1 else 2.9 if wide else 3.7
        figure, grid = panels(len(keys), width, 3.4 if len(keys) == 1 else 2.8, most=4 if wide else 3)
        for axes, key in zip(grid, keys, strict=True):
            part = frame[frame[panel] == key]
            _draw(axes, part, x, hue, dash, tints, errorbar)
            if late and len(shown := part.loc[part["fraction"] >= late, "value"]):
                room = 0.05 * (shown.max() - shown.min()) or 1e-9
                axes.set_ylim(shown.min() - room, shown.max() + room)
            if drop is not None:
                axes.axvline(drop, **DROP)
            axes.set_xlabel(_steps(part) if x == "step" else label(x))
            if panel != "metric":
                panel_title(axes, panel, key, part)
    return figure, grid


def _draw(
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    hue: str,
    dash: str | None,
    tints: dict[Any, str],
    errorbar: Callable[[pd.Series], tuple[float, float]] | None,
) -> None:
    import seaborn as sns  # a second to import, which most processes need not wait for

    arm = [hue, *([dash] if dash else [])]
    ends = frame.groupby([*arm, "run_id"], sort=False)[x].max().rename("end").reset_index()
    ends["early"] = ends["end"] < ends.groupby(arm)["end"].transform("max")
    early = frame[frame["run_id"].isin(ends.loc[ends["early"], "run_id"])]
    for run, curve in early.groupby("run_id", sort=False):
        curve = curve.sort_values(x)
        colour = tints[curve[hue].iloc[0]]
        axes.plot(curve[x], curve["value"], color=colour, linewidth=0.7, alpha=0.6)
        axes.plot(curve[x].iloc[-1:], curve["value"].iloc[-1:], "X", color=colour, markersize=7, label=run)
    # the mean of those that are left would jump where one of the seeds ends
    seeds = frame.groupby(arm)["run_id"].transform("nunique")
    common = frame[frame.groupby([*arm, x])["run_id"].transform("nunique") == seeds]
    steps = np.sort(common[x].unique())
    kept = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).round().astype(int))]
    dashes = dict(zip(levels(frame, dash), STYLES, strict=False)) if dash else {}
    sns.lineplot(
        common[common[x].isin(kept)], x=x, y="value", hue=hue, style=dash, palette=tints,
        dashes={level: "" if style == "-" else style[1] for level, style in dashes.items()} or True,
        errorbar=errorbar, err_kws={"alpha": 0.16, "linewidth": 0}, linewidth=1.8, legend=False, ax=axes,
    )  # fmt: skip


def _arms(frame: pd.DataFrame, hue: str, dash: str | None, panel: str, tints: dict[Any, str]) -> list[Any]:
    """Entries of the legend: each arm with its colour and line style, its numbers and its seeds."""
    dashes = levels(frame, dash) if dash else [None]
    handles = []
    for rank, kind in enumerate(dashes):
        for level, tint in tints.items():
            arm = frame[(frame[hue] == level) & ((frame[dash] == kind) if dash else True)]
            if arm.empty:
                continue
            text = level_text(hue, level, arm)
            text = f"{level_text(dash, kind, arm)}, {text}" if dash else text
            handles.append(line(f"{text} ({count_seeds(arm, [panel])})", tint, linestyle=STYLES[rank % len(STYLES)]))
    return handles


def _steps(frame: pd.DataFrame) -> str:
    """Label of a step axis, with the epochs where one training set is seen several times."""
    epochs = frame["epochs"].dropna().unique() if "epochs" in frame else []
    if len(epochs) != 1 or epochs[0] < 1.5:
        return "step"
    last = frame["step"].max()
    return f"step ({last:,.0f} are {epochs[0]:.0f} epochs)"


def _better(axes: Axes) -> None:
    """Which side of zero is which, inside the panel."""
    for height, text, side in ((0.98, "\u2191 worse", "top"), (0.02, "\u2193 better", "bottom")):
        axes.text(0.99, height, text, transform=axes.transAxes, ha="right", va=side, fontsize=8, color=LIGHT["muted"])


def loss_vs_snapshot(
    curves: pd.DataFrame | None, tuned: pd.DataFrame | None, y: str = "train_loss", *, hue: str = "weight_decay"
) -> Chart | None:
    """Loss along the run, and after continued training from snapshots at a tiny learning rate.

    Args:
        curves: long frame of the runs, with column `fraction`.
        tuned: one row a continued run, with its final `y` and `start_at` (fraction of the parent's steps).
    """
    curves = usable(curves, "value", hue, "fraction")
    if curves is None:
        return None
    tuned = usable(tuned, y, hue, "start_at")
    hues = levels(curves, hue)
    tints = palette(hues, hue)
    with matplotlib.rc_context(theme()):
        figure, (axes,) = panels(1, 7.2, 4.0)
        _draw(axes, curves, "fraction", hue, None, tints, seed_range)
        # early losses are far above the part in which decays differ
        shown = [curves.loc[curves["fraction"] >= 0.2, "value"]]
        if tuned is not None:
            import seaborn as sns

            shown.append(tuned[y])
            aside = tuned.assign(start_at=tuned["start_at"] + tuned[hue].map(lambda level: 0.012 * hues.index(level)))
            sns.lineplot(
                aside, x="start_at", y=y, hue=hue, palette=tints, errorbar=seed_range, err_style="bars", marker="o",
                markersize=7, markerfacecolor=LIGHT["card"], markeredgewidth=1.6, linestyle=":", legend=False, ax=axes,
            )  # fmt: skip
            for circles in axes.lines:
                if circles.get_marker() == "o":
                    circles.set_markeredgecolor(circles.get_color())
        both = pd.concat(shown)
        room = 0.04 * (both.max() - both.min())
        axes.set_ylim(both.min() - room, both.max() + room)
        axes.set_xlim(0, 1.05)
        axes.set_xlabel(label("fraction"))
        axes.set_ylabel(label(y))
    handles = _arms(curves, hue, None, "metric", tints)
    if tuned is not None:
        circle = {"marker": "o", "markerfacecolor": LIGHT["card"], "linestyle": ":"}
        handles.append(line("continued at a tiny learning rate", LIGHT["muted"], **circle))
    handles.append(Patch(color=LIGHT["muted"], alpha=0.25, label="lowest to highest seed"))
    legend(figure, handles)
    data = select_columns(curves, hue, "fraction", "value").rename(columns={"value": y}).assign(training="main")
    if tuned is not None:
        continued = select_columns(tuned, hue, "start_at", y).assign(training="tiny learning rate")
        data = pd.concat([data, continued])
    return Chart("loss-vs-snapshot", figure, data)
