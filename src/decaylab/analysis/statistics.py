"""Two-sided intervals from scipy, at 95 % unless another confidence is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from decaylab.analysis.verdict import Interval

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
