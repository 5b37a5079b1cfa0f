"""Intervals and the rule that turns them into verdicts. All intervals are two-sided, 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np

from decaylab.analysis.verdict import Interval, Verdict

CONFIDENCE = 0.95


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, Interval | None]:
    """Mean and Student's t interval of independent values (one paired contrast for each seed).

    One value has no interval. Values that are all equal have that point as their interval.
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None
    if np.ptp(values) == 0:
        return float(values[0]), (float(values[0]), float(values[0]))
    half = student_quantile(len(values), confidence) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def student_quantile(n: int, confidence: float = CONFIDENCE) -> float:
    """Half the width of the interval of the mean of `n` values, in standard errors."""
    from scipy.special import stdtrit  # all that pages need; scipy.stats takes a second to import

    return float(stdtrit(n - 1, (1 + confidence) / 2))


@cache
def rate_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, Interval]:
    """Share of successes and its Clopper-Pearson interval."""
    from scipy import stats

    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return successes / n, (float(interval.low), float(interval.high))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line."""
    from scipy import stats

    return float(stats.linregress(x, y).slope)


def decide(
    estimate: float | None,
    interval: Interval | None,
    direction: Literal["above", "below", "within"],
    smallest_effect: float,
    kind: Literal["mean", "proportion"] = "mean",
) -> Verdict:
    """The verdict of one test.

    reproduced: the whole interval lies beyond the smallest effect on the claimed side (`within`: inside
    +-smallest_effect). contradicted: the whole interval lies on the other side of zero (for a rate: of the
    smallest effect, since a rate cannot be negative; `within`: wholly outside). inconclusive: all else, also an
    interval that ends exactly on a boundary. not run: there is no estimate.
    """
    if estimate is None:
        return "not run"
    if interval is None:
        return "inconclusive"
    low, high = interval
    if direction == "within":
        if -smallest_effect < low and high < smallest_effect:
            return "reproduced"
        return "contradicted" if low > smallest_effect or high < -smallest_effect else "inconclusive"
    if kind == "proportion":
        above, below = low > smallest_effect, high < smallest_effect
        held, refuted = (above, below) if direction == "above" else (below, above)
    elif direction == "above":
        held, refuted = low > smallest_effect, high < 0
    else:
        held, refuted = high < -smallest_effect, low > 0
    return "reproduced" if held else "contradicted" if refuted else "inconclusive"


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim of several tests: contradicted if any is, reproduced if all are.

    A claim with a test that was not run has not been run, unless another test contradicts it.
    """
    if "contradicted" in verdicts:
        return "contradicted"
    if all(verdict == "reproduced" for verdict in verdicts):
        return "reproduced"
    return "not run" if "not run" in verdicts else "inconclusive"
