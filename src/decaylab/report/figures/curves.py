"""Metrics over the steps of training."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from decaylab.analysis.statistics import student_quantile
from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.style import (
    STYLES,
    band_patch,
    count_seeds,
    interval,
    label,
    legend,
    level_text,
    levels,
    line,
    panel_title,
    panels,
    select_columns,
    theme,
    usable,
    zero_line,
)

MOST_POINTS = 240
"""points of one curve; more cannot be seen and make pages slow"""


def thin(count: int) -> np.ndarray:
    """Indices of at most MOST_POINTS of `count` points, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))


def draw_curve(axes: Axes, arm: pd.DataFrame, x: str, colour: str, style: Any, faint: bool = True) -> None:
    """Every seed faintly, then mean and interval where all seeds are alive; a cross where a seed ends early."""
    seeds: list[tuple[np.ndarray, np.ndarray]] = []
    for run in arm["run_id"].unique():
        one = arm[arm["run_id"] == run].sort_values(x)
        seeds.append((one[x].to_numpy(float), one["value"].to_numpy(float)))
    last = max(steps[-1] for steps, _ in seeds)
    if faint and len(seeds) > 1:
        lines = [np.column_stack(curve)[thin(len(curve[0]))] for curve in seeds]
        axes.add_collection(LineCollection(lines, colors=colour, linestyles=[style], linewidths=0.7, alpha=0.35))
    for steps, values in seeds:
        if steps[-1] < last:
            axes.plot(steps[-1:], values[-1:], marker="X", color=colour, markersize=7, linestyle="none")
    common = functools.reduce(np.intersect1d, [steps for steps, _ in seeds])
    if not len(common):
        return
    common = common[thin(len(common))]
    whole = np.array([values[np.searchsorted(steps, common)] for steps, values in seeds])
    mean = whole.mean(axis=0)
    axes.plot(common, mean, color=colour, linestyle=style, linewidth=1.9)
    if (count := len(whole)) > 1:
        half = student_quantile(count) * whole.std(axis=0, ddof=1) / math.sqrt(count)
        axes.fill_between(common, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)


def training_curves(
    frame: pd.DataFrame | None,
    *,
    hue: str = "weight_decay",
    dash: str | None = None,
    panel: str = "metric",
    drop: float | None = None,
    averaged: bool = False,
    log: Sequence[str] = (),
    x: str = "step",
    late: float = 0.0,
    zero: float | None = None,
    unit: str = "{}",
    every: Sequence[Any] | None = None,
) -> Chart | None:
    """Metrics over the steps of training.

    Args:
        frame: long, with columns run_id, seed, metric, value, `x`, and the parameters used.
        hue: parameter that decides the colour; dash: parameter that decides the line style.
        panel: column with one panel a value (`metric`, or a parameter if there is one metric).
        drop: x at which the learning rate falls, drawn as a vertical line.
        averaged: metrics `ema_...` share the panel of their metric, dashed.
        log: metrics with a logarithmic axis, where they span more than a factor of ten.
        late: the value axis holds what lies after this fraction of the run, so that the fall at its start does
            not flatten the rest.
        zero: draw a line at 0, and a band of this half-width of differences too small to matter.
        unit: pattern of the value axis' label.
        every: all levels of `hue`, where the frame lacks some, so that colours stay those of other figures.
    """
    frame = usable(frame, "value", hue, panel, x, *([dash] if dash else []))
    if frame is None:
        return None
    needed = ["run_id", "reference_run_id", "grid", hue, dash, panel, "seed", "peak_learning_rate", "fraction", x]
    needed += ["metric", "value"]
    frame = frame[[name for name in dict.fromkeys(needed) if name in frame]]
    frame = frame.assign(averaged=frame["metric"].str.startswith("ema_") if averaged else False)
    frame["metric"] = frame["metric"].where(~frame["averaged"], frame["metric"].str.removeprefix("ema_"))
    # metrics keep the order in which they were asked for
    keys = list(dict.fromkeys(frame[panel])) if panel == "metric" else levels(frame, panel)
    hues, dashes = levels(frame, hue), levels(frame, dash) if dash else [None]
    tints = palette(hues if every is None else every, hue)
    figure, grid = panels(len(keys), most=3 if len(keys) != 4 else 2)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame[frame[panel] == key]
            metric = part["metric"].iloc[0]
            for level in hues:
                for rank, kind in enumerate(dashes):
                    arm = part[(part[hue] == level) & ((part[dash] == kind) if dash else True)]
                    plain, mean = arm[~arm["averaged"]], arm[arm["averaged"]]
                    if len(plain):
                        draw_curve(axes, plain, x, tints[level], STYLES[rank % len(STYLES)])
                    if len(mean):
                        draw_curve(axes, mean, x, tints[level], (0, (2.5, 1.5)), faint=False)
            # less than a decade is easier to read on a plain axis
            if metric in log and part["value"].min() > 0 and part["value"].max() > 10 * part["value"].min():
                axes.set_yscale("log")
            elif metric.partition(".")[0] == "lost_updates":  # a share, of all or of a group
                axes.set_ylim(-0.02, 1.02)
            if late and len(shown := part.loc[part["fraction"] >= late, "value"]):
                room = 0.05 * (shown.max() - shown.min()) or 1e-9
                axes.set_ylim(shown.min() - room, shown.max() + room)
            if zero is not None:
                zero_line(axes, zero)
            if drop is not None:
                axes.axvline(drop, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 1.5)))
            axes.set_xlabel(label(x))
            lines = unit.format(label(metric)).split("\n")
            axes.set_ylabel("\n".join(textwrap.fill(line, 32) for line in lines))  # no longer than a panel is high
            if panel != "metric":
                panel_title(axes, panel, key)
    handles = [
        line(f"{level_text(hue, level)} ({count_seeds(frame[frame[hue] == level], [dash, panel])})", tints[level])
        for level in hues
    ]
    if dash:
        handles += [
            line(level_text(dash, kind), LIGHT["muted"], linestyle=STYLES[rank % len(STYLES)])
            for rank, kind in enumerate(dashes)
        ]
    if frame["averaged"].any():
        handles.append(line("averaged weights (EMA)", LIGHT["muted"], linestyle=(0, (2.5, 1.5))))
    if drop is not None:
        handles.append(line("learning rate drops", LIGHT["muted"], linestyle=(0, (1, 1.5)), linewidth=1))
    if zero:
        handles.append(band_patch(zero))
    legend(figure, handles)
    return Chart("training-curves", figure, frame.drop(columns=["averaged", "peak_learning_rate"], errors="ignore"))


def difference_curves(
    frame: pd.DataFrame | None, *, hue: str = "weight_decay", reference: Any = 0, panel: str = "metric", **kwargs: Any
) -> Chart | None:
    """Over training: each arm minus the reference arm, seed by seed; where a curve crosses zero, the order turns."""
    frame = usable(frame, "value", hue, panel)
    if frame is None:
        return None
    keys = list(dict.fromkeys(["metric", "step", "seed", panel]))
    base = frame[frame[hue] == reference].drop_duplicates(keys).set_index(keys)[["value", "run_id"]]
    paired = frame[frame[hue] != reference].join(base.add_prefix("reference_"), on=keys)
    paired = paired.dropna(subset=["reference_value"])
    paired["value"] -= paired["reference_value"]
    unit = "{}\nminus " + level_text(hue, reference)
    kwargs = {"zero": 0.0, "every": levels(frame, hue)} | kwargs
    return _named("difference-curves", training_curves(paired, hue=hue, panel=panel, unit=unit, **kwargs))


def norm_curves(frame: pd.DataFrame | None, *, hue: str = "weight_decay", **kwargs: Any) -> Chart | None:
    """Weight norms over training, one panel a parameter group, on logarithmic axes."""
    metrics = [] if frame is None or "metric" not in frame else list(frame["metric"].unique())
    return _named("norm-curves", training_curves(frame, hue=hue, log=metrics, **kwargs))


def lost_updates_curves(
    frame: pd.DataFrame | None, *, hue: str = "weight_decay", panel: str = "precision", **kwargs: Any
) -> Chart | None:
    """Share of weight updates that rounding swallows, over the run, one panel a precision."""
    return _named("lost-updates-curves", training_curves(frame, hue=hue, panel=panel, **kwargs))


def _named(kind: str, chart: Chart | None) -> Chart | None:
    return None if chart is None else replace(chart, kind=kind)


def loss_vs_snapshot(
    curves: pd.DataFrame | None, tuned: pd.DataFrame | None, y: str = "train_loss", *, hue: str = "weight_decay"
) -> Chart | None:
    """Loss along the run, and after training on from snapshots at a tiny learning rate.

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
    # early losses are far above the part where decays differ
    late = curves[curves["fraction"] >= 0.2]["value"]
    figure, (axes,) = panels(1)
    figure.set_size_inches(7.2, 4.4)
    with matplotlib.rc_context(theme()):
        for level in hues:
            draw_curve(axes, curves[curves[hue] == level], "fraction", tints[level], "-")
            if tuned is None:
                continue
            points = []
            for start, group in tuned[tuned[hue] == level].groupby("start_at"):
                mean, low, high = interval(group[y])
                points.append((start, mean, mean - low, high - mean))
            if points:
                start, mean, below, above = map(np.array, zip(*points, strict=True))
                axes.errorbar(
                    start, mean, [below, above], color=tints[level], fmt="o", markersize=6,
                    markerfacecolor=LIGHT["card"], markeredgewidth=1.6, elinewidth=1.2, linestyle=":", linewidth=1.2,
                )  # fmt: skip
        lowest = min([late.min(), *([tuned[y].min()] if tuned is not None else [])])
        axes.set_ylim(lowest - 0.04 * (late.max() - lowest), late.max())
        axes.set_xlim(0, 1.03)
        axes.set_xlabel(label("fraction"))
        axes.set_ylabel(label(y))
    handles = [
        line(f"{level_text(hue, level)} ({count_seeds(curves[curves[hue] == level])})", tints[level]) for level in hues
    ]
    if tuned is not None:
        handles.append(
            line("then a tiny learning rate", LIGHT["muted"], marker="o", markerfacecolor=LIGHT["card"], linestyle=":")
        )
    legend(figure, handles)
    columns = [name for name in ("run_id", "grid", hue, "seed", "fraction", "value") if name in curves]
    data = curves[columns].assign(training="main").rename(columns={"value": y})
    if tuned is not None:
        data = pd.concat([data, select_columns(tuned, hue, "start_at", y).assign(training="tiny learning rate")])
    return Chart("loss-vs-snapshot", figure, data)
