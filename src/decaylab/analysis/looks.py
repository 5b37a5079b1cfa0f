"""Verdicts that stay valid while seeds are added: intervals at looks fixed beforehand.

A test is judged after 6, 10, 16, 24 and 32 seeds, each time with an interval at 98.6 %. Together the five intervals
miss the truth on a given side with a probability of about 2.5 %, whatever the reason for stopping (repeated confidence
intervals, Jennison and Turnbull 1989). Each look uses the first n seeds in planned order, never the order in which runs
finished. docs/statistics.md has the simulations behind these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from decaylab.analysis.statistics import CONFIDENCE, Interval, mean_interval, rate_interval

LOOKS = (6, 10, 16, 24, 32)
LOOK_CONFIDENCE = 0.986
FEWEST_SEEDS = 6
"""a mean of fewer seeds decides nothing: with three, the standard deviation is off by a factor of 0.2 to 1.7"""
SKEW_MARGIN = 0.75
"""how far Student's interval is stretched on its skewed side, for each unit of sample skewness"""

Direction = Literal["above", "below", "within"]
Kind = Literal["mean", "continuous", "proportion"]
"""mean: of values that may be differences of 0/1 metrics; continuous: a mean of values that are not"""
Outcome = Literal["reproduced", "contradicted", "negligible", "inconclusive"]
AGAINST: tuple[Outcome, ...] = ("contradicted", "negligible")
"""outcomes of one test that settle a claim, strongest first"""


@dataclass(frozen=True)
class Design:
    """When a test is judged and how wide its intervals are; part of a preregistered claim."""

    looks: tuple[int, ...] = LOOKS
    confidence: float = LOOK_CONFIDENCE

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise ValueError(f"looks must be increasing numbers of seeds, not {self.looks}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {self.confidence}")

    @classmethod
    def fixed(cls, seeds: int) -> Design:
        """One look at 95 %, for scales whose number of seeds is fixed (gpu, paper)."""
        return cls((seeds,), CONFIDENCE)

    def reached(self, seeds: int) -> tuple[int, ...]:
        """The looks that `seeds` finished seeds allow."""
        return tuple(look for look in self.looks if look <= seeds)

    def later(self, seeds: int) -> tuple[int, ...]:
        """The looks that need more than `seeds` finished seeds."""
        return tuple(look for look in self.looks if look > seeds)


SEQUENTIAL = Design()
"""for scales that add seeds until a claim is decided"""


@dataclass(frozen=True)
class Test:
    """What one test of a claim asks of its values: the outcome follows from these three and an interval."""

    __test__ = False  # pytest collects classes of this name

    direction: Direction
    smallest_effect: float
    kind: Kind = "mean"


@dataclass(frozen=True)
class Look:
    """One look: its number of seeds, the estimate and the interval of these seeds alone."""

    n: int
    estimate: float
    interval: Interval | None


@dataclass(frozen=True)
class Reading:
    """What a test shows after the looks that its seeds allow."""

    outcome: Outcome
    estimate: float | None
    """mean or share at the last look; before the first look, of the seeds there are"""
    interval: Interval | None
    """intersection of the looks' intervals; None before the first look, or where they have no point in common"""
    n: int
    """seeds behind the estimate"""
    looks: tuple[Look, ...]
    decided_at: int | None
    """the first look with an outcome"""


def read(values: Sequence[float | None], test: Test, design: Design = SEQUENTIAL) -> Reading:
    """Judge one test.

    Args:
        values: one value for each planned seed, in planned order; None where a run is not finished. Values behind
            a gap wait until the gap is closed.

    Intervals only shrink from look to look, so an outcome stands: a later look can turn `negligible` into
    `contradicted`, and makes any outcome `inconclusive` if the looks have no point in common.
    """
    finished = list(values)
    if None in finished:
        finished = finished[: finished.index(None)]
    array = np.asarray(finished, dtype=float)
    looks = []
    for n in design.reached(len(array)):
        estimate, interval = value_interval(array[:n], test.kind, design.confidence)
        looks.append(Look(n, estimate, interval))
    if not looks:
        return Reading("inconclusive", float(array.mean()) if len(array) else None, None, len(array), (), None)
    decided_at = None
    for count in range(1, len(looks) + 1):
        interval = intersection([look.interval for look in looks[:count]])
        outcome = decide(interval, test, looks[count - 1].n)
        if outcome != "inconclusive" and decided_at is None:
            decided_at = looks[count - 1].n
    if outcome == "inconclusive":
        decided_at = None
    return Reading(outcome, looks[-1].estimate, interval, looks[-1].n, tuple(looks), decided_at)


def decide(interval: Interval | None, test: Test, n: int) -> Outcome:
    """The outcome of a test with this interval.

    reproduced: the whole interval lies beyond the smallest effect on the claimed side (`within`: inside
    +-smallest_effect). contradicted: it lies wholly on the other side of zero (proportion: of the smallest effect;
    `within`: outside). negligible: it lies inside +-smallest_effect, so that no effect of a size that matters is
    there. inconclusive: all else, and every mean of fewer than six seeds.
    """
    if interval is None or (test.kind != "proportion" and n < FEWEST_SEEDS):
        return "inconclusive"
    low, high = interval
    effect = test.smallest_effect
    inside = -effect < low and high < effect
    if test.direction == "within":
        return "reproduced" if inside else "contradicted" if low > effect or high < -effect else "inconclusive"
    if test.direction == "below":
        low, high = -high, -low
        effect = -effect if test.kind == "proportion" else effect
    if low > effect:
        return "reproduced"
    if high < (effect if test.kind == "proportion" else 0):
        return "contradicted"
    return "negligible" if test.kind != "proportion" and inside else "inconclusive"


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a claim whose tests must all hold.

    One test that is contradicted contradicts the claim; one whose effect is negligible makes the claim negligible,
    since the effect that it states is not there; it is reproduced if all tests are.
    """
    for outcome in AGAINST:
        if outcome in outcomes:
            return outcome
    return "reproduced" if outcomes and all(outcome == "reproduced" for outcome in outcomes) else "inconclusive"


def intersection(intervals: Sequence[Interval | None]) -> Interval | None:
    """What all intervals share; None if that is nothing. A look without an interval leaves it as it is."""
    known = [interval for interval in intervals if interval is not None]
    if not known:
        return None
    low, high = max(low for low, _ in known), min(high for _, high in known)
    return (low, high) if low <= high else None


def value_interval(
    values: Sequence[float], kind: Kind = "mean", confidence: float = LOOK_CONFIDENCE
) -> tuple[float, Interval | None]:
    """Estimate and interval of values of any kind.

    Values of kind `mean` that are all -1, 0 or 1 are taken for differences of paired 0/1 values and get the exact
    interval of paired proportions: equal ones have no spread, but their interval still has a width.
    """
    array = np.asarray(values, dtype=float)
    if kind == "proportion":
        return rate_interval(int(array.sum()), len(array), confidence)
    if kind == "mean" and np.isin(array, (-1, 0, 1)).all():
        more, fewer = int((array > 0).sum()), int((array < 0).sum())
        return float(array.mean()), paired_proportion_interval(more, fewer, len(array), confidence)
    return float(array.mean()), skewed_mean_interval(array, confidence)


def paired_proportion_interval(more: int, fewer: int, n: int, confidence: float = LOOK_CONFIDENCE) -> Interval:
    """Interval of the difference of two paired proportions, from exact intervals of the discordant pairs.

    Args:
        more: pairs that are 1 in the first arm only.
        fewer: pairs that are 1 in the second arm only.

    The difference is the share of discordant pairs times (2 x share of `more` among them - 1). Both shares have
    Clopper-Pearson intervals at half the error, the second given the number of discordant pairs, as in the exact
    McNemar test. The coverage is therefore at least `confidence`.
    """
    half = 1 - (1 - confidence) / 2
    _, discordant = rate_interval(more + fewer, n, half)
    _, (low, high) = rate_interval(more, more + fewer, half) if more + fewer else (0.5, (0.0, 1.0))
    ends = [share * (2 * part - 1) for share in discordant for part in (low, high)]
    return min(ends), max(ends)


def skewed_mean_interval(values: Sequence[float], confidence: float = LOOK_CONFIDENCE) -> Interval | None:
    """Student's interval, stretched on its skewed side by `SKEW_MARGIN` times the sample's skewness.

    Student's interval misses the mean of a skewed distribution too often on the side of its long tail: at skewness 1.6
    in 10 % of sequences of looks, this one in 5 %. docs/statistics.md has the simulations and what else was tried.
    """
    array = np.asarray(values, dtype=float)
    mean, interval = mean_interval(array, confidence)
    spread = float(array.std())
    if interval is None or spread == 0:
        return interval
    low, high = interval
    skewness = float((((array - mean) / spread) ** 3).mean())
    stretch = 1 + SKEW_MARGIN * abs(skewness)
    return (mean - (mean - low) * stretch, high) if skewness < 0 else (low, mean + (high - mean) * stretch)
