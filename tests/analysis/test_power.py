import math

import numpy as np
import pytest
from scipy import stats

from decaylab.analysis.looks import LOOKS, Design, Test, read
from decaylab.analysis.power import (
    Chance,
    chance,
    claim_chance,
    detectable,
    equivalence_margin,
    forecast,
    margin,
    seeds_to_decide,
    upper_deviation,
)

above = Test("above", 0.1)


@pytest.mark.parametrize(("n", "student"), [(6, 1.95), (10, 1.26), (16, 0.92), (24, 0.72), (32, 0.61)])
def test_an_effect_at_the_margin_is_decided_four_times_in_five(n, student):
    assert student < margin(n) < 1.2 * student
    rng = np.random.default_rng(n)
    test = Test("above", 0.0)
    decided = [
        read(rng.normal(margin(n), 1, n).tolist(), test, Design((n,))).outcome == "reproduced" for _ in range(3000)
    ]
    assert np.mean(decided) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("n", [6, 16, 32])
def test_sameness_at_its_margin_is_shown_four_times_in_five(n):
    rng = np.random.default_rng(n)
    test = Test("within", equivalence_margin(n))
    shown = [read(rng.normal(0, 1, n).tolist(), test, Design((n,))).outcome == "reproduced" for _ in range(1500)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("seeds", "factor"), [(3, 2.12), (4, 1.73), (6, 1.46), (10, 1.29)])
def test_a_deviation_of_few_seeds_has_an_upper_limit(seeds, factor):
    assert upper_deviation(1, seeds) == pytest.approx(factor, abs=0.01)
    with pytest.raises(ValueError, match="one value"):
        upper_deviation(1, 1)


def test_the_detectable_effect_shrinks_with_seeds_and_noise():
    effects = [detectable(above, 0.3, n) for n in LOOKS]
    assert effects == sorted(effects, reverse=True)
    assert detectable(above, 0, 6) == 0.1
    assert detectable(Test("within", 0.1), 0.3, 32) is None
    assert detectable(Test("within", 0.3), 0.3, 32) == 0.3


def test_seeds_to_decide_are_the_first_look_with_power():
    assert seeds_to_decide(above, 0.1 + 3 * 0.2, 0.2) == 6
    assert seeds_to_decide(above, 0.1 + 0.2, 0.2) == 24
    assert seeds_to_decide(above, 0.1, 0.2) is None
    assert seeds_to_decide(Test("below", 0.1), -0.1 - 3 * 0.2, 0.2) == 6
    assert seeds_to_decide(above, -3 * 0.2, 0.2) == 6, "contradicted"
    assert seeds_to_decide(above, 0, 0.03) == 6, "negligible"
    assert seeds_to_decide(Test("within", 0.1), 0, 0.2) is None
    assert seeds_to_decide(Test("within", 0.1), 0.1 + 3 * 0.2, 0.2) == 6


@pytest.mark.parametrize(("seed", "n"), [(1, 16), (2, 10), (3, 32), (4, 16)])
def test_the_chance_of_a_later_look_is_what_simulation_gives(seed, n):
    rng = np.random.default_rng(seed)
    first = rng.normal(0.25, 0.3, 6)
    reading = read(first.tolist(), above)
    predicted = chance(first.tolist(), above, reading.interval, n, 0.986).decided
    hits = []
    for _ in range(1000):  # a mean from its posterior, then the values to come
        deviation = first.std(ddof=1)
        mean = first.mean() + deviation / math.sqrt(6) * rng.standard_t(5)
        values = [*first, *rng.normal(mean, deviation, n - 6)]
        hits.append(read(values, above, Design((6, n))).outcome != "inconclusive")
    assert predicted == pytest.approx(np.mean(hits), abs=0.15)


def test_shares_are_forecast_by_counting():
    test = Test("below", 0.5, "proportion")
    values = [0.0] * 6
    ahead = forecast(values, test, read(values, test))
    # nine of ten or all: only no further success decides ten seeds
    by_hand = stats.betabinom.pmf(0, 4, 0.5, 6.5)
    assert ahead.chances[10].decided == pytest.approx(by_hand)
    assert ahead.enough == 10
    rescued = [-1.0] * 6
    paired = forecast(rescued, Test("below", 0.25), read(rescued, Test("below", 0.25)))
    assert paired.chances[10].decided < 0.1 < paired.chances[16].decided < paired.chances[32].decided


def test_out_of_reach_is_said_only_from_sixteen_seeds_on_and_why():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, 32)
    values = (0.1 + 0.2 * (noise - noise.mean())).tolist()
    early, late = (forecast(values[:n], above, read(values[:n], above)) for n in (6, 32))
    assert early.can_help
    assert not late.can_help
    assert "too close to the smallest effect that matters (0.1)" in late.reason
    narrow = Test("within", 0.05)
    assert "sameness" in forecast(values, narrow, read(values, narrow)).reason
    decided = read((5 + noise).tolist(), above)
    assert forecast((5 + noise).tolist(), above, decided).can_help


def test_a_claim_is_decided_by_one_test_against_it_or_all_for_it():
    assert claim_chance([Chance(0.8, 0.1)]) == pytest.approx(0.8)
    assert claim_chance([Chance(0.5), Chance(0.5)]) == pytest.approx(0.25)
    assert claim_chance([Chance(1.0, 1.0), Chance(0.0)]) == 1
    with pytest.raises(ValueError, match="at least one"):
        claim_chance([])
