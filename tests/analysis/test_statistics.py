import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from decaylab.analysis.statistics import (
    combine,
    decide,
    mean_interval,
    rate_interval,
    slope,
)

numbers = st.floats(-100, 100)
widths = st.floats(0, 100)
effects = st.floats(0.01, 50)
directions = st.sampled_from(["above", "below", "within"])
kinds = st.sampled_from(["mean", "proportion"])


@given(st.lists(numbers, min_size=2, max_size=10).filter(lambda v: np.std(v) > 1e-3))
def test_the_interval_is_students(values):
    mean, (low, high) = mean_interval(values)
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    assert mean == pytest.approx(np.mean(values))
    assert (low, high) == pytest.approx((mean - half, mean + half))
    assert (low, high) == pytest.approx(DescrStatsW(values).tconfint_mean())


def test_pairing_removes_what_seeds_share():
    seeds = np.array([0.0, 5.0, -3.0, 8.0])
    a, b = seeds + np.array([1.0, 1.1, 0.9, 1.0]), seeds
    low, high = mean_interval(a - b)[1]
    paired = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (low, high) == pytest.approx((paired.low, paired.high))
    unpaired = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert high - low < 0.1 * (unpaired.high - unpaired.low)


def test_one_value_has_no_interval_and_equal_values_a_point():
    assert mean_interval([0.3]) == (0.3, None)
    assert mean_interval([0.1, 0.1, 0.1]) == (0.1, (0.1, 0.1))


def test_values_equal_to_rounding_give_a_narrow_finite_interval(recwarn):
    low, high = mean_interval([0.1 + 0.2, 0.3, 0.3])[1]
    assert 0 <= high - low < 1e-12
    assert not recwarn.list


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for values in random.normal(0.3, 2.0, (500, 4)):
        low, high = mean_interval(values)[1]
        hits += low <= 0.3 <= high
    # 95 % of 500, give or take three standard errors
    assert abs(hits / 500 - 0.95) < 3 * math.sqrt(0.05 * 0.95 / 500)


def test_false_verdicts_by_chance_are_as_rare_as_documented():
    random = np.random.default_rng(1)
    wrong = {"boundary": 0, "zero": 0}
    for noise in random.normal(0, 1.0, (500, 5)):
        wrong["boundary"] += decide(0, mean_interval(0.5 + noise)[1], "above", 0.5) == "reproduced"
        wrong["zero"] += decide(0, mean_interval(noise)[1], "above", 0.5) == "contradicted"
    for count in wrong.values():
        assert abs(count / 500 - 0.025) < 3 * math.sqrt(0.025 / 500)


@given(st.integers(1, 30), st.data())
def test_rates_have_the_clopper_pearson_interval(n, data):
    k = data.draw(st.integers(0, n))
    rate, interval = rate_interval(k, n)
    assert rate == k / n
    low, high = proportion_confint(k, n, alpha=0.05, method="beta")
    assert interval == pytest.approx((0.0 if k == 0 else low, 1.0 if k == n else high))


def test_six_seeds_are_needed_to_show_that_a_majority_diverges():
    assert decide(1.0, rate_interval(5, 5)[1], "above", 0.5, "proportion") == "inconclusive"
    assert decide(1.0, rate_interval(6, 6)[1], "above", 0.5, "proportion") == "reproduced"


def test_slope_is_least_squares():
    assert slope([0, 1, 2], [1, 3, 5]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("interval", "direction", "effect", "kind", "verdict"),
    [
        ((0.02, 0.03), "above", 0.01, "mean", "reproduced"),
        ((0.005, 0.03), "above", 0.01, "mean", "inconclusive"),
        ((0.001, 0.005), "above", 0.01, "mean", "inconclusive"),
        ((-0.03, -0.001), "above", 0.01, "mean", "contradicted"),
        ((-0.03, -0.02), "below", 0.01, "mean", "reproduced"),
        ((0.001, 0.02), "below", 0.01, "mean", "contradicted"),
        ((-0.005, 0.005), "within", 0.01, "mean", "reproduced"),
        ((-0.005, 0.02), "within", 0.01, "mean", "inconclusive"),
        ((0.02, 0.03), "within", 0.01, "mean", "contradicted"),
        ((-0.03, -0.02), "within", 0.01, "mean", "contradicted"),
        ((0.6, 1.0), "above", 0.5, "proportion", "reproduced"),
        ((0.0, 0.4), "above", 0.5, "proportion", "contradicted"),
        ((0.0, 0.4), "below", 0.5, "proportion", "reproduced"),
        ((0.6, 1.0), "below", 0.5, "proportion", "contradicted"),
        ((0.4, 0.6), "below", 0.5, "proportion", "inconclusive"),
        ((0.01, 0.02), "above", 0.01, "mean", "inconclusive"),
        ((0.0, 0.0), "above", 0.0, "mean", "inconclusive"),
        (None, "above", 0.0, "mean", "inconclusive"),
    ],
)
def test_the_rule(interval, direction, effect, kind, verdict):
    assert decide(0.0, interval, direction, effect, kind) == verdict


def test_no_estimate_is_not_run():
    assert decide(None, None, "above", 0.1) == "not run"


@given(numbers, widths, directions, effects, kinds, st.floats(0.01, 100))
def test_units_do_not_matter(low, width, direction, effect, kind, scale):
    interval = (low, low + width)
    verdict = decide(low, interval, direction, effect, kind)
    if all(abs(abs(end) - effect) > 1e-9 * effect and abs(end) > 1e-9 for end in interval):
        assert decide(low, tuple(end * scale for end in interval), direction, effect * scale, kind) == verdict


@given(numbers, widths, widths, widths, directions, effects, kinds)
def test_a_wider_interval_says_the_same_or_nothing(low, width, left, right, direction, effect, kind):
    narrow = decide(low, (low, low + width), direction, effect, kind)
    wide = decide(low, (low - left, low + width + right), direction, effect, kind)
    assert wide in (narrow, "inconclusive")


@given(numbers, widths, effects)
def test_opposite_claims_never_both_hold(low, width, effect):
    interval = (low, low + width)
    above, below = (decide(low, interval, direction, effect) for direction in ("above", "below"))
    assert (above, below) != ("reproduced", "reproduced")
    assert (above == "reproduced") <= (below == "contradicted")
    within = decide(low, interval, "within", effect)
    assert (above == "reproduced" or below == "reproduced") == (within == "contradicted")
    mirrored = decide(-low, (-interval[1], -interval[0]), "below", effect)
    assert mirrored == above


@given(numbers, widths, directions, effects, effects)
def test_asking_for_more_never_reproduces_more(low, width, direction, effect, more):
    if direction == "within":
        return
    interval = (low, low + width)
    if decide(low, interval, direction, effect + more) == "reproduced":
        assert decide(low, interval, direction, effect) == "reproduced"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "contradicted"], "contradicted"),
        (["not run", "contradicted"], "contradicted"),
        (["reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "not run"], "not run"),
        (["inconclusive", "not run"], "not run"),
    ],
)
def test_several_tests(parts, verdict):
    assert combine(parts) == verdict
