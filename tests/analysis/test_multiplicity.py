import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from decaylab.analysis.looks import Design, Test, read
from decaylab.analysis.multiplicity import claim_p_value, false_share, false_verdicts_bound, p_values, surviving


def test_both_sides_of_every_test_count():
    assert false_verdicts_bound(26) == pytest.approx(1.3)
    assert false_share(16, 26) == pytest.approx(1.3 / 16)
    assert false_share(1, 100) == 1
    assert false_share(0, 10) == 0


def test_a_symmetric_samples_p_value_is_students_times_the_looks():
    half = np.array([0.1, 0.5, 0.9])
    values = np.concatenate([1 - half, 1 + half])
    found = p_values(values.tolist(), Test("above", 0.2))
    students = stats.ttest_1samp(values, 0.2, alternative="greater").pvalue
    assert found["reproduced"] == pytest.approx(5 * students, rel=1e-4)
    assert found["contradicted"] == found["negligible"] == 1
    once = p_values(values.tolist(), Test("above", 0.2), Design((6,)))
    assert once["reproduced"] == pytest.approx(found["reproduced"] / 5)


@pytest.mark.parametrize("test", [Test("above", 0.3), Test("below", 0.3), Test("within", 0.3)])
@pytest.mark.parametrize("mean", [-2, -0.5, 0, 0.5, 2])
def test_an_outcome_at_one_look_has_a_p_value_below_its_error(test, mean):
    design = Design((16,), 0.95)
    values = np.random.default_rng(0).normal(mean, 0.5, 16).tolist()
    outcome = read(values, test, design).outcome
    found = p_values(values, test, design)
    if outcome == "inconclusive":
        assert min(found.values()) >= 0.0249
    else:
        assert found[outcome] <= 0.0251 * (2 if test.direction == "within" else 1)


def test_shares_have_the_binomial_p_value():
    values = [1.0] * 9 + [0.0]
    found = p_values(values, Test("above", 0.5, "proportion"), Design((10,)))
    assert found["reproduced"] == pytest.approx(stats.binomtest(9, 10, 0.5, "greater").pvalue, rel=1e-4)
    assert p_values([1.0] * 3, Test("above", 0.5, "proportion"))["reproduced"] == 1


def test_all_tests_must_hold_and_one_contradicts():
    strong = {"reproduced": 0.001, "contradicted": 1.0, "negligible": 1.0}
    weak = {"reproduced": 0.04, "contradicted": 1.0, "negligible": 1.0}
    against = {"reproduced": 1.0, "contradicted": 0.002, "negligible": 1.0}
    assert claim_p_value([strong, weak]) == pytest.approx(0.08)
    assert claim_p_value([strong, against]) == pytest.approx(0.008)
    assert claim_p_value([{"reproduced": 1.0, "contradicted": 1.0, "negligible": 0.01}]) == pytest.approx(0.02)


def test_survivors_are_those_of_benjamini_and_hochberg():
    values = np.random.default_rng(1).uniform(size=30) ** 3
    claims = {f"claim {i}": p for i, p in enumerate(values.tolist())}
    expected = multipletests(values, 0.05, method="fdr_bh")[0]
    assert surviving(claims) == {name for name, kept in zip(claims, expected, strict=True) if kept}
    assert surviving({}) == set()
