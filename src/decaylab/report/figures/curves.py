"""Metrics over the steps of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib
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
from decaylab.report.figures.lines import arm_ranks, draw, draw_running
from decaylab.report.figures.pointer import PANEL, PART, mark
from decaylab.report.figures.style import (
    DROP,
    STYLES,
    THIN,
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
from decaylab.report.metric_names import is_share, label, lower_is_better, stem

NEEDED = ("run_id", "reference_run_id", "grid", "seed", "fraction", "metric", "value", "epochs", *VALUES.values())
"""columns that curves keep besides their parameters, where a frame has them"""
UNSHOWN = ["epochs", "fraction", *VALUES.values()]
"""of these, what only labels and limits are made of; it would make the data of a figure larger"""
LOSS, RUNNING = "train_loss", "batch_loss"
"""the loss of fixed training examples, and that of the batches since the last record, which is recorded more often"""


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

    The mean ends where the first seed diverges; a cross marks the end of each diverged run. Where the frame has both
    `train_loss` and `batch_loss`, the latter is a thin line of one seed behind the former.

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
    data = frame = frame[[name for name in frame if name in kept]]
    running = frame.iloc[:0]
    if {LOSS, RUNNING} <= set(frame["metric"]):
        running, frame = frame[frame["metric"] == RUNNING], frame[frame["metric"] != RUNNING]
    tints = palette(levels(frame, hue), hue)
    figure, grid = _curves(frame, x, hue, dash, panel, tints, seed_range, drop, late)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, _panels_of(frame, panel), strict=True):
            part = frame[frame[panel] == key]
            metric = part["metric"].iloc[0]
            if metric == LOSS:
                here = running if panel == "metric" else running[running[panel] == key]
                draw_running(axes, here, x, hue, dash, tints, arm_ranks(frame, hue, dash, tints))
            value_axis(axes, metric, values=part["value"])
            if axes.get_yscale() == "log":
                axes.autoscale(axis="y")  # the initial fall hides nothing there
            axes.set_ylabel(wrap(label(metric if part["metric"].nunique() == 1 else stem(metric)), 32))
    handles = _arms(frame, hue, dash, panel, tints)
    handles += [Patch(color=LIGHT["muted"], alpha=0.25, label="lowest to highest seed")]
    handles += [line("running loss of one seed", LIGHT["muted"], **THIN)] if len(running) else []
    handles += [Line2D([], [], label="learning rate drops", **DROP)] if drop is not None else []
    legend(figure, handles)
    return Chart("training-curves", figure, data.drop(columns=[name for name in UNSHOWN if name != x], errors="ignore"))


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
        "difference-curves",
        figure,
        paired[columns].drop(columns=[name for name in UNSHOWN if name != x], errors="ignore"),
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
    arms = arm_ranks(frame, hue, dash, tints)
    with matplotlib.rc_context(theme()):
        wide = len(keys) == 4
        width = 5.6 if len(keys) == 1 else 2.9 if wide else 3.7
        figure, grid = panels(len(keys), width, 3.4 if len(keys) == 1 else 2.8, most=4 if wide else 3)
        for rank, (axes, key) in enumerate(zip(grid, keys, strict=True)):
            mark([axes], PANEL, rank)
            part = frame[frame[panel] == key]
            draw(axes, part, x, hue, dash, tints, arms, errorbar)
            if late and len(shown := part.loc[part["fraction"] >= late, "value"]):
                room = 0.05 * (shown.max() - shown.min()) or 1e-9
                axes.set_ylim(shown.min() - room, shown.max() + room)
            if drop is not None:
                axes.axvline(drop, **DROP)
            axes.set_xlabel(_steps(part) if x == "step" else label(x))
            if panel != "metric":
                panel_title(axes, panel, key, part)
    return figure, grid


def _arms(frame: pd.DataFrame, hue: str, dash: str | None, panel: str, tints: dict[Any, str]) -> list[Any]:
    """Entries of the legend: each arm with its colour and line style, its numbers and its seeds."""
    kinds = levels(frame, dash) if dash else [None]
    handles = []
    for (level, kind), rank in arm_ranks(frame, hue, dash, tints).items():
        arm = frame[(frame[hue] == level) & ((frame[dash] == kind) if dash else True)]
        text = level_text(hue, level, frame if hue == "metric" else arm)
        text = f"{level_text(dash, kind, arm)}, {text}" if dash else text
        style = STYLES[kinds.index(kind) % len(STYLES)]
        handles.append(line(f"{text} ({count_seeds(arm, [panel])})", tints[level], linestyle=style))
        mark(handles[-1:], PART, rank)
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
        mark([axes], PANEL, 0)
        draw(axes, curves, "fraction", hue, None, tints, arm_ranks(curves, hue, None, tints), seed_range)
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
