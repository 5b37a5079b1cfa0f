import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from decaylab.analysis.looks import (
    LOOKS,
    Design,
    Test,
    combine,
    decide,
    intersection,
    paired_proportion_interval,
    read,
    skewed_mean_interval,
    value_interval,
)

above, below, within = Test("above", 0.5), Test("below", 0.5), Test("within", 0.5)
ends = st.tuples(st.floats(-3, 3), st.floats(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def gaussian(mean, deviation, n, seed=0):
    return list(np.random.default_rng(seed).normal(mean, deviation, n))


@pytest.mark.parametrize(
    ("interval", "test", "outcome"),
    [
        ((0.6, 2), above, "reproduced"),
        ((0.4, 2), above, "inconclusive"),
        ((-2, -0.1), above, "contradicted"),
        ((-0.4, 0.4), above, "negligible"),
        ((0.1, 0.4), above, "negligible"),
        ((-0.6, 0.4), above, "inconclusive"),
        ((-2, -0.6), below, "reproduced"),
        ((0.1, 0.4), below, "contradicted"),
        ((-0.4, 0.4), below, "negligible"),
        ((-0.4, 0.4), within, "reproduced"),
        ((0.6, 1), within, "contradicted"),
        ((0.4, 1), within, "inconclusive"),
        ((-0.1, 0.1), Test("above", 0), "inconclusive"),
        (None, above, "inconclusive"),
        ((0.6, 1), Test("above", 0.5, "proportion"), "reproduced"),
        ((0, 0.4), Test("above", 0.5, "proportion"), "contradicted"),
        ((0, 0.4), Test("below", 0.5, "proportion"), "reproduced"),
        ((0.6, 1), Test("below", 0.5, "proportion"), "contradicted"),
        ((0.3, 0.6), Test("below", 0.5, "proportion"), "inconclusive"),
    ],
)
def test_an_outcome_follows_from_the_whole_interval(interval, test, outcome):
    assert decide(interval, test, 6) == outcome


@given(ends, st.floats(0, 2), st.sampled_from(["mean", "proportion"]))
def test_below_mirrors_above(interval, effect, kind):
    low, high = interval
    edge = -effect if kind == "proportion" else effect
    assert decide(interval, Test("above", effect, kind), 6) == decide((-high, -low), Test("below", edge, kind), 6)


@given(ends, ends, st.sampled_from([above, below, within]))
def test_a_narrower_interval_never_takes_an_outcome_back(wide, other, test):
    narrow = intersection([wide, other])
    outcome = decide(wide, test, 6)
    if narrow is not None and outcome in ("reproduced", "contradicted"):
        assert decide(narrow, test, 6) == outcome
    elif narrow is not None and outcome == "negligible":
        assert decide(narrow, test, 6) in ("negligible", "contradicted")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_fewer_than_six_seeds_decide_no_mean(seeds):
    values = gaussian(10, 0.01, seeds)
    assert read(values, above, Design.fixed(seeds)).outcome == "inconclusive"
    assert read(values, above).looks == ()
    assert read(gaussian(10, 0.01, 6), above).outcome == "reproduced"


def test_looks_use_the_first_seeds_in_planned_order():
    values = gaussian(1, 1, 32)
    reading = read([*values[:12], None, *values[13:]], above)
    assert [look.n for look in reading.looks] == [6, 10]
    assert reading == read(values[:10], above)
    assert reading.estimate == pytest.approx(np.mean(values[:10]))


def test_the_interval_is_what_all_looks_share():
    reading = read(gaussian(0.4, 1, 32, seed=3), above)
    assert [look.n for look in reading.looks] == list(LOOKS)
    assert reading.interval == (
        max(look.interval[0] for look in reading.looks),
        min(look.interval[1] for look in reading.looks),
    )


def test_looks_that_contradict_each_other_decide_nothing():
    values = [*gaussian(5, 0.1, 6), *gaussian(-5, 0.1, 26, seed=1)]
    reading = read(values, above)
    assert read(values[:6], above).outcome == "reproduced"
    assert reading.interval is None
    assert reading.outcome == "inconclusive"
    assert reading.decided_at is None


def test_the_look_that_decided_is_kept():
    assert read(gaussian(3, 1, 32), above).decided_at == 6
    assert read([], above).estimate is None


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=32))
def test_a_sequence_is_read_the_same_however_it_was_interrupted(values):
    whole = read(values, above)
    assert read([*values, None, 3.0], above) == whole


def test_the_interval_of_a_mean_is_students_stretched_on_the_skewed_side():
    values = np.array([0, 0.1, 0.2, 0.1, 0.3, 4])
    low, high = stats.t.interval(0.986, 5, values.mean(), stats.sem(values))
    ours = skewed_mean_interval(values)
    assert ours[0] == pytest.approx(low)
    assert ours[1] - values.mean() == pytest.approx((high - values.mean()) * (1 + 0.75 * stats.skew(values)))
    mirrored = skewed_mean_interval(-values)
    assert mirrored == pytest.approx((-ours[1], -ours[0]))
    symmetric = np.array([-2, -1, -0.5, 0.5, 1, 2.0])
    assert skewed_mean_interval(symmetric) == pytest.approx(stats.t.interval(0.986, 5, 0, stats.sem(symmetric)))


@pytest.mark.parametrize("value", [0, 1])
def test_equal_shares_have_an_exact_interval(value):
    estimate, interval = value_interval([value] * 10, "proportion")
    exact = stats.binomtest(10 * value, 10).proportion_ci(0.986, method="exact")
    assert estimate == value
    assert interval == pytest.approx((exact.low, exact.high))
    assert interval[1] - interval[0] > 0.3


def test_two_seeds_of_minus_one_prove_nothing():
    low, high = value_interval([-1.0, -1.0])[1]
    assert low == -1
    assert high > 0
    assert read([-1.0] * 6, Test("below", 0.25)).outcome == "inconclusive"
    assert read([-1.0] * 16, Test("below", 0.25)).outcome == "reproduced"
    assert read([0.0] * 32, Test("below", 0.25)).outcome == "negligible"


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_paired_shares_are_symmetric_and_hold_the_estimate(more, fewer, same):
    n = more + fewer + same
    if not n:
        return
    low, high = paired_proportion_interval(more, fewer, n)
    assert -1 <= low <= (more - fewer) / n <= high <= 1
    assert paired_proportion_interval(fewer, more, n) == pytest.approx((-high, -low))


def test_paired_shares_cover():
    rng = np.random.default_rng(5)
    for shares in ([0.1, 0.2, 0.7], [0.05, 0.6, 0.35], [0.5, 0.5, 0.0]):
        truth = shares[0] - shares[1]
        missed = [
            not low <= truth <= high
            for low, high in (
                paired_proportion_interval(int(more), int(fewer), 16, 0.95)
                for more, fewer, _ in rng.multinomial(16, shares, size=1000)
            )
        ]
        assert np.mean(missed) < 0.05


def test_a_design_is_checked():
    with pytest.raises(ValueError, match="increasing"):
        Design((10, 6))
    with pytest.raises(ValueError, match="confidence"):
        Design(confidence=1.5)
    assert Design().later(10) == (16, 24, 32)
    assert Design.fixed(3).reached(3) == (3,)


def test_one_test_against_settles_a_claim_and_only_all_reproduce_it():
    assert combine(["reproduced", "negligible", "contradicted"]) == "contradicted"
    assert combine(["reproduced", "negligible", "inconclusive"]) == "negligible"
    assert combine(["reproduced", "inconclusive"]) == "inconclusive"
    assert combine(["reproduced", "reproduced"]) == "reproduced"
    assert combine([]) == "inconclusive"


def test_the_worked_example_of_the_docs():
    """docs/read-a-verdict.md shows these numbers."""
    with_decay = [0.270, 0.300, 0.240, 0.265, 0.285, 0.255, 0.262, 0.291, 0.248, 0.279]
    without = [0.292, 0.314, 0.279, 0.271, 0.312, 0.263, 0.286, 0.310, 0.266, 0.301]
    values = [a - b for a, b in zip(with_decay, without, strict=True)]
    test = Test("below", 0.005, "continuous")
    first, second = read(values[:6], test), read(values, test)
    assert (first.outcome, second.outcome, second.decided_at) == ("inconclusive", "reproduced", 10)
    assert first.interval == pytest.approx((-0.0447, -0.0004), abs=5e-5)
    assert second.interval == pytest.approx((-0.0317, -0.0108), abs=5e-5)
