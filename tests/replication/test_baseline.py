"""Run ids and claim digests that must outlive every new feature: evidence is filed under them."""

import json
from pathlib import Path

import pytest

from decaylab.replication import expand, load_replication, replication_file

ROOT = Path(__file__).parents[2]
BASELINE = json.loads(Path(__file__).with_name("baseline.json").read_text())


@pytest.mark.parametrize("key", BASELINE["ids"])
def test_run_ids_are_those_of_the_baseline(key):
    name, scale = key.split()
    rep = load_replication(replication_file(ROOT, name))
    assert sorted(spec.run_id.rsplit("-", 1)[1] for spec, _, _ in expand(rep, scale)) == BASELINE["ids"][key].split()


@pytest.mark.parametrize("name", BASELINE["claims"])
def test_claim_digests_are_those_of_the_baseline(name):
    rep = load_replication(replication_file(ROOT, name))
    assert {claim.id: claim.sha256()[:16] for claim in rep.claims} == BASELINE["claims"][name]
