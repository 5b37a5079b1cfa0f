"""An axis, a claim variant and a replication are each one new line or folder, and leave all else as it was."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from decaylab.cli.new import create
from decaylab.replication import claim_lines, list_replications, load_replication, plan_runs, replication_file, select
from decaylab.workflow.jobs import partition
from decaylab.workspace import SCALES

ROOT = Path(__file__).parents[2]
NAMES = list_replications(ROOT)
PER_PROCESS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["runs_per_process"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's replications that may be changed."""
    ignore = shutil.ignore_patterns("evidence")
    shutil.copytree(ROOT / "replications", tmp_path / "replications", ignore=ignore)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


class State(NamedTuple):
    """What a change elsewhere must not touch."""

    claims: dict[tuple[str, str], str]
    """digest of each claim of each replication"""
    runs: dict[tuple[str, str], str]
    """(scale, run id): the run's spec and what wants it"""
    jobs: dict[tuple[str, str], tuple[list[str], str, list, list]]
    """(scale, name): runs, digest of the code, what it starts from, what it saves"""


def state(root: Path) -> State:
    reps = select(root, "all")
    claims = {(rep.name, claim.id): claim.sha256() for rep in reps for claim in rep.claims}
    runs, jobs = {}, {}
    for scale in SCALES:
        planned = plan_runs(reps, scale)
        for run in planned.values():
            runs[scale, run.run_id] = json.dumps([run.spec.model_dump(mode="json"), sorted(run.wanted)])
        for job in partition(planned.values(), PER_PROCESS[scale]):
            jobs[scale, job.name] = (job.run_ids, job.code, job.parents, job.snapshots)
    return State(claims, runs, jobs)


def insert(path: Path, pattern: str, line: str) -> None:
    """Add one line after the first line that matches."""
    lines = path.read_text().splitlines()
    place = next(i for i, text in enumerate(lines) if re.fullmatch(pattern, text))
    path.write_text("\n".join([*lines[: place + 1], line, *lines[place + 1 :]]) + "\n")


def new_items(before: dict, after: dict) -> set:
    """Keys that were added; asserts that all others are as they were."""
    assert before.items() <= after.items()
    return after.keys() - before.keys()


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_is_one_line(copy, name):
    """A sweep over any key of the spec. It joins or splits the jobs that it is hashed into, and no others."""
    before = state(copy)
    rep = load_replication(replication_file(copy, name))
    base = next(grid.base for grid in rep.grids.values() if grid.start is None)
    sweep = {"label": "Sweep", "base": base, "axes": {"evaluation.log_every": [1, 3], "gradient_clip": [0.125]}}
    seeds = {"axes": sweep["axes"] | {"seed": [901, 902]}}
    insert(replication_file(copy, name), "grids:", f"  sweep: {json.dumps(sweep | seeds)}")
    after = state(copy)
    assert before.claims == after.claims
    added = new_items(before.runs, after.runs)
    assert {scale for scale, _ in added} == set(SCALES)
    for scale in SCALES:
        runs = [run_id for where, run_id in added if where == scale]
        assert len(runs) == 4
        gone = [key for key in before.jobs if key[0] == scale and key not in after.jobs]
        assert len(gone) <= len(runs)
        assert all(before.jobs[key] == after.jobs[key] for key in before.jobs.keys() - set(gone) if key[0] == scale)
        assert not gone or PER_PROCESS[scale] > 1


class Quoted(yaml.SafeDumper):
    """Numbers stay numbers, also as keys, and text like 1e-5 stays text."""


Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_keeps_the_runs_it_starts_from(copy, name):
    """A second value beside the present one: the runs that exist are the axis's first value."""
    before = state(copy)
    path = replication_file(copy, name)
    value = yaml.safe_load(path.read_text())
    grid = next(grid for grid in value["grids"].values() if "start" not in grid)
    grid["axes"]["clip"] = {"as before": {}, "tight": {"gradient_clip": 0.125}}
    path.write_text(yaml.dump(value, Dumper=Quoted, sort_keys=False))
    after = state(copy)
    assert before.claims == after.claims
    # children of the grid start from the new runs as well
    assert new_items(before.runs, after.runs)


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_variant_is_one_line(copy, name):
    before = state(copy)
    path = replication_file(copy, name)
    if "variants" not in yaml.safe_load(path.read_text()):
        insert(path, "", "variants:")
    insert(path, "variants:", "  elsewhere: {label: Elsewhere, arm: {grid: elsewhere}}")
    assert state(copy) == before, "until a claim names it"
    claim = load_replication(path).claims[-1]
    if claim.also:
        start = claim_lines(path)[claim.id] - 1
        lines = path.read_text().splitlines()
        place = next(i for i, line in enumerate(lines) if i > start and line.startswith("    also:"))
        inline = lines[place].replace("[", "[elsewhere, ", 1)
        lines[place : place + 1] = [inline] if "[" in lines[place] else [lines[place], "      - elsewhere"]
        path.write_text("\n".join(lines) + "\n")
    else:
        insert(path, f"  - id: {claim.id}", "    also: [elsewhere]")
    after = state(copy)
    assert {key for key in before.claims if before.claims[key] != after.claims[key]} == {(name, claim.id)}
    assert (after.runs, after.jobs) == (before.runs, before.jobs)
    added, *others = load_replication(path).claims[-1].also
    assert (added.label, added.arm, others) == ("Elsewhere", {"grid": "elsewhere"}, claim.also)


def test_a_replication_is_one_folder(copy):
    before = state(copy)
    create(copy, "added")
    after = state(copy)
    assert {name for name, _ in new_items(before.claims, after.claims)} == {"added"}
    runs = new_items(before.runs, after.runs)
    assert {json.loads(after.runs[key])[1][0] for key in runs} == {"added"}
    jobs = new_items(before.jobs, after.jobs)
    assert sorted(run_id for key in jobs for run_id in after.jobs[key][0]) == sorted(run_id for _, run_id in runs)
    shutil.rmtree(copy / "replications" / "added")
    assert state(copy) == before
