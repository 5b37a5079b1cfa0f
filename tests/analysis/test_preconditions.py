"""Preconditions of a claim and of its variants."""

import pytest

from decaylab.analysis.judge import judge

CONDITION = {
    "name": "the arm without decay does not fit",
    "metric": "train_error",
    "among": {"grid": "mlp", "decay": "off", "learning_rate": 0.3},
    "expect": "below 0.5",
}


def test_a_variant_at_the_best_setting_is_testable_where_the_claim_is(lab):
    also = [{"label": "each arm at its best learning rate", "arm": {"learning_rate": "best"}}]
    rep = lab.replication({"preconditions": [CONDITION], "also": also})
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.4 - 0.01 * (p.get("decay") == "on"), "train_error": 0.1})
    (claim,) = judge(rep, lab.workspace()).claims
    (variant,) = claim.also
    assert [item.value for item in (*claim.preconditions, *variant.preconditions)] == pytest.approx([0.1, 0.1])
    assert not any(item.fails for item in variant.preconditions)


def test_a_precondition_may_be_the_paired_difference_of_two_arms(lab):
    among = {"grid": "mlp", "learning_rate": 0.3}
    costs = {
        "name": "decay changes nothing",
        "metric": "train_error",
        "among": among,
        "contrast": {"decay": ["on", "off"]},
        "expect": "above 0.05",
    }
    rep = lab.replication({"preconditions": [costs]})
    lab.fill(
        rep, "laptop", lambda p: {"test_error": 0.4, "train_error": 0.01 * p["seed"] + 0.1 * (p.get("decay") == "on")}
    )
    (claim,) = judge(rep, lab.workspace()).claims
    (condition,) = claim.preconditions
    assert condition.difference
    assert condition.value == pytest.approx(0.1)
    assert not condition.fails
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.4, "train_error": 0.3})
    (claim,) = judge(rep, lab.workspace()).claims
    assert claim.verdict == "not testable here"
    assert "decay changes nothing" in claim.reason
