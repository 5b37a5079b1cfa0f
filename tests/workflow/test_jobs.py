"""Which runs share a process, what starts first, and what a job's parameters say."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.data import prepared_key
from decaylab.replication import PlannedRun
from decaylab.spec import parse_spec
from decaylab.workflow import lock, machine
from decaylab.workflow.jobs import data_groups, partition, priorities
from decaylab.workflow.plan import Plan, Untracked

TEXT = {"kind": "text"}
IMAGES = {"kind": "images", "train_examples": 20, "test_examples": 20}


def planned(decay: float, seed: int, names: str, kind: str = "gpt", start: PlannedRun | None = None) -> PlannedRun:
    spec = parse_spec(
        {
            "data": TEXT if kind == "gpt" else IMAGES,
            "model": {"kind": kind},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "decay": {"weight_decay": decay},
            "steps": 10,
            "batch_size": 2,
            "evaluation": {"every": 5, "log_every": 5},
            "seed": seed,
        }
        | ({"start": {"run": start.spec.model_dump(mode="json"), "step": 5}} if start else {}),
        "here",
    )
    return PlannedRun(spec, {name: [{}] for name in names})


def by_id(*runs: PlannedRun) -> dict[str, PlannedRun]:
    return {run.run_id: run for run in runs}


RUN = st.builds(
    planned,
    st.sampled_from([0.0, 0.1, 0.2, 0.3]),
    st.integers(0, 5),
    st.sampled_from(["a", "b", "ab"]),
    st.sampled_from(["gpt", "vgg"]),
)
RUNS = st.lists(RUN, max_size=30).map(lambda runs: by_id(*runs))
LIMIT = st.integers(1, 9)


@given(RUNS, LIMIT)
def test_every_run_is_in_one_job_with_its_like(runs, limit):
    jobs = partition(runs.values(), limit)
    assert sorted(run_id for job in jobs for run_id in job.run_ids) == sorted(runs)
    assert len({job.name for job in jobs}) == len(jobs)
    for job in jobs:
        assert 0 < len(job.runs) <= limit
        assert len({(run.spec.model.kind, tuple(run.wanted)) for run in job.runs}) == 1


@given(RUNS, LIMIT)
def test_an_arm_that_fits_is_whole(runs, limit):
    arms: dict[tuple, list[str]] = {}
    for run in runs.values():
        arms.setdefault((run.spec.arm_id(), *run.wanted), []).append(run.run_id)
    for job in partition(runs.values(), limit):
        for members in arms.values():
            if len(members) <= limit:
                assert len(set(members) & set(job.run_ids)) in (0, len(members))


@given(RUNS, RUN, LIMIT)
def test_a_new_run_changes_one_job(runs, new, limit):
    if new.run_id in runs:
        return
    before = {tuple(job.run_ids) for job in partition(runs.values(), limit)}
    after = {tuple(job.run_ids) for job in partition([*runs.values(), new], limit)}
    assert len(before - after) <= 1
    changed = {run_id for ids in after - before for run_id in ids}
    assert changed == {new.run_id}.union(*(before - after))


@given(RUNS, LIMIT)
def test_the_order_of_the_runs_does_not_matter(runs, limit):
    forwards = [job.run_ids for job in partition(runs.values(), limit)]
    assert forwards == [job.run_ids for job in partition(reversed(list(runs.values())), limit)]


def test_children_wait_for_their_parents():
    parents = [planned(0.1, seed, "a") for seed in range(2)]
    children = [planned(0.0, seed, "a", start=parent) for seed, parent in enumerate(parents)]

    first, second = sorted(partition([*children, *parents], 9), key=lambda job: len(job.parents))

    assert first.parents == []
    assert second.parents == sorted(parent.run_id for parent in parents)
    # the parents' own work and that of the children still hangs on them
    ranks = priorities([first, second])
    assert ranks[first.name] > ranks[second.name]


def test_the_longest_job_starts_first():
    small, large = planned(0.1, 0, "a", kind="mlp"), planned(0.1, 0, "a", kind="gpt")
    ranks = priorities(partition([small, large], 1))
    assert sorted(ranks, key=ranks.get) == [
        next(name for name in ranks if "mlp" in name),
        next(name for name in ranks if "gpt" in name),
    ]


def test_data_of_the_same_replications_is_prepared_together():
    runs = [planned(0, 0, "a"), planned(0, 1, "b", kind="vgg"), planned(0, 2, "b", kind="mlp")]
    groups = data_groups(runs)
    assert sorted(len(keys) for keys in groups.values()) == [1, 1]
    assert all(name.startswith("data_") for name in groups)


def test_data_are_asked_for_by_the_replications_that_run():
    runs = by_id(planned(0, 0, "a"), planned(0, 1, "b"))
    keys = {prepared_key(run.spec.data) for run in runs.values()}
    plan = SimpleNamespace(planned=runs, chosen=["a"])
    assert Plan.needing(plan, keys, []) == ["a"], "b, which may ask for more than there is, does not run"
    assert Plan.needing(plan, keys, ["b"]) == ["b"]
    plan.chosen = ["c"]
    assert Plan.needing(plan, keys, ["all"]) == ["a", "b"]


def test_options_without_a_value_are_left_out_and_others_are_quoted():
    assert str(Untracked("a b", images=None, text="x y", threads=2)) == "'a b' --text 'x y' --threads 2"
    assert not isinstance(Untracked(), str), "snakemake compares text between executions"


def test_a_lock_is_removed_only_if_nobody_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "_held", held := [])
    left = tmp_path / "locks" / "0.input.lock"
    left.parent.mkdir()
    assert lock.clear_stale_lock(tmp_path) is False
    left.touch()
    # the first one still holds its lock: same process, other open file
    assert lock.clear_stale_lock(tmp_path) is False
    assert left.exists()
    for file in held:
        file.close()
    assert lock.clear_stale_lock(tmp_path) is True
    assert not left.exists()
    held[-1].close()


def test_jobs_find_the_programs_of_this_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    machine.find_programs()
    machine.find_programs()
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(machine.sys.executable).parent), "/usr/bin"]
