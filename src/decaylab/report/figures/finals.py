"""Values at the end of runs, and their seed-paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.style import (
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
    tick,
    usable,
    zero_line,
)


def final_values(
    frame: pd.DataFrame | None,
    y: str,
    *,
    x: str = "weight_decay",
    hue: str | None = None,
    panel: str | None = None,
    chance: float | None = None,
) -> Chart | None:
    """One dot a seed, and mean with interval, for each arm.

    `frame` has one row a run. With `hue`, arms of one x stand side by side; without, x decides the colour.
    """
    frame = usable(frame, y, x, *(name for name in (hue, panel) if name))
    if frame is None:
        return None
    keys = levels(frame, panel) if panel else [None]
    xs, hues = levels(frame, x), levels(frame, hue) if hue else [None]
    tints = palette(hues, hue) if hue else palette(xs, x)
    figure, grid = panels(len(keys))
    width = 0.7 / len(hues)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame if key is None else frame[frame[panel] == key]
            for place, level in enumerate(xs):
                for rank, kind in enumerate(hues):
                    arm = part[(part[x] == level) & ((part[hue] == kind) if hue else True)].sort_values("seed")
                    if arm.empty:
                        continue
                    colour = tints[kind if hue else level]
                    centre = place + (rank - (len(hues) - 1) / 2) * width
                    dots(axes, arm[y].to_numpy(), centre, width, colour)
            axes.set_xticks(range(len(xs)), [tick(level) for level in xs])
            axes.set_xlim(-0.6, len(xs) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(label(x))
            axes.set_ylabel(label(y))
            if chance is not None:
                axes.axhline(chance, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 1.5)))
            if key is not None:
                panel_title(axes, panel, key)
    if hue:
        handles = [
            line(
                f"{level_text(hue, kind)} ({count_seeds(frame[frame[hue] == kind], [x, panel])})",
                tints[kind],
                marker="o",
            )
            for kind in hues
        ]
    else:
        handles = [line(f"mean and 95 % interval ({count_seeds(frame, [x, panel])})", LIGHT["muted"], marker="o")]
    if chance is not None:
        handles.append(line("a guess", LIGHT["muted"], linestyle=(0, (1, 1.5)), linewidth=1))
    legend(figure, handles)
    return Chart("final-values", figure, select_columns(frame, panel, x, hue, y, "diverged"))


def dots(axes: Axes, values: np.ndarray, centre: float, width: float, colour: str) -> None:
    """Seeds in a fixed fan left of the mean, the mean with its interval right of them."""
    fan = np.linspace(-0.22, -0.02, len(values)) * width if len(values) > 1 else np.array([-0.1 * width])
    axes.plot(centre + fan, values, "o", color=colour, alpha=0.55, markersize=3.6, markeredgewidth=0)
    mean, low, high = interval(values)
    axes.errorbar(
        [centre + 0.14 * width], [mean], [[mean - low], [high - mean]], color=colour, fmt="o", markersize=5.5,
        elinewidth=1.8, capsize=0,
    )  # fmt: skip


def differences(frame: pd.DataFrame, y: str, *, arm: str, reference: Any, by: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of all other arms with `difference`: `y` minus that of the reference arm of the same seed and `by`."""
    keys = [*by, "seed"]
    frame = frame.dropna(subset=[y, arm]).drop_duplicates([*keys, arm])
    base = frame[frame[arm] == reference].set_index(keys)[[y, "run_id"]].add_prefix("reference_")
    base = base.rename(columns={f"reference_{y}": "reference"})
    paired = frame[frame[arm] != reference].join(base, on=keys).dropna(subset=["reference"])
    return paired.assign(difference=paired[y] - paired["reference"])


def paired_differences(
    frame: pd.DataFrame | None,
    y: str,
    *,
    arm: str = "weight_decay",
    reference: Any = 0,
    smallest_effect: float | None = None,
    panel: str | None = None,
) -> Chart | None:
    """Each arm minus the reference arm, seed by seed, with zero line and the band of too small differences."""
    frame = usable(frame, y, arm, *([panel] if panel else []))
    if frame is None:
        return None
    paired = differences(frame, y, arm=arm, reference=reference, by=[panel] if panel else [])
    if paired.empty:
        return None
    keys = levels(paired, panel) if panel else [None]
    arms = levels(paired, arm)
    tints = palette(levels(frame, arm) if "decay" in arm else arms, arm)
    figure, grid = panels(len(keys))
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = paired if key is None else paired[paired[panel] == key]
            zero_line(axes, smallest_effect)
            for place, level in enumerate(arms):
                values = part[part[arm] == level].sort_values("seed")["difference"].to_numpy()
                if len(values):
                    dots(axes, values, place, 0.7, tints[level])
            axes.set_xticks(range(len(arms)), [tick(level) for level in arms])
            axes.set_xlim(-0.6, len(arms) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(label(arm))
            axes.set_ylabel(f"{label(y)}\nminus {level_text(arm, reference)}")
            if key is not None:
                panel_title(axes, panel, key)
    handles = [line(f"mean and 95 % interval ({count_seeds(paired, [arm, panel])})", LIGHT["muted"], marker="o")]
    if smallest_effect:
        handles.append(band_patch(smallest_effect))
    legend(figure, handles)
    data = select_columns(paired, panel, arm, y, "reference", "difference")
    return Chart("paired-differences", figure, data)


def seed_noise(
    gains: pd.DataFrame | None,
    noise: pd.DataFrame | None,
    *,
    arm: str = "arm",
    kind: str = "kind",
    value: str = "test_loss",
) -> Chart | None:
    """What an intervention gains beside what chance gives, on one axis.

    Args:
        gains: columns `arm`, seed, difference (loss of the arm minus the baseline, seed by seed).
        noise: columns `kind` (what was varied: all seeds, initialisation, data order), seed and `value`, all of
            one baseline; each kind is drawn as deviations from its mean, with a band of one standard deviation.
    """
    gains, noise = usable(gains, arm, "difference"), usable(noise, kind, value)
    if gains is None or noise is None:
        return None
    kinds, arms = levels(noise, kind), levels(gains, arm)
    ratio = [max(1, len(kinds)), max(1, len(arms))]
    with matplotlib.rc_context(theme()):
        figure = Figure(figsize=(1.6 + 1.15 * sum(ratio), 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=ratio)
        widest = 0.0
        for place, name in enumerate(kinds):
            values = noise[noise[kind] == name][value].to_numpy()
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            widest = max(widest, deviation)
            left.add_patch(
                Rectangle((place - 0.35, -deviation), 0.7, 2 * deviation, color=LIGHT["line"], alpha=0.9, linewidth=0)
            )
            left.plot(place + np.linspace(-0.15, 0.15, len(values)), values - values.mean(), "o", color=LIGHT["none"],
                      markersize=4)  # fmt: skip
        right.axhspan(-widest, widest, color=LIGHT["line"], alpha=0.7, linewidth=0)
        tints = palette(arms, "arm")
        for place, name in enumerate(arms):
            dots(right, gains[gains[arm] == name]["difference"].to_numpy(), place, 0.7, tints[name])
        for axes, names, title in ((left, kinds, "same settings"), (right, arms, "changed settings")):
            axes.axhline(0, color=LIGHT["muted"], linewidth=1)
            axes.set_xticks(range(len(names)), [tick(name) for name in names])
            axes.set_xlim(-0.6, len(names) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_title(title)
        left.set_xlabel("what was varied")
        right.set_xlabel("what was changed")
        left.set_ylabel(f"{label(value)}\nminus the mean (left), the baseline (right)")
    legend(
        figure,
        [
            Patch(color=LIGHT["line"], label="one standard deviation of seeds (the largest kind on the right)"),
            line(f"gain, mean and 95 % interval ({count_seeds(gains, [arm])})", LIGHT["muted"], marker="o"),
        ],
    )
    both = [select_columns(noise, kind, value), select_columns(gains, arm, value, "reference", "difference")]
    return Chart("seed-noise", figure, pd.concat(both))
