"""One function for each kind of figure that a reader of the papers recognises.

All take tidy frames (as `load.Report` gives them), draw every seed faintly and the mean with a 95 % Student
interval over seeds, and return a matplotlib Figure, or None where the frame has nothing to draw; `show`
turns either into HTML. Nothing is random: no bootstrap, no jitter.
"""

from __future__ import annotations

import functools
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from decaylab.analysis.statistics import mean_interval, student_quantile
from decaylab.report import colours
from decaylab.report.colours import LIGHT, ordered, palette
from decaylab.report.html import Html, note, number, words

MOST_POINTS = 240
"""points of one curve; more cannot be seen and make pages slow"""
STYLES = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (6, 2, 1.2, 2)))

METRICS = {
    "train_loss": "train loss (nats)",
    "test_loss": "test loss (nats)",
    "validation_loss": "validation loss (nats)",
    "train_error": "train error (fraction)",
    "test_error": "test error (fraction)",
    "validation_error": "validation error (fraction)",
    "batch_loss": "running train loss (nats)",
    "learning_rate": "learning rate",
    "weight_decay": "weight decay",
    "weight_norm": "weight norm (L2)",
    "gradient_norm": "gradient norm (L2)",
    "effective_learning_rate": "effective learning rate",
    "lost_updates": "share of updates lost to rounding",
    "max_weight": "largest weight (absolute)",
    "max_logit": "largest output logit (absolute)",
    "attention_logit": "largest attention logit (absolute)",
    "generalisation_gap": "validation loss \u2212 train loss (nats)",
    "seconds": "measured time (s)",
    "predicted_seconds": "predicted time (s)",
    "step": "step",
    "fraction": "fraction of the run",
}


def label(name: str) -> str:
    """Axis label of a metric or parameter, with its unit."""
    if name.startswith("ema_"):
        return f"{label(name.removeprefix('ema_'))}\nof the averaged weights"
    base, _, group = name.partition(".")
    return METRICS.get(base, words(base)) + (f", {group}" if group else "")


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % Student interval over seeds; a single seed has no width."""
    mean, ends = mean_interval(values)
    return mean, *(ends or (mean, mean))


def _theme() -> dict[str, Any]:
    return {
        "font.family": ["DejaVu Sans"],
        "font.size": 9.5,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.labelsize": 9.5,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": LIGHT["muted"],
        "axes.linewidth": 0.8,
        "axes.labelcolor": LIGHT["ink"],
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT["line"],
        "grid.linewidth": 0.6,
        "text.color": LIGHT["ink"],
        "axes.titlecolor": LIGHT["ink"],
        "xtick.color": LIGHT["muted"],
        "ytick.color": LIGHT["muted"],
        "xtick.labelcolor": LIGHT["ink"],
        "ytick.labelcolor": LIGHT["ink"],
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.title_fontsize": 9,
        "lines.solid_capstyle": "round",
        "patch.edgecolor": "white",
        "patch.force_edgecolor": True,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "path",
    }


def _panels(
    count: int, width: float = 3.6, height: float = 2.9, most: int = 3, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """A grid of `count` axes, at most `most` in a row, with room below for one legend."""
    columns = min(count, most)
    rows = math.ceil(count / columns)
    if count == 1:
        width, height = 5.6, 3.6
    with matplotlib.rc_context(_theme()):
        figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.remove()
    return figure, flat[:count]


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    # as many columns as fit, at about 13 characters an inch
    longest = max((len(handle.get_label()) for handle in handles), default=0) + 6
    columns = max(1, min(len(handles), int(13 * figure.get_size_inches()[0] / longest)))
    with matplotlib.rc_context(_theme()):
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _line(text: str, colour: str, **kwargs: Any) -> Line2D:
    return Line2D([], [], color=colour, label=text, **({"linewidth": 2} | kwargs))


def _seeds(frame: pd.DataFrame, by: Sequence[str | None] = ()) -> str:
    """`3 seeds`, or `3 to 6 seeds` where the arms (values of `by`) differ in them."""
    keys = [name for name in by if name]
    counts = frame.groupby(keys, sort=False)["seed"].nunique() if keys else [frame["seed"].nunique()]
    least, most = min(counts), max(counts)
    return f"{least} to {most} seeds" if least < most else f"{most} seed{'s' if most != 1 else ''}"


def _level(name: str, value: Any) -> str:
    """`weight decay 0.1`, `learning rate: large`; names of grids and arms speak for themselves."""
    if isinstance(value, str):
        return words(value) if name in ("grid", "network", "arm", "kind") else f"{words(name)}: {words(value)}"
    return f"{words(name)} {number(value, 4)}"


def _title(axes: Axes, name: str, value: Any, width: int = 36) -> None:
    """What the panel shows, in lines of that many characters."""
    axes.set_title(textwrap.fill(_level(name, value), width))


def levels(frame: pd.DataFrame, name: str) -> list[Any]:
    """Values of a parameter in the order of a legend; labels of learning rates from the largest down."""
    found = ordered(frame[name])
    if name == "learning_rate" and "peak_learning_rate" in frame and isinstance(found[0], str):
        means = frame.groupby(name, sort=False)["peak_learning_rate"].mean()
        return sorted(found, key=lambda value: -means[value])
    return found


def _thin(count: int) -> np.ndarray:
    """Indices of at most MOST_POINTS of `count` points, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))


def _usable(frame: pd.DataFrame | None, *columns: str) -> pd.DataFrame | None:
    """Rows that have all the columns, or None if none has."""
    if frame is None or frame.empty or any(column not in frame for column in columns):
        return None
    frame = frame.dropna(subset=list(columns))
    return None if frame.empty else frame


def _curve(axes: Axes, arm: pd.DataFrame, x: str, colour: str, style: Any, faint: bool = True) -> None:
    """Every seed faintly, then mean and interval where all seeds are alive; a cross where a seed ends early."""
    seeds: list[tuple[np.ndarray, np.ndarray]] = []
    for run in arm["run_id"].unique():
        one = arm[arm["run_id"] == run].sort_values(x)
        seeds.append((one[x].to_numpy(float), one["value"].to_numpy(float)))
    last = max(steps[-1] for steps, _ in seeds)
    if faint and len(seeds) > 1:
        lines = [np.column_stack(curve)[_thin(len(curve[0]))] for curve in seeds]
        axes.add_collection(LineCollection(lines, colors=colour, linestyles=[style], linewidths=0.7, alpha=0.35))
    for steps, values in seeds:
        if steps[-1] < last:
            axes.plot(steps[-1:], values[-1:], marker="X", color=colour, markersize=7, linestyle="none")
    common = functools.reduce(np.intersect1d, [steps for steps, _ in seeds])
    if not len(common):
        return
    common = common[_thin(len(common))]
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
) -> Figure | None:
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
    frame = _usable(frame, "value", hue, panel, x, *([dash] if dash else []))
    if frame is None:
        return None
    needed = ["run_id", "seed", "metric", "value", "fraction", x, hue, panel, dash, "peak_learning_rate"]
    frame = frame[[name for name in dict.fromkeys(needed) if name in frame]]
    frame = frame.assign(averaged=frame["metric"].str.startswith("ema_") if averaged else False)
    frame["metric"] = frame["metric"].where(~frame["averaged"], frame["metric"].str.removeprefix("ema_"))
    # metrics keep the order in which they were asked for
    keys = list(dict.fromkeys(frame[panel])) if panel == "metric" else levels(frame, panel)
    hues, dashes = levels(frame, hue), levels(frame, dash) if dash else [None]
    tints = palette(hues if every is None else every, hue)
    figure, grid = _panels(len(keys), most=3 if len(keys) != 4 else 2)
    with matplotlib.rc_context(_theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame[frame[panel] == key]
            metric = part["metric"].iloc[0]
            for level in hues:
                for rank, kind in enumerate(dashes):
                    arm = part[(part[hue] == level) & ((part[dash] == kind) if dash else True)]
                    plain, mean = arm[~arm["averaged"]], arm[arm["averaged"]]
                    if len(plain):
                        _curve(axes, plain, x, tints[level], STYLES[rank % len(STYLES)])
                    if len(mean):
                        _curve(axes, mean, x, tints[level], (0, (2.5, 1.5)), faint=False)
            # less than a decade is easier to read on a plain axis
            if metric in log and part["value"].min() > 0 and part["value"].max() > 10 * part["value"].min():
                axes.set_yscale("log")
            elif metric.partition(".")[0] == "lost_updates":  # a share, of all or of a group
                axes.set_ylim(-0.02, 1.02)
            if late and len(shown := part.loc[part["fraction"] >= late, "value"]):
                room = 0.05 * (shown.max() - shown.min()) or 1e-9
                axes.set_ylim(shown.min() - room, shown.max() + room)
            if zero is not None:
                _zero(axes, zero)
            if drop is not None:
                axes.axvline(drop, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 1.5)))
            axes.set_xlabel(label(x))
            lines = unit.format(label(metric)).split("\n")
            axes.set_ylabel("\n".join(textwrap.fill(line, 32) for line in lines))  # no longer than a panel is high
            if panel != "metric":
                _title(axes, panel, key)
    handles = [
        _line(f"{_level(hue, level)} ({_seeds(frame[frame[hue] == level], [dash, panel])})", tints[level])
        for level in hues
    ]
    if dash:
        handles += [
            _line(_level(dash, kind), LIGHT["muted"], linestyle=STYLES[rank % len(STYLES)])
            for rank, kind in enumerate(dashes)
        ]
    if frame["averaged"].any():
        handles.append(_line("averaged weights (EMA)", LIGHT["muted"], linestyle=(0, (2.5, 1.5))))
    if drop is not None:
        handles.append(_line("learning rate drops", LIGHT["muted"], linestyle=(0, (1, 1.5)), linewidth=1))
    if zero:
        handles.append(_band(zero))
    _legend(figure, handles)
    return figure


def difference_curves(
    frame: pd.DataFrame | None, *, hue: str = "weight_decay", reference: Any = 0, panel: str = "metric", **kwargs: Any
) -> Figure | None:
    """Over training: each arm minus the reference arm, seed by seed; where a curve crosses zero, the order turns."""
    frame = _usable(frame, "value", hue, panel)
    if frame is None:
        return None
    keys = list(dict.fromkeys(["metric", "step", "seed", panel]))
    base = frame[frame[hue] == reference].drop_duplicates(keys).set_index(keys)["value"].rename("reference")
    paired = frame[frame[hue] != reference].join(base, on=keys).dropna(subset=["reference"])
    paired["value"] -= paired["reference"]
    unit = "{}\nminus " + _level(hue, reference)
    return training_curves(
        paired, hue=hue, panel=panel, unit=unit, **({"zero": 0.0, "every": levels(frame, hue)} | kwargs)
    )


def norm_curves(frame: pd.DataFrame | None, *, hue: str = "weight_decay", **kwargs: Any) -> Figure | None:
    """Weight norms over training, one panel a parameter group, on logarithmic axes."""
    metrics = [] if frame is None or "metric" not in frame else list(frame["metric"].unique())
    return training_curves(frame, hue=hue, log=metrics, **kwargs)


def lost_updates_curves(
    frame: pd.DataFrame | None, *, hue: str = "weight_decay", panel: str = "precision", **kwargs: Any
) -> Figure | None:
    """Share of weight updates that rounding swallows, over the run, one panel a precision."""
    return training_curves(frame, hue=hue, panel=panel, **kwargs)


def final_values(
    frame: pd.DataFrame | None,
    y: str,
    *,
    x: str = "weight_decay",
    hue: str | None = None,
    panel: str | None = None,
    chance: float | None = None,
) -> Figure | None:
    """One dot a seed, and mean with interval, for each arm.

    `frame` has one row a run. With `hue`, arms of one x stand side by side; without, x decides the colour.
    """
    frame = _usable(frame, y, x, *(name for name in (hue, panel) if name))
    if frame is None:
        return None
    keys = levels(frame, panel) if panel else [None]
    xs, hues = levels(frame, x), levels(frame, hue) if hue else [None]
    tints = palette(hues, hue) if hue else palette(xs, x)
    figure, grid = _panels(len(keys))
    width = 0.7 / len(hues)
    with matplotlib.rc_context(_theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame if key is None else frame[frame[panel] == key]
            for place, level in enumerate(xs):
                for rank, kind in enumerate(hues):
                    arm = part[(part[x] == level) & ((part[hue] == kind) if hue else True)].sort_values("seed")
                    if arm.empty:
                        continue
                    colour = tints[kind if hue else level]
                    centre = place + (rank - (len(hues) - 1) / 2) * width
                    _dots(axes, arm[y].to_numpy(), centre, width, colour)
            axes.set_xticks(range(len(xs)), [_tick(level) for level in xs])
            axes.set_xlim(-0.6, len(xs) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(label(x))
            axes.set_ylabel(label(y))
            if chance is not None:
                axes.axhline(chance, color=LIGHT["muted"], linewidth=1, linestyle=(0, (1, 1.5)))
            if key is not None:
                _title(axes, panel, key)
    if hue:
        handles = [
            _line(f"{_level(hue, kind)} ({_seeds(frame[frame[hue] == kind], [x, panel])})", tints[kind], marker="o")
            for kind in hues
        ]
    else:
        handles = [_line(f"mean and 95 % interval ({_seeds(frame, [x, panel])})", LIGHT["muted"], marker="o")]
    if chance is not None:
        handles.append(_line("a guess", LIGHT["muted"], linestyle=(0, (1, 1.5)), linewidth=1))
    _legend(figure, handles)
    return figure


def _tick(level: Any) -> str:
    return textwrap.fill(words(level), 10) if isinstance(level, str) else number(level, 4)


def _dots(axes: Axes, values: np.ndarray, centre: float, width: float, colour: str) -> None:
    """Seeds in a fixed fan left of the mean, the mean with its interval right of them."""
    fan = np.linspace(-0.22, -0.02, len(values)) * width if len(values) > 1 else np.array([-0.1 * width])
    axes.plot(centre + fan, values, "o", color=colour, alpha=0.55, markersize=3.6, markeredgewidth=0)
    mean, low, high = interval(values)
    axes.errorbar(
        [centre + 0.14 * width], [mean], [[mean - low], [high - mean]], color=colour, fmt="o", markersize=5.5,
        elinewidth=1.8, capsize=0,
    )  # fmt: skip


def grid_heatmap(
    frame: pd.DataFrame | None,
    y: str,
    *,
    rows: str,
    columns: str = "weight_decay",
    panel: str | None = None,
    best: str = "min",
) -> Figure | None:
    """Mean over seeds in each cell of two parameters, with n; the best cell is framed.

    `best` is `min` or `max`. A cell where a seed diverged says so. Colours are ranks of the cells, so that one
    bad cell does not hide the differences between the others.
    """
    frame = _usable(frame, y, rows, columns, *([panel] if panel else []))
    if frame is None:
        return None
    keys = levels(frame, panel) if panel else [None]
    row_keys, column_keys = levels(frame, rows), levels(frame, columns)
    height = 0.62 * len(row_keys) + 0.9
    figure, grid = _panels(len(keys), most=2)
    figure.set_size_inches(
        (0.95 * len(column_keys) + 1.3) * min(len(keys), 2), (height + 0.2) * math.ceil(len(keys) / 2)
    )
    # fixed colours, the same in both modes, with their own text colours
    import seaborn as sns  # takes long to import, and most notebooks have no heat map

    shades = sns.color_palette("crest_r" if best == "min" else "crest", as_cmap=True)
    with matplotlib.rc_context(_theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame if key is None else frame[frame[panel] == key]
            cells = part.groupby([rows, columns])[y].agg(["mean", "count"])
            diverged = part.groupby([rows, columns])["diverged"].sum() if "diverged" in part else None
            order = cells["mean"].rank(method="average") - 1
            scale = max(1, len(cells) - 1)
            winner = cells["mean"].idxmin() if best == "min" else cells["mean"].idxmax()
            for (row, column), cell in cells.iterrows():
                place = (column_keys.index(column), row_keys.index(row))
                colour = shades(float(order[row, column]) / scale)
                axes.add_patch(Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, facecolor=colour, edgecolor="none"))
                dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 0.55
                ink = "#fffffd" if dark else "#10151b"
                bad = int(diverged[row, column]) if diverged is not None else 0
                lines = f"n = {cell['count']:.0f}" + (f"\n{bad} diverged" if bad else "")
                axes.text(*place, number(cell["mean"], 4), ha="center", va="bottom", color=ink, fontsize=9.5)
                axes.text(*place, lines, ha="center", va="top", color=ink, fontsize=7)
            frame_at = (column_keys.index(winner[1]) - 0.48, row_keys.index(winner[0]) - 0.48)
            axes.add_patch(Rectangle(frame_at, 0.96, 0.96, fill=False, edgecolor=LIGHT["other1"], linewidth=2.6))
            axes.set_xlim(-0.5, len(column_keys) - 0.5)
            axes.set_ylim(len(row_keys) - 0.5, -0.5)
            axes.set_xticks(range(len(column_keys)), [_tick(item) for item in column_keys])
            axes.set_yticks(range(len(row_keys)), [_tick(item) for item in row_keys])
            axes.grid(visible=False)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_xlabel(label(columns))
            axes.set_ylabel(label(rows))
            if key is None:
                axes.set_title(label(y))
            else:
                _title(axes, panel, key, width=24)
    box = Patch(fill=False, edgecolor=LIGHT["other1"], linewidth=2, label=f"best cell ({label(y)}, mean over seeds)")
    _legend(figure, [box])
    return figure


def differences(frame: pd.DataFrame, y: str, *, arm: str, reference: Any, by: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of all other arms with `difference`: `y` minus that of the reference arm of the same seed and `by`."""
    keys = [*by, "seed"]
    frame = frame.dropna(subset=[y, arm]).drop_duplicates([*keys, arm])
    base = frame[frame[arm] == reference].set_index(keys)[y].rename("reference")
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
) -> Figure | None:
    """Each arm minus the reference arm, seed by seed, with zero line and the band of too small differences."""
    frame = _usable(frame, y, arm, *([panel] if panel else []))
    if frame is None:
        return None
    paired = differences(frame, y, arm=arm, reference=reference, by=[panel] if panel else [])
    if paired.empty:
        return None
    keys = levels(paired, panel) if panel else [None]
    arms = levels(paired, arm)
    tints = palette(levels(frame, arm) if "decay" in arm else arms, arm)
    figure, grid = _panels(len(keys))
    with matplotlib.rc_context(_theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = paired if key is None else paired[paired[panel] == key]
            _zero(axes, smallest_effect)
            for place, level in enumerate(arms):
                values = part[part[arm] == level].sort_values("seed")["difference"].to_numpy()
                if len(values):
                    _dots(axes, values, place, 0.7, tints[level])
            axes.set_xticks(range(len(arms)), [_tick(level) for level in arms])
            axes.set_xlim(-0.6, len(arms) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(label(arm))
            axes.set_ylabel(f"{label(y)}\nminus {_level(arm, reference)}")
            if key is not None:
                _title(axes, panel, key)
    handles = [_line(f"mean and 95 % interval ({_seeds(paired, [arm, panel])})", LIGHT["muted"], marker="o")]
    if smallest_effect:
        handles.append(_band(smallest_effect))
    _legend(figure, handles)
    return figure


def _band(effect: float) -> Patch:
    return Patch(color=LIGHT["line"], label=f"too small to matter (\u00b1{number(effect)})")


def _zero(axes: Axes, band: float | None) -> None:
    if band:
        axes.axhspan(-band, band, color=LIGHT["line"], alpha=0.7, linewidth=0, zorder=0)
    axes.axhline(0, color=LIGHT["muted"], linewidth=1)


def claims_forest(claims: Sequence[Mapping[str, Any]]) -> Figure | None:
    """One row a claim, each on its own axis and in its own unit.

    The green side is where the claim says the whole interval lies; the grey band holds differences too small
    to matter; the diamond is the source's number. Squares below are what filed evidence found, best first.
    """
    claims = [claim for claim in claims if claim.get("estimate") is not None and claim.get("interval")]
    if not claims:
        return None
    with matplotlib.rc_context(_theme()):
        figure = Figure(figsize=(8.2, 0.78 * len(claims) + 0.5), layout="constrained")
        axes_list = figure.subplots(len(claims), 1, squeeze=False)
        for axes, claim in zip(axes_list[:, 0], claims, strict=True):
            _forest_row(axes, claim)
    seen = [verdict for verdict in ("reproduced", "contradicted", "inconclusive", "not run")
            if verdict in {claim["verdict"] for claim in claims}]  # fmt: skip
    handles = [_line(verdict, colours.verdict_colour(verdict), marker="o") for verdict in seen]
    if any((claim.get("source_value") or {}).get("value") is not None for claim in claims):
        handles.append(_line("source", LIGHT["ink"], marker="D", markerfacecolor="none", linestyle="none"))
    if any(_filed(claim) for claim in claims):
        handles.append(_line("filed evidence", LIGHT["muted"], marker="s"))
    handles += [
        Patch(color=LIGHT["good"], label="claimed side"),
        Patch(color=LIGHT["line"], label="too small to matter"),
    ]
    _legend(figure, handles)
    return figure


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
    # a rate is held against a share of seeds, which is the smallest effect itself and has no other side of zero
    rate = bool(claim.get("parts")) and claim["parts"][0].get("kind") == "rate"
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


def loss_vs_snapshot(
    curves: pd.DataFrame | None, tuned: pd.DataFrame | None, y: str = "train_loss", *, hue: str = "weight_decay"
) -> Figure | None:
    """Loss along the run, and after training on from snapshots at a tiny learning rate.

    Args:
        curves: long frame of the runs, with column `fraction`.
        tuned: one row a continued run, with its final `y` and `start_at` (fraction of the parent's steps).
    """
    curves = _usable(curves, "value", hue, "fraction")
    if curves is None:
        return None
    tuned = _usable(tuned, y, hue, "start_at")
    hues = levels(curves, hue)
    tints = palette(hues, hue)
    # early losses are far above the part where decays differ
    late = curves[curves["fraction"] >= 0.2]["value"]
    figure, (axes,) = _panels(1)
    figure.set_size_inches(7.2, 4.4)
    with matplotlib.rc_context(_theme()):
        for level in hues:
            _curve(axes, curves[curves[hue] == level], "fraction", tints[level], "-")
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
    handles = [_line(f"{_level(hue, level)} ({_seeds(curves[curves[hue] == level])})", tints[level]) for level in hues]
    if tuned is not None:
        handles.append(
            _line("then a tiny learning rate", LIGHT["muted"], marker="o", markerfacecolor=LIGHT["card"], linestyle=":")
        )
    _legend(figure, handles)
    return figure


def seed_noise(
    gains: pd.DataFrame | None,
    noise: pd.DataFrame | None,
    *,
    arm: str = "arm",
    kind: str = "kind",
    value: str = "test_loss",
) -> Figure | None:
    """What an intervention gains beside what chance gives, on one axis.

    Args:
        gains: columns `arm`, seed, difference (loss of the arm minus the baseline, seed by seed).
        noise: columns `kind` (what was varied: all seeds, initialisation, data order), seed and `value`, all of
            one baseline; each kind is drawn as deviations from its mean, with a band of one standard deviation.
    """
    gains, noise = _usable(gains, arm, "difference"), _usable(noise, kind, value)
    if gains is None or noise is None:
        return None
    kinds, arms = levels(noise, kind), levels(gains, arm)
    ratio = [max(1, len(kinds)), max(1, len(arms))]
    with matplotlib.rc_context(_theme()):
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
            _dots(right, gains[gains[arm] == name]["difference"].to_numpy(), place, 0.7, tints[name])
        for axes, names, title in ((left, kinds, "same settings"), (right, arms, "changed settings")):
            axes.axhline(0, color=LIGHT["muted"], linewidth=1)
            axes.set_xticks(range(len(names)), [_tick(name) for name in names])
            axes.set_xlim(-0.6, len(names) - 0.4)
            axes.grid(axis="x", visible=False)
            axes.set_title(title)
        left.set_xlabel("what was varied")
        right.set_xlabel("what was changed")
        left.set_ylabel(f"{label(value)}\nminus the mean (left), the baseline (right)")
    _legend(
        figure,
        [
            Patch(color=LIGHT["line"], label="one standard deviation of seeds (the largest kind on the right)"),
            _line(f"gain, mean and 95 % interval ({_seeds(gains, [arm])})", LIGHT["muted"], marker="o"),
        ],
    )
    return figure


def cost_scatter(runs: pd.DataFrame | None, *, hue: str = "grid") -> Figure | None:
    """Predicted against measured seconds of each run; the band holds predictions right within a factor of two."""
    runs = _usable(runs, "predicted_seconds", "seconds", hue)
    if runs is None:
        return None
    runs = runs.drop_duplicates("run_id")
    tints = palette(levels(runs, hue), hue)
    figure, (axes,) = _panels(1)
    figure.set_size_inches(5.2, 4.4)
    with matplotlib.rc_context(_theme()):
        both = pd.concat([runs["predicted_seconds"], runs["seconds"]])
        ends = np.array([both.min() / 2, both.max() * 2])
        axes.fill_between(ends, ends / 2, ends * 2, color=LIGHT["line"], alpha=0.6, linewidth=0)
        axes.plot(ends, ends, color=LIGHT["muted"], linewidth=1)
        for name, part in runs.groupby(hue, sort=False):
            axes.plot(part["predicted_seconds"], part["seconds"], "o", color=tints[name], markersize=5, alpha=0.75)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_xlabel(label("predicted_seconds"))
        axes.set_ylabel(label("seconds"))
    handles = [
        _line(f"{words(name)} ({(runs[hue] == name).sum()} runs)", tints[name], marker="o", linestyle="none")
        for name in tints
    ]
    _legend(figure, [*handles, Patch(color=LIGHT["line"], label="within a factor of two")])
    return figure


# --- from figure to page


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
