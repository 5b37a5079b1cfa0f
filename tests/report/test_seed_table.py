"""Each seed's numbers with the runs that they come from."""

import re

import pytest

from decaylab.analysis.questions import same_question
from decaylab.replication import Claim, Test, Variant, load_replication, replication_file
from decaylab.report.claims import claim_views
from decaylab.report.html import claims_table
from decaylab.report.seed_table import arm_names, seed_table
from decaylab.workspace import Workspace

TEST = {"metric": "test_error", "direction": "below", "smallest_effect": 0.005}
DECAY, NONE = {"grid": "main", "weight_decay": 0.1}, {"grid": "main", "weight_decay": 0}


def claim(**changes):
    text = {"id": "a", "statement": "A.", "locator": "Figure 1", "unit": "test error (fraction)", "scales": ["laptop"]}
    test = TEST | {"arm": DECAY, "minus": NONE} | changes
    return Claim.model_validate(text | {"source_value": {"text": "none"}, "tests": [test]})


def table(arms, runs, **changes):
    seeds = [{"seed": 3, "value": -0.02, "arms": arms, "runs": runs}]
    view = {
        "parts": [{"name": "main", "seeds": seeds}], "test": "main", "unit": "test error (fraction)",
        "runs": [{"id": run, "link": f"runs/{run}.html"} for run in [*runs, "other"]], "text_changed": False,
    }  # fmt: skip
    return seed_table(view | changes, claim())


def test_each_arm_has_its_value_and_its_run():
    found = table([0.1, 0.12], ["a", "b"])
    assert (found["seed_arms"], found["seed_value"]) == (["decay 0.1", "no decay"], "difference (points)")
    (row,) = found["seed_values"]
    assert [(cell["text"], cell["runs"][0]["id"]) for cell in row["cells"]] == [
        ("10.00\u00a0%", "a"),
        ("12.00\u00a0%", "b"),
    ]
    assert row["value"] == "\u22122.00"
    assert [run["id"] for run in found["other_runs"]] == ["other"]


def test_runs_that_cannot_be_told_apart_by_arm_stand_together():
    for found in (
        table([], ["a", "b"]),
        table([0.1, 0.12], ["a", "b", "c"]),
        table([0.1, 0.12], ["a", "b"], text_changed=True),
    ):
        assert (found["seed_arms"], found["seed_value"]) == ([], "value (points)")
        assert [run["id"] for run in found["seed_values"][0]["runs"]][:2] == ["a", "b"]


def test_two_numbers_of_one_run_both_lead_to_it():
    (row,) = table([0.1, 0.12], ["a"])["seed_values"]
    assert [cell["runs"][0]["id"] for cell in row["cells"]] == ["a", "a"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"minus": None}, ["test error"]),
        ({"minus": {"grid": "elsewhere", "weight_decay": 0.1}}, ["main", "elsewhere"]),
        ({"minus": {"grid": "elsewhere", "weight_decay": 0}}, ["decay 0.1", "no decay"]),
        ({"arm": {"decay": "on"}, "minus": {"decay": "none"}}, ["decay on", "no decay"]),
        (
            {"arm": None, "minus": None, "terms": [{"arm": DECAY, "weight": 2}, {"arm": NONE, "weight": -1}]},
            ["2 \u00d7 decay 0.1", "no decay"],
        ),
        (
            {"arm": None, "minus": None, "terms": [
                {"arm": DECAY}, {"arm": DECAY, "weight": -1, "metric": "train_error"}]},
            ["test error", "train error"],
        ),
        (
            {"arm": None, "minus": None, "terms": [
                {"arm": DECAY}, {"arm": DECAY, "weight": -1, "metric": {"name": "test_error", "at": 0.5}}]},
            ["test error (1)", "test error (2)"],
        ),
    ],
)  # fmt: skip
def test_arms_are_named_by_what_distinguishes_them(changes, names):
    assert arm_names(Test.model_validate(TEST | {"arm": DECAY, "minus": NONE} | changes)) == names


@pytest.mark.parametrize(
    ("variant", "same"),
    [
        ({"arm": {"learning_rate": 0.1}}, True),
        ({"tests": [TEST | {"arm": DECAY | {"grid": "vgg"}, "minus": NONE | {"grid": "vgg"}, "name": "VGG"}]}, True),
        ({"tests": [TEST | {"arm": DECAY | {"weight_decay": 1}, "minus": NONE}]}, False),
        ({"tests": [TEST | {"arm": DECAY, "minus": NONE, "metric": "train_error"}]}, False),
        ({"tests": [TEST | {"arm": DECAY, "minus": NONE, "smallest_effect": 0.01}]}, False),
        ({"tests": [TEST | {"arm": {"grid": "main", "learning_rate": 1}, "minus": {"grid": "main"}}]}, False),
    ],
)
def test_a_variant_asks_the_same_or_another_question(variant, same):
    assert same_question(claim(), Variant.model_validate({"label": "elsewhere"} | variant)) is same


def test_the_row_of_a_claim_links_each_number(clone):
    root, layout = clone
    rep = load_replication(replication_file(root, "tiny_run"))
    (view, *_) = claim_views(rep, Workspace(root, "smoke", layout))
    text = str(claims_table([view]))
    seeds = re.search(r'<table class="seeds">.*?</table>', text, re.S)[0]
    rows = re.findall(r'<th scope="row">(\d)</th>(.*?)</tr>', seeds)
    assert [seed for seed, _ in rows] == list("012345")
    for _, row in rows:
        assert len(re.findall(r'<td class="n"><a href="runs/[^"]+\.html">[\d.]+\u00a0%</a></td>', row)) == 2
    assert re.findall(r'scope="col"[^>]*>([^<]+)<', seeds) == ["seed", "decay 0.1", "no decay", "difference (points)"]
    assert "The same test elsewhere" in text
    assert "Related tests" not in text
