"""The replications of this clone and the documented example: every scale expands, every claim finds its runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from decaylab.analysis.arms import check_claims
from decaylab.replication import expand, list_replications, load_replication, plan_runs, replication_file
from decaylab.workspace import SCALES

ROOT = Path(__file__).parents[2]


def _load(name):
    return load_replication(replication_file(ROOT, name))


@pytest.fixture
def example(tmp_path):
    text = (ROOT / "docs/add-a-replication.md").read_text(encoding="utf-8")
    file = tmp_path / "momentum_and_decay/replication.yaml"
    file.parent.mkdir()
    file.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    return load_replication(file)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", list_replications(ROOT))
def test_every_claim_finds_its_runs(name, scale):
    check_claims(_load(name), scale)


@pytest.mark.parametrize("name", list_replications(ROOT))
def test_arms_have_seeds_to_pair(name):
    for scale in ("laptop", "gpu", "paper"):
        seeds: dict[str, set[int]] = {}
        for spec, _, _ in expand(_load(name), scale):
            seeds.setdefault(spec.arm_id(), set()).add(spec.seed)
        assert min(map(len, seeds.values())) >= 3, scale


@pytest.mark.parametrize("name", list_replications(ROOT))
def test_each_has_a_readme_and_a_notebook(name):
    assert (ROOT / "replications" / name / "README.md").read_text(encoding="utf-8").startswith("# ")
    assert (ROOT / "notebooks" / f"{name}.ipynb").is_file()


def test_some_replications_are_the_headline():
    headline = [name for name in list_replications(ROOT) if _load(name).headline]
    assert 0 < len(headline) < 16


@pytest.mark.parametrize("scale", SCALES)
def test_runs_that_replications_share_are_the_same_experiment(scale):
    """Equal specs are trained once. Where two replications name the same axis, they must mean the same value by it."""
    for run in plan_runs([_load(name) for name in list_replications(ROOT)], scale).values():
        found = [parameters for several in run.wanted.values() for parameters in several]
        for axis in ("schedule", "weight_decay", "seed"):
            assert len({parameters[axis] for parameters in found if axis in parameters}) <= 1, run.run_id


@pytest.mark.parametrize("scale", SCALES)
def test_the_documented_example_resolves(example, scale):
    assert expand(example, scale)
    check_claims(example, scale)
