import json
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime

import pytest

from decaylab.analysis import judge, preregistration
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import load_replication, replication_file
from decaylab.workspace import Workspace


def lines(lab):
    return [json.loads(line) for line in lab.layout.claims.read_text().splitlines()]


def test_each_version_of_a_claim_is_registered_once(lab):
    rep = lab.replication({}, {"id": "second"})
    assert preregistration.register_claims([rep], lab.workspace()) == 2
    assert preregistration.register_claims([rep], lab.workspace()) == 0
    first = lines(lab)
    assert [line["claim"] for line in first] == ["decay-helps", "second"]
    assert first[0]["replication"] == "tiny"
    assert first[0]["sha256"] == rep.claims[0].sha256()
    assert first[0]["commit"] is None, "no repository here"
    assert preregistration.register_claims([lab.replication(lab.test(smallest_effect=0.001))], lab.workspace()) == 1
    assert lines(lab)[:2] == first, "what stands is never changed"


def test_notes_and_source_values_may_still_be_improved(lab):
    preregistration.register_claims([lab.replication()], lab.workspace())
    better = lab.replication({"note": "n", "locator": "Fig 2", "source_value": {"text": "corrected"}})
    assert preregistration.register_claims([better], lab.workspace()) == 0


@pytest.mark.parametrize(
    ("started_at", "before"),
    [("2026-01-01T12:00:00+00:00", False), ("2026-01-02T12:00:00.9+00:00", True), ("2026-01-03T00:00:00", True)],
)
def test_a_verdict_says_whether_the_text_is_older_than_the_runs(lab, started_at, before):
    rep = lab.replication()
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.2}, started_at=started_at)
    line = {
        "replication": "tiny",
        "claim": "decay-helps",
        "sha256": rep.claims[0].sha256(),
        "registered_at": "2026-01-02T12:00:00+00:00",
    }
    lab.layout.claims.write_text(json.dumps(line) + "\n")
    (claim,) = judge.judge(rep, lab.workspace()).claims
    assert (claim.registered_at, claim.registered_before_runs) == (line["registered_at"], before)
    lab.layout.claims.unlink()
    (claim,) = judge.judge(rep, lab.workspace()).claims
    assert claim.registered_before_runs is False, "a registry that was deleted helps nobody"


def test_a_changed_test_is_a_new_claim(lab):
    rep = lab.replication()
    preregistration.register_claims([rep], lab.workspace())
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.2}, started_at=datetime.now(UTC).isoformat())
    assert judge.judge(rep, lab.workspace()).claims[0].registered_before_runs is True
    old = lines(lab)[0] | {"registered_at": "2999-01-01T00:00:00+00:00"}
    changed = lab.replication(lab.test(smallest_effect=0.02))
    later = old | {"sha256": changed.claims[0].sha256()}
    with open(lab.layout.claims, "a") as file:
        file.write(json.dumps(later) + "\n")
    assert judge.judge(changed, lab.workspace()).claims[0].registered_before_runs is False


def test_without_runs_nothing_came_before(lab):
    assert judge.judge(lab.replication(), lab.workspace()).claims[0].registered_before_runs is True


@pytest.mark.parametrize("text", ["{", "[]", '{"replication": "tiny"}', '{"replication":"t","claim":"c","sha256":"s"}'])
def test_a_damaged_registry_is_one_line(lab, text):
    rep = lab.replication()
    preregistration.register_claims([rep], lab.workspace())
    with open(lab.layout.claims, "a") as file:
        file.write(text + "\n")
    with pytest.raises(InputError, match=r"claims.jsonl:2: expected JSON with replication, claim, sha256") as error:
        preregistration.register_claims([rep], lab.workspace())
    assert "\n" not in str(error.value)


def register(arguments):
    root, results = arguments
    rep = load_replication(replication_file(root, "tiny"))
    return preregistration.register_claims([rep], Workspace(root, layout=Layout(results)))


def test_processes_may_register_at_once(lab):
    lab.replication(*({"id": f"claim-{i}"} for i in range(20)))
    with ProcessPoolExecutor(4) as pool:
        added = list(pool.map(register, [(lab.root, lab.layout.results)] * 8))
    assert sum(added) == 20
    assert len(lines(lab)) == 20
