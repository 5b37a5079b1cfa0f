import json
from pathlib import Path

import pytest

from decaylab.analysis.archive import read_manifest, read_origin
from decaylab.analysis.restoring import restore, restored_verdicts
from decaylab.analysis.verdict import VERDICTS, ClaimVerdict, TestResult, VerdictFile
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import load_replication, replication_file

ROOT = Path(__file__).parents[2]
RECORDS = sorted(ROOT.glob("replications/*/evidence/*.json"))


def part(name, verdict, estimate, **fields):
    interval = None if estimate is None else (estimate - 0.01, estimate + 0.01)
    fields = {"direction": "below", "smallest_effect": 0.005, "n": 3} | fields
    return TestResult(name=name, verdict=verdict, estimate=estimate, interval=interval, **fields)


def claim(verdict, *parts, **fields):
    source = {"value": -0.04, "text": "14.6 -> 10.4 %"}
    fields = {"source_value": source, "difference_from_source": 0.01} | fields
    return ClaimVerdict(claim="c", scale="laptop", verdict=verdict, parts=list(parts), **fields)


@pytest.mark.parametrize(
    ("verdict", "shown"),
    [("contradicted", "later"), ("inconclusive", "open"), ("reproduced", "early"), ("not run", "absent")],
)
def test_the_numbers_shown_are_those_of_the_test_that_decides(verdict, shown):
    """README once printed -0.032 [-0.072, 0.009] as contradicted: the first test's numbers, the second's verdict."""
    parts = [
        part("early", "reproduced", -0.03),
        part("open", "inconclusive", 0.0, direction="within"),
        part("later", "contradicted", 0.05, n=5),
        part("absent", "not run", None, n=0),
    ]
    found = claim(verdict, *parts)
    deciding = next(item for item in parts if item.name == shown)
    value = found.to_json()
    assert (value["test"], value["estimate"], value["n"]) == (shown, deciding.estimate, deciding.n)
    assert (value["interval"], value["direction"]) == (
        deciding.interval and list(deciding.interval),
        deciding.direction,
    )
    # the source's number is of the first test, and is no match for another one's estimate
    first = shown == "early"
    assert (value["source_value"]["value"], value["difference_from_source"]) == (
        (-0.04, 0.01) if first else (None, None)
    )
    assert value["source_value"]["text"] == "14.6 -> 10.4 %"


def test_a_file_is_read_as_it_was_written(tmp_path):
    parts = [part("a", "reproduced", -0.03), part("b", "contradicted", 0.05)]
    variant = {"label": "VGG", "verdict": "reproduced", "parts": parts[:1]}
    claims = [claim("contradicted", *parts, also=[variant]), claim("not run", part("a", "not run", None))]
    file = VerdictFile(replication="tiny", scale="laptop", commit="abc", claims=claims)
    path = file.write(Layout(tmp_path))
    assert VerdictFile.read(path) == file
    assert VerdictFile.read(path.with_name("absent.json")) is None
    value = json.loads(path.read_text())
    assert value["counts"] == dict.fromkeys(VERDICTS, 0) | {"contradicted": 1, "not run": 1}
    assert value["claims"][0]["also"][0]["estimate"] == -0.03
    keys = {"claim", "verdict", "estimate", "interval", "n", "source_value", "scale"}
    assert all(keys <= item.keys() for item in value["claims"])


def test_a_file_without_parts_is_read():
    old = {
        "claim": "c", "verdict": "reproduced", "estimate": -0.03, "interval": [-0.04, -0.02], "n": 3,
        "scale": "laptop", "direction": "below", "smallest_effect": 0.01,
    }  # fmt: skip
    file = VerdictFile.parse({"replication": "tiny", "scale": "laptop", "claims": [old]}, "file")
    assert (file.claims[0].estimate, file.claims[0].interval, file.claims[0].n) == (-0.03, (-0.04, -0.02), 3)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "file: expected a JSON object with a list `claims`"),
        ({"claims": [], "scale": "laptop"}, "file: replication: this key is required"),
        ({"claims": [{"claim": "c"}], "replication": "r", "scale": "laptop"}, "this key is required"),
    ],
)
def test_a_damaged_file_is_one_line(value, words):
    with pytest.raises(InputError, match=words) as error:
        VerdictFile.parse(value, "file")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_filed_evidence_keeps_its_verdicts(path):
    """What was filed before verdicts were a type reads as the same verdicts, claim by claim."""
    stored = json.loads(path.read_text())["verdicts"]
    verdicts = read_manifest(path, ROOT)["verdicts"]
    assert verdicts.counts == dict.fromkeys(VERDICTS, 0) | stored["counts"]
    for found, old in zip(verdicts.claims, stored["claims"], strict=True):
        assert (found.claim, found.verdict, found.reason) == (old["claim"], old["verdict"], old["reason"])
        for ours, theirs in zip(found.parts, old["parts"], strict=True):
            new = ours.model_dump(mode="json")
            theirs["kind"] = theirs["kind"].replace("rate", "proportion")
            for key in theirs.keys() - {"chosen", "seeds"}:
                assert new[key] == theirs[key], key
            for item, value in zip(new["seeds"], theirs["seeds"], strict=True):
                assert {key: item[key] for key in value} == value  # older files lack the values of single arms
            for setting, chosen in zip(new["chosen"], theirs["chosen"], strict=True):
                assert {key: setting[key] for key in chosen} == chosen
        assert [variant.verdict for variant in found.also] == [variant["verdict"] for variant in old["also"]]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_restored_evidence_keeps_the_verdicts_of_its_rule(path, tmp_path):
    layout = Layout(tmp_path / "results", tmp_path / "reports")
    restore(path.stem, layout, ROOT)
    rep = load_replication(replication_file(ROOT, path.parents[1].name))
    filed = read_manifest(path, ROOT)["verdicts"]
    found = restored_verdicts(rep, path.stem, read_origin(layout).workspace(layout, ROOT))
    filed_verdicts = {claim.claim: claim.verdict for claim in filed.claims}
    # claims that are younger than the file have no runs in it
    assert {claim.claim: claim.verdict for claim in found.claims if claim.verdict != "not run"} == {
        name: verdict for name, verdict in filed_verdicts.items() if verdict != "not run"
    }
    assert filed_verdicts.keys() <= {claim.claim for claim in found.claims}
    old = [claim for claim in found.claims if claim.rule == 1]
    assert all(claim.rule_note.startswith("Judged under the earlier rule") for claim in old)
    assert not any(claim.rule_note for claim in found.claims if claim.rule > 1)
