"""What a reader calls metrics, parameters and their values, and how their axes are drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from decaylab.report.colours import is_none, ordered
from decaylab.report.html import number, words
from decaylab.report.metric_names import is_share, label, stem

VALUES = {"learning_rate": "peak_learning_rate", "weight_decay": "decay_coefficient"}
"""column that has the number behind an axis' label, such as `large`"""
SHORT = {"weight_decay": "decay"}
PLAIN = ("grid", "network", "arm", "setting", "kind", "precision", "model", "run", "strategy", "cell", "remedy")
"""parameters whose values say by themselves what they are"""


percent = FuncFormatter(lambda value, _: f"{100 * value:.4g} %".replace("-", "\u2212"))
points = FuncFormatter(lambda value, _: f"{100 * value:.4g}".replace("-", "\u2212"))


def difference_label(name: str, minus: str) -> str:
    """Axis label of a difference; that of two percentages is in percentage points."""
    return f"{label(name)}{' (percentage points)' if is_share(name) else ''} {minus}"


def effect_text(name: str, effect: float) -> str:
    """A difference of a metric, as its axis has it."""
    return f"{number(100 * effect)} points" if is_share(name) else number(effect)


def value_axis(axes: Axes, name: str, which: str = "y", values: pd.Series | None = None) -> None:
    """Percent for shares; a log axis for `values` that are positive and span more than a decade."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    if is_share(name):
        axis.set_major_formatter(percent)
    elif values is not None and values.min() > 0 and values.max() > 10 * values.min():
        axes.set(**{f"{which}scale": "log"})
        many = values.max() > 1000 * values.min()
        axis.set_major_locator(LogLocator(subs=(1,) if many else (1, 2, 5)))
        small = values.min() >= 1e-6 and values.max() < 1  # one format for all ticks
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6f}".rstrip("0") if small else number(value)))
        axis.set_minor_formatter(NullFormatter())


def wrap(text: str, width: int) -> str:
    """Lines of that many characters; words and `(source 0.1)` stay whole."""
    joined = text.replace("(source ", "(source\u00a0")
    lines = (textwrap.fill(line, width, break_long_words=False) for line in joined.split("\n"))
    return "\n".join(lines).replace("\u00a0", " ")


def tick(level: Any, width: int = 12) -> str:
    """A level of a parameter on an axis."""
    return wrap(words(level), width) if isinstance(level, str) else number(level, 4)


def level_number(name: str, level: Any, frame: pd.DataFrame | None) -> float | None:
    """The number that a level of an axis stands for in these runs; None if it has none, or several."""
    column = VALUES.get(name)
    if column is None or frame is None or not {name, column} <= set(frame):
        return None
    numbers = frame.groupby(name)[column]
    first = numbers.first()
    # where networks have learning rates of their own, or fine-tuned copies all have the same, the labels stay
    told = numbers.nunique().max() == 1 and first.nunique() == len(first)
    return float(first[level]) if told and level in numbers.groups else None


def level_tick(name: str, level: Any, frame: pd.DataFrame) -> str:
    """A level on an axis; a scale that changes the source's number shows both."""
    actual = level_number(name, level, frame)
    if isinstance(level, str) or actual is None or math.isclose(actual, level):
        return tick(level)
    return f"{number(actual, 4)}\n(source\n{number(level, 4)})"


def level_text(name: str, level: Any, frame: pd.DataFrame | None = None) -> str:
    """`decay 0.1`, `no decay`, `learning rate 0.3`, or `large learning rate` where the number differs in the frame.

    `decay 1 (source 0.1)`: a scale that changes the source's number shows both.
    """
    if name in PLAIN:
        return words(level)
    if name == "epochs" and not isinstance(level, str):
        return f"{number(level, 4)} epoch{'s' if level != 1 else ''}"
    if level in ("with", "without"):
        return f"{level} {words(name)}"
    if name == "metric":
        # of one metric, a group or a matrix; of several, each by its name
        alone = frame is not None and frame["metric"].map(stem).nunique() == 1 and "." in level
        return level.partition(".")[2] if alone else label(level)
    column, actual, also = VALUES.get(name), level_number(name, level, frame), ""
    if actual is not None and not isinstance(level, str) and not math.isclose(actual, level):
        also = f" (source {number(level, 4)})"
    level = level if actual is None else actual
    short = words(SHORT.get(name, name.rpartition(".")[2]))
    if name == "weight_decay":
        if is_none(level):
            return "no decay"
        if isinstance(level, str):
            return f"with {words(level)}"
    if isinstance(level, str):
        return f"{words(level)} {short}" if column else f"{short}: {words(level)}"
    return f"{short} {number(level, 4)}{also}"


def levels(frame: pd.DataFrame, name: str) -> list[Any]:
    """Values of a parameter in the order of a legend; labels of learning rates from the largest down, of decays up."""
    found = ordered(frame[name])
    column = VALUES.get(name)
    if column in frame and isinstance(found[-1], str):
        means = frame.groupby(name, sort=False)[column].mean()
        return sorted(found, key=lambda value: -means[value] if name == "learning_rate" else means[value])
    return found


def count_seeds(frame: pd.DataFrame, by: Sequence[str | None] = ()) -> str:
    """`3 seeds`, or `3 to 6 seeds` where the arms (values of `by`) differ in them."""
    keys = [name for name in by if name]
    counts = frame.groupby(keys, sort=False)["seed"].nunique() if keys else [frame["seed"].nunique()]
    least, most = min(counts), max(counts)
    return f"{least} to {most} seeds" if least < most else f"{most} seed{'s' if most != 1 else ''}"


def fixed(values: Sequence[float], name: str) -> list[str]:
    """Numbers of one metric in one format: percent for shares, else four significant digits of the largest."""
    if is_share(name):
        return [f"{100 * value:.1f} %" for value in values]
    largest = float(np.abs(np.asarray(values, dtype=float)).max()) or 1.0
    places = max(0, 3 - math.floor(math.log10(largest)))
    return [f"{value:.{places}f}".replace("-", "\u2212") for value in values]
