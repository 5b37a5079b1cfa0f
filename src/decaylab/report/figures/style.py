"""What all figures share: the theme, panels, legends, labels of metrics, and the order of levels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from decaylab.analysis.statistics import mean_interval
from decaylab.report.colours import LIGHT, ordered
from decaylab.report.html import number, words

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


def theme() -> dict[str, Any]:
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
    }


def panels(
    count: int, width: float = 3.6, height: float = 2.9, most: int = 3, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """A grid of `count` axes, at most `most` in a row, with room below for one legend."""
    columns = min(count, most)
    rows = math.ceil(count / columns)
    if count == 1:
        width, height = 5.6, 3.6
    with matplotlib.rc_context(theme()):
        figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[count:]:
        spare.remove()
    return figure, flat[:count]


def legend(figure: Figure, handles: Sequence[Any]) -> None:
    # as many columns as fit, at about 13 characters an inch
    longest = max((len(handle.get_label()) for handle in handles), default=0) + 6
    columns = max(1, min(len(handles), int(13 * figure.get_size_inches()[0] / longest)))
    with matplotlib.rc_context(theme()):
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def line(text: str, colour: str, **kwargs: Any) -> Line2D:
    return Line2D([], [], color=colour, label=text, **({"linewidth": 2} | kwargs))


def count_seeds(frame: pd.DataFrame, by: Sequence[str | None] = ()) -> str:
    """`3 seeds`, or `3 to 6 seeds` where the arms (values of `by`) differ in them."""
    keys = [name for name in by if name]
    counts = frame.groupby(keys, sort=False)["seed"].nunique() if keys else [frame["seed"].nunique()]
    least, most = min(counts), max(counts)
    return f"{least} to {most} seeds" if least < most else f"{most} seed{'s' if most != 1 else ''}"


def level_text(name: str, value: Any) -> str:
    """`weight decay 0.1`, `learning rate: large`; names of grids and arms speak for themselves."""
    if isinstance(value, str):
        return words(value) if name in ("grid", "network", "arm", "kind") else f"{words(name)}: {words(value)}"
    return f"{words(name)} {number(value, 4)}"


def panel_title(axes: Axes, name: str, value: Any, width: int = 36) -> None:
    """What the panel shows, in lines of that many characters."""
    axes.set_title(textwrap.fill(level_text(name, value), width))


def levels(frame: pd.DataFrame, name: str) -> list[Any]:
    """Values of a parameter in the order of a legend; labels of learning rates from the largest down."""
    found = ordered(frame[name])
    if name == "learning_rate" and "peak_learning_rate" in frame and isinstance(found[0], str):
        means = frame.groupby(name, sort=False)["peak_learning_rate"].mean()
        return sorted(found, key=lambda value: -means[value])
    return found


def usable(frame: pd.DataFrame | None, *columns: str) -> pd.DataFrame | None:
    """Rows that have all the columns, or None if none has."""
    if frame is None or frame.empty or any(column not in frame for column in columns):
        return None
    frame = frame.dropna(subset=list(columns))
    return None if frame.empty else frame


def tick(level: Any) -> str:
    return textwrap.fill(words(level), 10) if isinstance(level, str) else number(level, 4)


def band_patch(effect: float) -> Patch:
    return Patch(color=LIGHT["line"], label=f"too small to matter (\u00b1{number(effect)})")


def zero_line(axes: Axes, band: float | None) -> None:
    if band:
        axes.axhspan(-band, band, color=LIGHT["line"], alpha=0.7, linewidth=0, zorder=0)
    axes.axhline(0, color=LIGHT["muted"], linewidth=1)


def select_columns(frame: pd.DataFrame, *names: str | None) -> pd.DataFrame:
    """What a figure keeps as its data: run, grid, seed, and those of `names` that the frame has."""
    wanted = ["run_id", "reference_run_id", "grid", *names]
    wanted.insert(len(wanted) - 1, "seed")
    return frame[[name for name in dict.fromkeys(wanted) if name in frame]]
