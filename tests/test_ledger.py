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


def test_every_claim_of_the_ledger_exists(ledger):
    known = {rep.name: {claim.id for claim in rep.claims} for rep in select(ROOT, "all")}
    check_claims_exist(ledger, known, ledger_file(ROOT))
    assert {tie.claim.partition("/")[0] for entry in ledger.entries for tie in entry.ties} <= known.keys()


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
        ({}, "not run"),
        ({"a/x": "inconclusive", "a/y": "not testable here"}, "undecided"),
        ({"a/x": "not testable here", "a/y": "not run"}, "not testable here"),
        ({"a/x": "reproduced"}, "supported"),
        ({"a/x": "reproduced", "a/y": "not testable here"}, "supported"),
        ({"a/x": "contradicted"}, "contradicted"),
        ({"a/x": "negligible", "a/y": "inconclusive"}, "contradicted"),
        ({"a/x": "reproduced", "a/y": "contradicted"}, "mixed"),
    ],
)
def test_outcomes_follow_verdicts(verdicts, outcome):
    assert Entry(id="S000-1", statement="s", claims=["a/x", "a/y"]).outcome(verdicts) == outcome


@pytest.mark.parametrize(
    ("tie", "verdict", "outcome"),
    [
        ("not a/x", "reproduced", "contradicted"),
        ("not a/x", "contradicted", "supported"),
        ("not a/x", "negligible", "supported"),
        ("opposite a/x", "reproduced", "contradicted"),
        ("opposite a/x", "contradicted", "supported"),
        ("opposite a/x", "negligible", "contradicted"),
        ("opposite a/x", "inconclusive", "undecided"),
        ("stricter a/x", "reproduced", "supported"),
        ("stricter a/x", "contradicted", "undecided"),
        ("stricter a/x", "negligible", "undecided"),
        ("stricter a/x", "not testable here", "not testable here"),
    ],
)
def test_a_statement_may_deny_a_claim_or_demand_less(tie, verdict, outcome):
    assert Entry(id="S000-1", statement="s", claims=[tie]).outcome({"a/x": verdict}) == outcome


def test_an_unknown_tie_is_refused():
    for text in ("a", "never a/x", "a/", "a/b/c"):
        with pytest.raises(ValueError, match="perhaps after `not`, `opposite` or `stricter`"):
            Entry(id="S000-1", statement="s", claims=[text])


def test_an_entry_has_exactly_one_ground():
    with pytest.raises(ValueError, match="exactly one of"):
        Entry(id="S000-1", statement="s")
    with pytest.raises(ValueError, match="exactly one of"):
        Entry(id="S000-1", statement="s", claims=["a/x"], untestable="no")


def test_the_summary_counts(ledger):
    text = ledger.summary("S003", {"gpt2_ablation/gpt2-decay-beats-gpt3-decay": "reproduced"})
    assert text == "Of 3 statements, runs can test all: 1 supported and 2 not run."
    assert ledger.summary("S002", {}) == "Of 5 statements, runs can test all: 5 not run."
    entries = [
        Entry(id="S000-1", statement="s", claims=["a/x"]),
        Entry(id="S000-2", statement="s", untestable="a prediction"),
        Entry(id="S000-3", statement="s", document={"outcome": "refuted", "name": "d", "finding": "f"}),
    ]
    source = {"S000": {"title": "t", "authors": "a", "year": 2026}}
    text = Ledger(sources=source, entries=entries).summary("S000", {"a/x": "contradicted"})
    assert text == (
        "Of 3 statements, runs can test 1: 1 contradicted; documents speak of 1: 1 refuted; 1 cannot be tested."
    )


def test_a_damaged_ledger_is_one_line(tmp_path):
    (tmp_path / "replications").mkdir()
    ledger_file(tmp_path).write_text("sources: {}\nentries: [{id: S000-1, statement: s}]\n")
    with pytest.raises(InputError, match=r"ledger\.yaml: entries\.0: expected exactly one of"):
        load_ledger(tmp_path)
