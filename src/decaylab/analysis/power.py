"""What a number of seeds can decide: before the run from standard deviations on file, afterwards from the values.

Effects and standard deviations are those of one paired difference, in the unit of the test. "At 80 %" always means
that four of five repetitions of the whole set of seeds would decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from decaylab.analysis.looks import (
    AGAINST,
    SEQUENTIAL,
    SKEW_MARGIN,
    Design,
    Reading,
    Test,
    decide,
    intersection,
    paired_proportion_interval,
)
from decaylab.analysis.statistics import Interval, rate_interval, student_quantile

POWER = 0.8
HOPELESS = 0.03
"""a look that decides with a smaller probability is not worth its seeds"""


def _sample_skewness(n: int) -> float:
    """What the skewness of `n` Gaussian values adds to an interval's side on average, simulated."""
    return 0.24 * (6 / n) ** (1 / 3)


@cache
def margin(n: int, confidence: float = SEQUENTIAL.confidence) -> float:
    """How far an effect must lie beyond a boundary, in standard deviations, for `n` seeds to decide it at 80 %.

    1.95, 1.26, 0.92, 0.72, 0.61 at the five looks for Student's interval (noncentral t), times what stretching the
    interval by the sample's skewness costs for Gaussian values (18 to 10 %, simulated).
    """
    from scipy import optimize, stats

    quantile = student_quantile(n, confidence)
    shift = optimize.brentq(lambda shift: stats.nct.sf(quantile, n - 1, shift) - POWER, 0, 20 * quantile)
    return shift / math.sqrt(n) * (1 + SKEW_MARGIN * _sample_skewness(n))


@cache
def equivalence_margin(n: int, confidence: float = SEQUENTIAL.confidence) -> float:
    """The smallest effect, in standard deviations, for which `n` seeds show at 80 % that a true 0 is negligible.

    0.77 at 32 seeds: a claim of sameness with a narrower range is not judged at this noise.
    """
    from scipy import stats

    half = student_quantile(n, confidence) + stats.t.ppf((1 + POWER) / 2, n - 1)
    return half / math.sqrt(n) * (1 + 0.3 * SKEW_MARGIN * (6 / n) ** 0.43)


def upper_deviation(deviation: float, seeds: int) -> float:
    """80 % upper confidence limit of a standard deviation estimated from `seeds` Gaussian values.

    Times 2.12, 1.73, 1.46, 1.29 for 3, 4, 6, 10 seeds. Raises ValueError for fewer than two.
    """
    from scipy import stats

    if seeds < 2:
        raise ValueError("one value has no standard deviation")
    return deviation * math.sqrt((seeds - 1) / stats.chi2.ppf(1 - POWER, seeds - 1))


def detectable(test: Test, deviation: float, n: int, confidence: float = SEQUENTIAL.confidence) -> float | None:
    """The smallest true effect that `n` seeds would show to be beyond the smallest effect that matters, at 80 %.

    Args:
        deviation: standard deviation of one difference; where it comes from few seeds, its `upper_deviation`.

    Returns:
        None for a claim of sameness that `n` seeds cannot show at this noise; its range where they can.
    """
    if test.direction == "within":
        return test.smallest_effect if equivalence_margin(n, confidence) * deviation <= test.smallest_effect else None
    return test.smallest_effect + margin(n, confidence) * deviation


def seeds_to_decide(test: Test, effect: float, deviation: float, design: Design = SEQUENTIAL) -> int | None:
    """The first look that would decide a true `effect` at 80 %; None if no look would.

    An effect on the claimed side of the smallest effect is reproduced, one beyond 0 on the other side contradicted,
    a smaller one found negligible.
    """
    towards = -effect if test.direction == "below" else effect
    for n in design.looks:
        beyond = margin(n, design.confidence) * deviation
        inside = abs(effect) + equivalence_margin(n, design.confidence) * deviation <= test.smallest_effect
        if test.direction == "within":
            outside = abs(effect) - test.smallest_effect >= beyond
        else:
            outside = towards - test.smallest_effect >= beyond or -towards >= beyond
        if inside or outside:
            return n
    return None


@dataclass(frozen=True)
class Chance:
    """Probabilities of a test's outcomes at a later look, given the values so far."""

    decided: float
    against: float = 0.0
    """that it is contradicted or found negligible, either of which settles its claim whatever the other tests say"""


@dataclass(frozen=True)
class Forecast:
    """What later looks can be expected to bring to an open test."""

    chances: dict[int, Chance]
    """by look"""
    reason: str
    """empty while more seeds can help; else why they cannot"""

    @property
    def can_help(self) -> bool:
        return not self.reason

    @property
    def enough(self) -> int | None:
        """The first look at which the test is more likely decided than not."""
        return next((n for n, chance in self.chances.items() if chance.decided >= 0.5), None)


def forecast(values: Sequence[float], test: Test, reading: Reading, design: Design = SEQUENTIAL) -> Forecast:
    """Chances that each later look decides a test.

    Args:
        values: those behind `reading`, in planned order.

    From 16 seeds on, a test for which no look reaches `HOPELESS` is said to be out of reach; before that, a third of
    the tests so forecast were decided after all.
    """
    later = design.later(reading.n)
    chances = {n: chance(values[: reading.n], test, reading.interval, n, design.confidence) for n in later}
    if reading.outcome != "inconclusive" or any(item.decided >= HOPELESS for item in chances.values()):
        return Forecast(chances, "")
    if later and reading.n < 16:
        return Forecast(chances, "")
    return Forecast(chances, _why_hopeless(values[: reading.n], test, reading, design.looks[-1]))


def chance(values: Sequence[float], test: Test, so_far: Interval | None, n: int, confidence: float) -> Chance:
    """Probability that `n` seeds decide a test, given the first of them.

    The mean of `n` values, given the mean m and standard deviation s of the first n0, is distributed as
    m + s sqrt(1 / n0 - 1 / n) t(n0 - 1); the standard deviation is taken to stay. For 0/1 values the further counts
    are drawn from the posterior with Jeffreys' prior.
    """
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=float)
    if test.kind == "proportion" or (test.kind == "mean" and np.isin(array, (-1, 0, 1)).all()):
        return _count_chance(array, test, so_far, n, confidence)
    seeds = len(array)
    deviation = float(array.std(ddof=1))
    if seeds < 3 or deviation == 0 or n <= seeds:
        return Chance(0.0)
    scale = deviation * math.sqrt(1 / seeds - 1 / n)
    half = student_quantile(n, confidence) * deviation / math.sqrt(n)
    skewness = float((((array - array.mean()) / array.std()) ** 3).mean()) * seeds / n  # new seeds have none
    left, right = (half * (1 + SKEW_MARGIN * (_sample_skewness(n) + max(0.0, side * skewness))) for side in (-1, 1))
    quantiles = (np.arange(400) + 0.5) / 400
    means = array.mean() + scale * stdtrit(seeds - 1, quantiles)
    outcomes = [decide(intersection([so_far, (mean - left, mean + right)]), test, n) for mean in means.tolist()]
    return Chance(
        sum(outcome != "inconclusive" for outcome in outcomes) / len(outcomes),
        sum(outcome in AGAINST for outcome in outcomes) / len(outcomes),
    )


def claim_chance(chances: Iterable[Chance]) -> float:
    """Probability that a claim is decided by the tests still open: one goes against it, or all are reproduced.

    Raises ValueError if there is no test.
    """
    tests = list(chances)
    if not tests:
        raise ValueError("a claim has at least one test")
    none_against = math.prod(1 - item.against for item in tests)
    return 1 - none_against + math.prod(item.decided - item.against for item in tests)


def _count_chance(array: np.ndarray, test: Test, so_far: Interval | None, n: int, confidence: float) -> Chance:
    """`chance` for values of -1, 0 and 1, by enumeration of the counts to come."""
    from scipy import stats

    more = n - len(array)
    if more <= 0 or not len(array):
        return Chance(0.0)
    categories = (0, 1) if test.kind == "proportion" else (-1, 0, 1)
    counts = [int((array == value).sum()) for value in categories]
    further = [
        (*part, more - sum(part))
        for part in itertools.product(range(more + 1), repeat=len(categories) - 1)
        if sum(part) <= more
    ]
    probabilities = stats.dirichlet_multinomial.pmf(np.array(further), [count + 0.5 for count in counts], more)
    decided = against = 0.0
    for added, probability in zip(further, probabilities.tolist(), strict=True):
        if probability < 1e-6:
            continue
        whole = [have + new for have, new in zip(counts, added, strict=True)]
        if test.kind == "proportion":
            _, interval = rate_interval(whole[1], n, confidence)
        else:
            interval = paired_proportion_interval(whole[2], whole[0], n, confidence)
        outcome = decide(intersection([so_far, interval]), test, n)
        decided += probability * (outcome != "inconclusive")
        against += probability * (outcome in AGAINST)
    return Chance(min(decided, 1.0), min(against, 1.0))


def _why_hopeless(values: Sequence[float], test: Test, reading: Reading, last: int) -> str:
    """Why more seeds will not decide a test, in a sentence for the page."""
    if reading.estimate is None or len(values) < 2:
        return "no seed has finished"
    if reading.interval is None and reading.looks:
        return "the looks' intervals have no point in common: the values are far from Gaussian"
    deviation = float(np.std(values, ddof=1))
    if test.direction == "within":
        needed = equivalence_margin(last) * deviation
        if needed > test.smallest_effect:
            return (
                f"{last} seeds show sameness within {needed:.2g} at this noise, "
                f"not within the {test.smallest_effect:g} claimed"
            )
    boundaries = {"within": (-1, 1), "above": (0, 1), "below": (-1, 0)}[test.direction]
    nearest = min((sign * test.smallest_effect for sign in boundaries), key=lambda edge: abs(reading.estimate - edge))
    if test.kind == "proportion":
        nearest = test.smallest_effect
    name = "0" if nearest == 0 else f"the smallest effect that matters ({nearest:g})"
    return (
        f"the estimate {reading.estimate:.2g} lies too close to {name} for {last} seeds at a noise of {deviation:.2g}"
    )
