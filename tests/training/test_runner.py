"""Which runs are trained together, and in which order."""

import pytest

from decaylab.files import Layout
from decaylab.spec import parse_spec
from decaylab.training.learner import stackable
from decaylab.training.loop import Options
from decaylab.training.runner import in_groups, in_order, train_all
from tests.training.cases import TEXT, spec


def child_of(parent, **changes):
    start = {"run": parent.model_dump(mode="json", exclude={"snapshots"}), "step": 6}
    return spec(TEXT, start=start, **changes)


def test_like_runs_are_grouped_up_to_the_limit():
    runs = [spec(TEXT, seed=seed) for seed in range(5)] + [spec(TEXT, steps=20)]
    groups = in_groups(runs, lambda _: 2)
    assert [[run.seed for run in group] for group in groups] == [[0, 1], [2, 3], [4], [0]]
    assert [len(group) for group in in_groups(runs, lambda _: 1)] == [1] * 6
    with_dropout = [spec(TEXT, seed=seed, model={"dropout": 0.1}) for seed in range(3)]
    assert [len(group) for group in in_groups(with_dropout, lambda _: 8)] == [1, 1, 1]


def test_parents_come_before_children_and_never_beside_them():
    parents = [spec(TEXT, seed=seed) for seed in range(4)]
    children = [child_of(parent, seed=parent.seed) for parent in parents]
    # wanted in an order in which each parent is followed by its child
    specs = in_order([run for pair in zip(parents, children, strict=True) for run in pair], {})
    assert stackable(parents[0]) == stackable(children[0])
    groups = in_groups(specs, lambda _: 3)
    assert sorted(run.run_id for group in groups for run in group) == sorted(run.run_id for run in specs)
    finished = set()
    for group in groups:
        for run in group:
            assert run.start is None or run.start.run.run_id in finished
        finished |= {run.run_id for run in group}


@pytest.mark.parametrize("together", [1, 3, lambda run: 2])
def test_all_are_trained_whatever_the_grouping(tmp_path, together):
    parent = spec(TEXT, seed=1, snapshots=[6])
    runs = [spec(TEXT), parent, child_of(parent, seed=2), child_of(parent, seed=3)]
    reports = []
    options = Options(progress=lambda run_id, *_: reports.append(run_id))
    assert train_all(in_order(runs, {}), Layout(tmp_path), options, together) == 4
    for run in runs:
        assert parse_spec(run.model_dump(mode="json"), "test").run_id == run.run_id
        assert Layout(tmp_path).summary(run.run_id).exists()
