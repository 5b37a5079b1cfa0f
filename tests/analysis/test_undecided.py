"""Which claims are undecided, and what their later looks need."""

from __future__ import annotations

import pytest

from decaylab.analysis.arms import TUNING_SEEDS
from decaylab.analysis.undecided import progress
from decaylab.replication import arm_key, expand, record_seeds

LOOKS = {"looks": {"laptop": [6, 10, 16]}}


def seeds(*counts: float):
    """Test errors: without decay 0.5, with decay lower by the value of each seed."""
    return lambda p: {"test_error": 0.5 - (counts[p["seed"] % len(counts)] if p.get("decay") == "on" else 0.0)}


def fill_added(lab, rep, count, final):
    """Write the runs of `count` seeds of every arm, and record them."""
    planned = {spec.run_id for spec, _, _ in expand(rep, "laptop")}
    arms = {arm_key(parameters) for _, parameters, _ in expand(rep, "laptop")}
    new = []
    for spec, parameters, _ in expand(rep, "laptop", seeds=dict.fromkeys(arms, count)):
        if spec.run_id not in planned:
            lab.run(spec, final(parameters))
            new.append(spec.run_id)
    record_seeds(rep, lab.workspace(), new)


def test_a_claim_without_looks_gets_no_seeds(lab):
    found = progress(lab.replication(), lab.workspace())
    assert (found.total, found.open) == (0, [])


def test_before_its_first_look_a_claim_needs_the_first_seeds_of_both_arms(lab):
    found = progress(lab.replication(LOOKS), lab.workspace())
    (claim,) = found.open
    assert claim.name == "tiny/decay-helps"
    assert claim.chances == {6: 1.0}
    assert len(claim.looks[6]) == 12
    assert found.total == 1


def test_a_decided_claim_is_closed(lab):
    rep = lab.replication(LOOKS)
    lab.fill(rep, "laptop", seeds(0.20, 0.21, 0.19))
    found = progress(rep, lab.workspace())
    assert found.closed == ["tiny/decay-helps"]
    assert not found.open


def test_later_looks_contain_earlier_ones_and_may_decide(lab):
    rep = lab.replication(LOOKS)
    lab.fill(rep, "laptop", seeds(0.10, 0.00, 0.08, 0.01, 0.09, -0.01))
    (claim,) = progress(rep, lab.workspace()).open
    assert set(claim.looks) == set(claim.chances) == {10, 16}
    assert claim.looks[10] < claim.looks[16]
    assert len(claim.looks[10]) == 20
    assert 0 < claim.chances[10] <= 1


def test_a_claim_that_no_look_would_decide_is_hopeless(lab):
    rep = lab.replication({"looks": {"laptop": [6, 10]}})
    final = seeds(0.06, -0.04, 0.05, -0.03, 0.04, -0.02)
    lab.fill(rep, "laptop", final)
    fill_added(lab, rep, 10, final)
    found = progress(rep, lab.workspace())
    assert found.hopeless == ["tiny/decay-helps"]
    assert found.total == 1


def test_only_wanted_claims_are_looked_at(lab):
    rep = lab.replication(LOOKS, {"id": "other"} | LOOKS)
    assert progress(rep, lab.workspace()).total == 2
    assert progress(rep, lab.workspace(), {"other"}).open[0].name == "tiny/other"


def test_variants_are_open_beside_their_claim(lab):
    also = [{"label": "elsewhere", "arm": {"learning_rate": 0.1}}]
    found = progress(lab.replication(LOOKS | {"also": also}), lab.workspace())
    assert [(claim.name, claim.variant) for claim in found.open] == [
        ("tiny/decay-helps", False),
        ("tiny/decay-helps: elsewhere", True),
    ]
    assert found.total == 1


@pytest.mark.parametrize("tuned", [False, True])
def test_settings_are_chosen_before_they_are_judged(lab, tuned):
    arms = {"arm": {"grid": "mlp", "decay": "on", "learning_rate": "best"}}
    rep = lab.replication(lab.test(**arms, minus={"grid": "mlp", "decay": "off", "learning_rate": "best"}) | LOOKS)
    if tuned:
        lab.fill(rep, "laptop", seeds(0.1), only=lambda p: p["seed"] < TUNING_SEEDS)
    (claim,) = progress(rep, lab.workspace()).open
    # two learning rates of both arms choose; then one of each is judged on other seeds
    assert len(claim.looks[6]) == (12 if tuned else 4 * TUNING_SEEDS)
    assert claim.chances == {6: 1.0}
