import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from decaylab.analysis.statistics import (
    mean_interval,
    rate_interval,
    slope,
)

numbers = st.floats(-100, 100)


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


@given(st.integers(1, 30), st.data())
def test_rates_have_the_clopper_pearson_interval(n, data):
    k = data.draw(st.integers(0, n))
    rate, interval = rate_interval(k, n)
    assert rate == k / n
    low, high = proportion_confint(k, n, alpha=0.05, method="beta")
    assert interval == pytest.approx((0.0 if k == 0 else low, 1.0 if k == n else high))


def test_slope_is_least_squares():
    assert slope([0, 1, 2], [1, 3, 5]) == pytest.approx(2)
