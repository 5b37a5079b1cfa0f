"""Where a metric is lowest along an axis: the best weight decay of a grid, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from decaylab.analysis.statistics import CONFIDENCE
from decaylab.analysis.verdict import Interval

RESAMPLES = 2000


def optimum(x: Sequence[float], y: Sequence[float]) -> float:
    """The x at which y is lowest: the vertex of the parabola through the lowest point and its two neighbours.

    A curve that is lowest at an end of the grid has that end as its optimum, so the value never leaves the grid.

    Args:
        x: at least three different values, in any order.
    """
    order = np.argsort(x)
    x, y = np.asarray(x, dtype=float)[order], np.asarray(y, dtype=float)[order]
    lowest = int(np.argmin(y))
    if lowest in (0, len(x) - 1):
        return float(x[lowest])
    x, y = x[lowest - 1 : lowest + 2], y[lowest - 1 : lowest + 2]
    left, right = np.diff(y) / np.diff(x)
    curvature = (right - left) / (x[2] - x[0])
    # the slopes have different signs or are both 0: three equal values have their middle as the optimum
    return float((x[0] + x[1]) / 2 - left / (2 * curvature)) if curvature > 0 else float(x[1])


def bootstrap_optimum(
    x: Sequence[float], values: ArrayLike, confidence: float = CONFIDENCE, seed: int = 0
) -> tuple[float, Interval]:
    """The optimum of the mean curve, and its percentile interval when seeds are drawn again with replacement.

    Args:
        values: [seeds, len(x)]; a seed is drawn with its whole curve, so what its points have in common cancels.
        seed: of the random draws.
    """
    from scipy import stats

    curves = np.asarray(values, dtype=float)
    estimate = optimum(x, curves.mean(axis=0))
    if len(curves) < 2:
        return estimate, (estimate, estimate)
    found = stats.bootstrap(
        (np.arange(len(curves)),),
        lambda rows: optimum(x, curves[rows].mean(axis=0)),
        vectorized=False,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    )
    return estimate, (float(found.confidence_interval.low), float(found.confidence_interval.high))
