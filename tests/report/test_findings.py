"""Findings say what the verdicts say, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.verdict import VERDICTS
from decaylab.report.findings import agreement, findings, main_finding, open_claims, preregistered


def view(verdict, **changes):
    planted = {
        "claim": "decay-helps", "replication": "tiny", "statement": "Decay lowers the test error.", "verdict": verdict,
        "estimate": -0.04, "interval": [-0.06, -0.02], "n": 6, "unit": "test error (fraction)", "direction": "below",
        "smallest_effect": 0.005, "kind": "mean", "test": "main", "parts": [{}], "reason": "", "also": [],
        "evidence": [], "origin": None, "scale": "laptop", "source_value": {"value": -0.05, "text": "15 -> 10 %"},
    }  # fmt: skip
    return planted | changes


def sentence(verdict, **changes):
    (found,) = findings([view(verdict, **changes)])
    return found.text.replace("\u2212", "-")


def test_a_reproduced_claim_is_its_own_sentence():
    assert sentence("reproduced") == ("Decay lowers the test error. Measured: -4.0 points [-6.0, -2.0], 6 seeds.")


def test_a_contradicted_claim_does_not_hold_and_its_sign_is_named():
    assert sentence("contradicted", estimate=0.04, interval=[0.02, 0.06]) == (
        "Does not hold here: decay lowers the test error. "
        "The measured difference has the other sign: 4.0 points [2.0, 6.0], 6 seeds."
    )


def test_an_equivalence_that_fails_says_what_counts_as_equal():
    text = sentence("contradicted", direction="within", unit="training loss (nats)", smallest_effect=0.01)
    assert text.endswith("Measured difference: -0.040 nats [-0.060, -0.020], 6 seeds; up to 0.01 nats counts as equal.")


def test_a_negligible_effect_is_not_called_contradicted():
    text = sentence("negligible", estimate=0.001, interval=[-0.002, 0.004])
    assert text.startswith("No effect that matters: decay lowers the test error. Measured: 0.10 points [-0.20, 0.40]")
    assert text.endswith("less than 0.5 points does not matter.")


def test_what_cannot_be_tested_says_why():
    text = sentence("not testable here", estimate=None, interval=None, reason="no arm without decay diverges")
    assert text == "Could not be tested here: decay lowers the test error (no arm without decay diverges)."


def test_a_proportion_is_counted_in_seeds():
    text = sentence("contradicted", kind="proportion", estimate=0.0, interval=[0.0, 0.46], direction="above",
                    smallest_effect=0.5)  # fmt: skip
    assert text.endswith("Measured: 0 of 6 seeds, interval 0 to 46 %; the claim needs more than 50 %.")


def test_the_deciding_one_of_several_tests_is_named():
    assert "in the test \u201cmain\u201d" in sentence("reproduced", parts=[{}, {}])


def test_a_name_keeps_its_capitals_after_the_colon():
    assert "here: AdamW" in sentence("contradicted", statement="AdamW needs decay.")
    assert "here: in bfloat16" in sentence("contradicted", statement="In bfloat16 it diverges.")


def test_how_far_it_carries():
    also = [
        {"label": "VGG", "verdict": "reproduced"},
        {"label": "MLP", "verdict": "contradicted"},
        {"label": "ResNet34", "verdict": "not run"},
    ]
    evidence = [{"label": "archived runs on CIFAR-10", "verdict": "inconclusive"}]
    (found,) = findings([view("reproduced", also=also, evidence=evidence)])
    assert found.carries == "Same verdict: VGG. Another verdict: MLP (contradicted). 1 other setting is undecided."
    (alone,) = findings([view("reproduced", also=also[2:])])
    assert alone.carries == "Seen in this setting only."


def test_a_question_of_its_own_is_no_other_verdict():
    other = [{"label": "training loss", "verdict": "contradicted"}]
    (found,) = findings([view("reproduced", asked_otherwise=other)])
    assert found.carries == "Seen in this setting only."


def test_the_first_decided_claim_stands_for_a_replication():
    verdicts = {"a": "not testable here", "b": "contradicted", "c": "reproduced", "d": "inconclusive"}
    views = [view(verdict, claim=claim) for claim, verdict in verdicts.items()]
    assert main_finding(findings(views), views).claim == "b"
    assert main_finding(findings(views[:1]), views).claim == "a"
    assert main_finding([], views[3:]) is None


@given(st.lists(st.sampled_from(VERDICTS), max_size=8))
def test_no_finding_that_the_verdicts_do_not_support(verdicts):
    views = [view(verdict, claim=f"claim-{rank}") for rank, verdict in enumerate(verdicts)]
    found = findings(views)
    said = {finding.claim: finding.verdict for finding in found}
    silent = ("inconclusive", "not run")
    assert said == {item["claim"]: item["verdict"] for item in views if item["verdict"] not in silent}
    assert all(finding.text.startswith("D") for finding in found if finding.verdict in ("reproduced", "contradicted"))
    left = sum(verdict in silent for verdict in verdicts)
    assert bool(open_claims(views)) == bool(left)


def test_open_claims_are_counted():
    views = [view("inconclusive"), view("not run"), view("not run")]
    assert open_claims(views) == "1 claim is undecided: these runs cannot tell; 2 have not been run."


def test_agreement_counts_signs_and_intervals():
    other = view("inconclusive", estimate=0.01, interval=[-0.06, 0.08])
    without = [view("not run", estimate=None, interval=None), view("reproduced", source_value={"value": None})]
    views = [view("reproduced"), other, *without]
    assert "its sign in 1 of 2 claims" in agreement(views)
    assert "in our interval in 2 of 2." in agreement(views)
    assert agreement([]) == ""


@pytest.mark.parametrize("verdict", ["reproduced", "contradicted", "negligible", "not testable here"])
def test_each_kind_of_finding_once(verdict):
    assert len(findings([view(verdict)])) == 1


def test_preregistration_is_counted_not_claimed():
    views = [{"registered_before_runs": value} for value in (True, True, None)]
    assert preregistered(views).startswith("Each claim")
    assert preregistered([*views, {"registered_before_runs": False}]).startswith("2 of 3 claims")
    assert preregistered(views[2:]) == ""
