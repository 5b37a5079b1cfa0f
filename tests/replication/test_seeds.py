"""Seeds are added to single arms, in planned order, and change nothing that was planned before."""

import pytest

from decaylab.errors import InputError
from decaylab.replication import Replication, arm_key, expand, plan_runs, planned_seeds
from decaylab.replication.expansion import _axes_at
from decaylab.replication.schema import Grid, GridOverride

SPEC = {
    "data": {"kind": "images", "source": "procedural", "train_examples": 100, "test_examples": 50},
    "model": {"kind": "mlp"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 100,
    "batch_size": 10,
    "evaluation": {"every": 10, "log_every": 5},
}


@pytest.fixture
def rep() -> Replication:
    return Replication.model_validate(
        {
            "name": "tiny",
            "title": "Tiny",
            "question": "Does decay help?",
            "row": 1,
            "references": [{"id": "X", "title": "x", "url": "https://example.org", "locator": "1"}],
            "base": SPEC,
            "grids": {
                "main": {"label": "MLP", "axes": {"weight_decay": [0, 0.1], "seed": [0, 1, 5]}},
                "tuned": {
                    "label": "continued",
                    "start": {"grid": "main", "at": [0.5, 1.0]},
                    "base": {"steps": 10},
                },
            },
            "claims": [],
        }
    )


def seeds_of(runs, **where):
    return [p["seed"] for _, p, _ in runs if all(p.get(key) == value for key, value in where.items())]


def test_seeds_continue_the_list(rep):
    assert planned_seeds(rep.grids["main"], 6) == [0, 1, 5, 6, 7, 8]
    assert planned_seeds(rep.grids["main"], 2) == [0, 1, 5]


def test_only_the_named_arm_grows(rep):
    key = arm_key({"grid": "main", "weight_decay": 0.1, "seed": 0})
    runs = expand(rep, "paper", seeds={key: 5})
    assert seeds_of(runs, grid="main", weight_decay=0.1) == [0, 1, 5, 6, 7]
    assert seeds_of(runs, grid="main", weight_decay=0) == [0, 1, 5]
    assert seeds_of(runs, grid="tuned", weight_decay=0.1, start_at=0.5) == [0, 1, 5]


def test_earlier_runs_stay_and_new_parents_save_what_children_may_need(rep):
    before = plan_runs([rep], "paper")
    key = arm_key({"grid": "main", "weight_decay": 0.1})
    after = plan_runs([rep], "paper", seeds={"tiny": {key: 5}})
    assert before.keys() <= after.keys()
    assert all(after[run_id].spec == run.spec for run_id, run in before.items())
    added = [run.spec for run_id, run in after.items() if run_id not in before]
    assert [spec.seed for spec in added] == [6, 7]
    assert all(spec.snapshots == (50, 100) for spec in added)


def test_a_child_grows_after_its_parent(rep):
    parent = arm_key({"grid": "main", "weight_decay": 0})
    child = arm_key({"grid": "tuned", "weight_decay": 0, "start_at": 1.0})
    runs = expand(rep, "paper", seeds={parent: 4, child: 4})
    assert seeds_of(runs, grid="tuned", weight_decay=0, start_at=1.0) == [0, 1, 5, 6]
    assert seeds_of(runs, grid="tuned", weight_decay=0, start_at=0.5) == [0, 1, 5]


def test_a_first_look_with_fewer_seeds_does_not_bind_added_ones(rep):
    grid = rep.grids["main"].model_copy(update={"only": [{"weight_decay": 0.1, "seed": [0]}, {"weight_decay": 0}]})
    rep = rep.model_copy(update={"grids": {"main": grid}})
    assert seeds_of(expand(rep, "paper"), grid="main", weight_decay=0.1) == [0]
    key = arm_key({"grid": "main", "weight_decay": 0.1})
    assert seeds_of(expand(rep, "paper", seeds={key: 4}), grid="main", weight_decay=0.1) == [0, 1, 5, 6]


def test_a_multiple_of_a_replaced_axis_is_refused():
    """The multiple was ignored, and the labels' own values were trained."""
    grid = Grid(label="g", axes={"weight_decay": [0.1], "seed": [0]})
    over = GridOverride(arms={"weight_decay": "x 5"}, axes={"weight_decay": [0.2]})
    with pytest.raises(InputError, match=r"gpu\.arms\.weight_decay: axes\.weight_decay would replace"):
        _axes_at(grid, over, "gpu")
