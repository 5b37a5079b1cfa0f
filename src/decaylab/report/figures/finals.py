"""Values at the end of runs, and their seed-paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from decaylab.analysis.arms import TUNING_SEEDS
from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.labels import (
    count_seeds,
    difference_label,
    effect_text,
    level_text,
    level_tick,
    levels,
    points,
    tick,
    value_axis,
    wrap,
)
from decaylab.report.figures.style import (
    DROP,
    legend,
    line,
    negligible,
    panel_title,
    panels,
    select_columns,
    student,
    theme,
    usable,
    zero_line,
)
from decaylab.report.metric_names import is_share, label, lower_is_better

EMSPACE = 5 * "\u2003"


def final_values(
    frame: pd.DataFrame | None,
    y: str,
    *,
    x: str = "weight_decay",
    hue: str | None = None,
    panel: str | None = None,
    chance: float | None = None,
) -> Chart | None:
    """Every seed as a dot and the mean as a bar, for each arm.

    No interval is drawn: arms are compared by `paired_differences`, where the variation between seeds cancels.

    Args:
        frame: one row a run.
        hue: arms of one x stand side by side, in these colours; without it, x decides the colour.
        chance: chance level of `y`, drawn as a line.
    """
    frame = usable(frame, y, x, *(name for name in (hue, panel) if name))
    if frame is None:
        return None
    import seaborn as sns

    keys = levels(frame, panel) if panel else [None]
    by = hue or x
    tints = palette(levels(frame, by), by)
    if not hue and len(set(tints.values())) < len(tints):
        tints = dict.fromkeys(tints, LIGHT["decay5"])  # x tells the arms apart, colours that recur would not
    with matplotlib.rc_context(theme()):
        figure, grid = panels(len(keys), 5.6 if len(keys) == 1 else 3.6)
        for axes, key in zip(grid, keys, strict=True):
            part = frame if key is None else frame[frame[panel] == key]
            xs, hues = levels(part, x), levels(part, by)
            arms = {"x": x, "y": y, "hue": by, "order": xs, "hue_order": hues, "palette": tints, "legend": False}
            arms |= {"dodge": 0.5 if hue and len(hues) > 1 else False, "ax": axes}
            sns.stripplot(part, jitter=False, size=4.5, alpha=0.55, **arms | {"dodge": bool(hue)})
            sns.pointplot(part, errorbar=None, linestyle="none", marker="_", markersize=17, **_dodged(arms, len(hues)))
            axes.set_xticks(range(len(xs)), [level_tick(x, level, part) for level in xs])
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(label(x))
            axes.set_ylabel(wrap(label(y), 34))
            value_axis(axes, y)
            if chance is not None:
                axes.axhline(chance, **DROP)
            if key is not None:
                panel_title(axes, panel, key, part)
    handles = [
        line(f"{level_text(by, level, frame)} ({count_seeds(frame[frame[by] == level], [x, panel])})", tints[level],
             marker="o", linestyle="none")
        for level in (levels(frame, by) if hue else [])
    ]  # fmt: skip
    mean = "mean over seeds" if hue else f"mean over seeds ({count_seeds(frame, [x, panel])})"
    handles.append(line(mean, LIGHT["muted"], marker="_", markersize=14, markeredgewidth=2, linestyle="none"))
    if chance is not None:
        handles.append(Line2D([], [], label="chance level", **DROP))
    legend(figure, handles)
    return Chart("final-values", figure, select_columns(frame, panel, x, hue, y, "diverged"))


def _dodged(arms: dict[str, Any], count: int) -> dict[str, Any]:
    """The arguments of `stripplot` for `pointplot`, whose dodge is a width: that of the first's `dodge=True`."""
    return arms | {"dodge": 0.8 - 0.8 / count if arms["dodge"] else False}


def differences(frame: pd.DataFrame, y: str, *, arm: str, reference: Any, by: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of all other arms with `difference`: `y` minus that of the reference arm with the same seed and `by`."""
    keys = [*by, "seed"]
    frame = frame.dropna(subset=[y, arm]).drop_duplicates([*keys, arm])
    base = frame[frame[arm] == reference].set_index(keys)[[y, "run_id"]].add_prefix("reference_")
    base = base.rename(columns={f"reference_{y}": "reference"})
    paired = frame[frame[arm] != reference].join(base, on=keys).dropna(subset=["reference"])
    return paired.assign(difference=paired[y] - paired["reference"])


def best_trials(frame: pd.DataFrame, y: str, *, by: str, trial: str = "trial") -> pd.DataFrame:
    """Rows of each arm at its best trial, of the seeds that did not choose it, as verdicts with `best` do.

    Args:
        frame: one row a run; `by` names the arms, `trial` the settings of each.
        y: what the best trial has the lowest mean of, over the first seeds in planned order.
    """
    if frame.empty or not {y, by, trial} <= set(frame):
        return frame.iloc[:0]
    frame = frame.dropna(subset=[y, by, trial])
    tuning = list(dict.fromkeys(frame["seed"]))[:TUNING_SEEDS]
    chosen = frame["seed"].isin(tuning)
    means = frame[chosen].groupby([by, trial])[y].mean().sort_values(kind="stable")
    best = {arm: setting for arm, setting in reversed(means.index.to_list())}
    return frame[~chosen & (frame[trial] == frame[by].map(best))]


def paired_differences(
    frame: pd.DataFrame | None,
    y: str,
    *,
    arm: str = "weight_decay",
    reference: Any = 0,
    smallest_effect: float | None = None,
    panel: str | None = None,
) -> Chart | None:
    """Each arm minus the reference arm, seed by seed: dots, mean and 95 % Student interval, with the zero line.

    With a single arm the values of `panel` are the rows of one plot; else they have a plot each.

    Args:
        frame: one row a run.
        smallest_effect: half-width of the band of negligible differences.
    """
    frame = usable(frame, y, arm, *([panel] if panel else []))
    if frame is None:
        return None
    paired = differences(frame, y, arm=arm, reference=reference, by=[panel] if panel else [])
    if paired.empty:
        return None
    arms = levels(paired, arm)
    rows, split = (panel, None) if panel and len(arms) == 1 else (arm, panel)
    keys = levels(paired, split) if split else [None]
    names = levels(paired, rows)
    with matplotlib.rc_context(theme()):
        height = 0.42 * len(names) + 1.2
        figure, grid = panels(len(keys), 6.6 if len(keys) == 1 else 3.7, height, sharex=True)
        for axes, key in zip(grid, keys, strict=True):
            part = paired if key is None else paired[paired[split] == key]
            zero_line(axes, smallest_effect, "x")
            _rows(axes, part, rows, names, paired)
            axes.set_ylabel("")
            alone = len(keys) == 1
            _difference_axis(axes, y, f"minus {level_text(arm, reference, frame)}", 44 if alone else 30)
            if key is not None:
                panel_title(axes, split, key, part, 36 if alone else 26)
    handles = [
        line("seed", LIGHT["decay4"], marker="o", markersize=4, linestyle="none", alpha=0.55),
        line(f"mean and 95 % interval ({count_seeds(paired, [arm, panel])})", LIGHT["decay5"], marker="o"),
    ]
    handles += [negligible(effect_text(y, smallest_effect))] if smallest_effect else []
    legend(figure, handles)
    data = select_columns(paired, panel, arm, y, "reference", "difference")
    return Chart("paired-differences", figure, data)


def _rows(axes: Axes, frame: pd.DataFrame, row: str, names: Sequence[Any], all_rows: pd.DataFrame) -> None:
    """One row for each value of `row`: seeds as dots above, mean and interval."""
    import seaborn as sns

    place = {"x": "difference", "y": row, "order": names, "orient": "h", "ax": axes}
    sns.stripplot(frame, jitter=False, size=4.5, alpha=0.5, color=LIGHT["decay4"], **place)
    sns.pointplot(
        frame, errorbar=student, linestyle="none", color=LIGHT["decay5"], markersize=5.5, err_kws={"linewidth": 1.6},
        **place,
    )  # fmt: skip
    for dots in axes.collections:  # above the interval, which would hide them
        offsets = dots.get_offsets()
        if len(offsets):
            dots.set_offsets([(x, y - 0.2) for x, y in offsets])
    axes.set_yticks(range(len(names)), [wrap(level_text(row, name, all_rows), 30) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _difference_axis(axes: Axes, y: str, minus: str, width: int = 44) -> None:
    """Label of a horizontal axis of differences, in lines of that many characters, with the side that is better."""
    if is_share(y):
        axes.xaxis.set_major_formatter(points)
    better = f"\n\u2190 better{EMSPACE}worse \u2192" if lower_is_better(y) else ""
    axes.set_xlabel(f"{wrap(difference_label(y, minus), width)}{better}")


def seed_noise(
    gains: pd.DataFrame | None,
    noise: pd.DataFrame | None,
    *,
    arm: str = "arm",
    kind: str = "kind",
    value: str = "test_loss",
) -> Chart | None:
    """What an intervention gains, above what chance gives, on one axis.

    Args:
        gains: columns `arm`, seed, difference (loss of the arm minus that of the baseline, seed by seed).
        noise: columns `kind` (what was varied: all seeds, initialisation, data order), seed and `value`, all of
            one baseline. Each kind is drawn as deviations from its mean. The band is one standard deviation of the
            kind with the largest.
    """
    gains, noise = usable(gains, arm, "difference"), usable(noise, kind, value)
    if gains is None or noise is None:
        return None
    import seaborn as sns

    kinds, arms = levels(noise, kind), levels(gains, arm)
    noise = noise.assign(difference=noise[value] - noise.groupby(kind)[value].transform("mean"))
    widest = noise.groupby(kind)[value].std().max()
    with matplotlib.rc_context(theme()):
        figure = Figure(figsize=(7.2, 0.42 * (len(kinds) + len(arms)) + 2.4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[len(kinds), len(arms)])
        for axes in (top, bottom):
            zero_line(axes, widest, "x")
        sns.stripplot(
            noise, x="difference", y=kind, order=kinds, orient="h", jitter=False, size=4.5, color=LIGHT["none"], ax=top
        )
        top.set_yticks(range(len(kinds)), [tick(name, 20) for name in kinds])
        top.grid(axis="y", visible=False)
        top.set(xlabel="", ylabel="", title="Same settings, other seeds: what was varied")
        _rows(bottom, gains, arm, arms, gains)
        bottom.set(ylabel="", title="Other settings, same seeds: which arm")
        _difference_axis(bottom, value, "minus the mean (above) or minus the baseline (below)")
    legend(
        figure,
        [
            Patch(color=LIGHT["line"], label="one standard deviation of the noisiest kind"),
            line(f"mean and 95 % interval ({count_seeds(gains, [arm])})", LIGHT["decay5"], marker="o"),
        ],
    )
    both = [select_columns(noise, kind, value), select_columns(gains, arm, value, "reference", "difference")]
    return Chart("seed-noise", figure, pd.concat(both))
