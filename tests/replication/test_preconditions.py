"""Preconditions and looks are part of a claim's digest; claims without them keep theirs."""

import pytest

from decaylab.replication.claims import Claim
from decaylab.replication.short_form import ShortFormError, expand_claim

CLAIM = {
    "id": "decay-helps",
    "statement": "Decay helps.",
    "locator": "X",
    "unit": "test error (fraction)",
    "source_value": {"text": "none"},
    "scales": ["laptop"],
    "metric": "test_error",
    "among": {"grid": "main"},
    "contrast": {"decay": ["with", "without"]},
    "expect": "below 0.005",
}


def claim(**changes) -> Claim:
    return Claim.model_validate(expand_claim(CLAIM | changes, {}, {}))


def test_a_precondition_takes_only_the_selection_of_its_claim():
    fitted = {
        "name": "the arm without decay does not fit",
        "metric": "train_loss at 0.5",
        "among": {"decay": "without"},
        "expect": "below 0.05",
    }
    (found,) = claim(preconditions=[fitted]).preconditions
    assert found.arm == {"grid": "main", "decay": "without"}
    assert (found.metric.name, found.metric.at, found.direction, found.threshold) == ("train_loss", 0.5, "below", 0.05)


def test_a_precondition_may_be_a_difference_but_not_of_regimes():
    costs = {
        "name": "bfloat16 costs nothing",
        "metric": "train_loss",
        "contrast": {"decay": ["with", "without"]},
        "expect": "above 0.01",
    }
    (found,) = claim(preconditions=[costs]).preconditions
    assert (found.arm["decay"], found.minus["decay"]) == ("with", "without")
    with pytest.raises(ValueError, match="a regime is of one arm"):
        claim(preconditions=[costs | {"metric": "regime.epochs"}])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expect": "within 0.1"}, r"preconditions\.0\.expect: expected one metric, above or below a number"),
        ({"expect": "below 0.5 of seeds"}, r"preconditions\.0\.expect: expected one metric"),
        ({"slope_over": "decay"}, r"preconditions\.0\.slope_over: unknown key"),
        ({"contrast": {"a": [1, 2], "b": [1, 2]}}, r"preconditions\.0\.expect: expected one metric"),
        ({"metric": "a - b"}, r"preconditions\.0\.expect: expected one metric"),
    ],
)
def test_a_wrong_precondition_is_one_line(changes, words):
    condition = {"name": "n", "metric": "train_loss", "expect": "below 0.05"} | changes
    with pytest.raises(ShortFormError, match=words):
        expand_claim(CLAIM | {"preconditions": [condition]}, {}, {})


def test_preconditions_and_looks_are_preregistered():
    plain = claim()
    condition = {"name": "n", "metric": "train_loss", "expect": "below 0.05"}
    looks = {"laptop": [6, 10, 16]}
    digests = {plain.sha256(), claim(preconditions=[condition]).sha256(), claim(looks=looks).sha256()}
    assert len(digests) == 3
    assert claim(note="another note").sha256() == plain.sha256()


def test_looks_increase():
    with pytest.raises(ValueError, match="laptop: expected increasing numbers of seeds"):
        claim(looks={"laptop": [10, 6]})


def test_a_proportion_of_runs_below_a_bound():
    (test,) = claim(metric="train_loss over 0.4 to 0.5 < 0.05", contrast=None, expect="above 0.5 of seeds").tests
    assert (test.metric.name, test.metric.over, test.metric.below) == ("train_loss", (0.4, 0.5), 0.05)
    assert test.kind == "proportion"
