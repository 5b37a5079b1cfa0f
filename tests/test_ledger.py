"""The ledger lists every statement, and its outcomes follow verdicts."""

from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.ledger import Entry, Ledger, check_claims_exist, ledger_file, load_ledger
from decaylab.replication import select

ROOT = Path(__file__).parents[1]
COUNTS = {"S000": 16, "S001": 37, "S002": 5, "S003": 3}
"""statements of each source"""


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return load_ledger(ROOT)


def test_no_statement_is_missing(ledger):
    expected = [f"{source}-{number}" for source, count in COUNTS.items() for number in range(1, count + 1)]
    assert [entry.id for entry in ledger.entries] == expected


def test_claims_of_existing_replications_exist(ledger):
    known = {rep.name: {claim.id for claim in rep.claims} for rep in select(ROOT, "all")}
    check_claims_exist(ledger, known, ledger_file(ROOT))


def test_a_wrong_claim_is_named(ledger):
    known = {"loss_stabilization": set()}
    with pytest.raises(InputError, match=r"ledger\.yaml: S001-35: loss_stabilization has no claim large-lr"):
        check_claims_exist(ledger, known, ledger_file(ROOT))


def test_a_statement_without_claims_says_why(ledger):
    for entry in ledger.entries:
        assert entry.claims or entry.untestable or entry.document.finding


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ({}, "open"),
        ({"a/x": "inconclusive", "a/y": "not run"}, "open"),
        ({"a/x": "reproduced"}, "supported"),
        ({"a/x": "reproduced", "a/y": "not testable here"}, "supported"),
        ({"a/x": "contradicted"}, "contradicted"),
        ({"a/x": "negligible", "a/y": "inconclusive"}, "contradicted"),
        ({"a/x": "reproduced", "a/y": "contradicted"}, "mixed"),
    ],
)
def test_outcomes_follow_verdicts(verdicts, outcome):
    assert Entry(id="S000-1", statement="s", claims=["a/x", "a/y"]).outcome(verdicts) == outcome


def test_an_entry_has_exactly_one_ground():
    with pytest.raises(ValueError, match="exactly one of"):
        Entry(id="S000-1", statement="s")
    with pytest.raises(ValueError, match="exactly one of"):
        Entry(id="S000-1", statement="s", claims=["a/x"], untestable="no")


def test_the_summary_counts(ledger):
    text = ledger.summary("S003", {"gpt2_ablation/gpt2-decay-beats-gpt3-decay": "reproduced"})
    assert text == "Of 3 statements: 1 of 3 testable statements have a verdict; 1 held."


def test_a_damaged_ledger_is_one_line(tmp_path):
    (tmp_path / "replications").mkdir()
    ledger_file(tmp_path).write_text("sources: {}\nentries: [{id: S000-1, statement: s}]\n")
    with pytest.raises(InputError, match=r"ledger\.yaml: entries\.0: expected exactly one of"):
        load_ledger(tmp_path)
