"""Added seeds: where they are recorded, and that everybody who plans sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import arm_key, expand, expand_here, plan_here, record_seeds, seeds_of, select
from decaylab.seeds import Round, added_seeds, changing_seeds, read_seeds, seeds_file
from decaylab.sources import Choice
from decaylab.workspace import Workspace

ROOT = Path(__file__).parent.parent


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(ROOT, "laptop", Layout(tmp_path / "results", tmp_path / "reports"))


@pytest.fixture
def rep():
    """A replication with runs that start from others."""
    return next(rep for rep in select(ROOT, "all") if any(grid.start for grid in rep.grids.values()))


def test_nothing_is_recorded_at_first(workspace, rep):
    assert added_seeds(workspace) == {}
    assert [run[0] for run in expand_here(rep, workspace)] == [run[0] for run in expand(rep, "laptop")]


def test_the_record_is_kept_for_each_choice_of_data(workspace):
    other = Workspace(ROOT, "laptop", workspace.layout, {"images": Choice("cifar10")})
    with changing_seeds(workspace) as record:
        record.seeds["tiny"] = {"arm": 10}
        record.rounds["key"] = Round(2, True)
    with changing_seeds(other) as record:
        record.seeds["tiny"] = {"arm": 16}
    assert read_seeds(workspace).seeds == {"tiny": {"arm": 10}}
    assert read_seeds(workspace).rounds == {"key": Round(2, True)}
    assert read_seeds(other).seeds == {"tiny": {"arm": 16}}
    assert read_seeds(workspace.at("smoke")).seeds == {}


def test_nothing_is_written_after_an_error(workspace):
    def fail():
        with changing_seeds(workspace) as record:
            record.seeds["tiny"] = {"arm": 10}
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert added_seeds(workspace) == {}


def test_a_damaged_record_is_one_line(workspace):
    path = seeds_file(workspace)
    path.parent.mkdir(parents=True)
    path.write_text('{"": {"seeds": 3}}')
    with pytest.raises(InputError, match=r"seeds/laptop\.json: expected added seeds"):
        added_seeds(workspace)


def test_runs_of_added_seeds_are_planned_with_what_they_start_from(workspace, rep):
    planned = expand(rep, "laptop")
    child = next(run for run in planned if run[0].start)
    arm = arm_key(child[1])
    parent = next(arm_key(run[1]) for run in planned if run[0].run_id == child[0].start.run.run_id)
    longer = expand(rep, "laptop", seeds={arm: 9, parent: 9})
    new = {run[0].run_id for run in longer} - {run[0].run_id for run in planned}
    assert new
    child_ids = [run[0].run_id for run in longer if run[0].run_id in new and run[0].start and arm_key(run[1]) == arm]
    # the runs it starts from are found by themselves
    assert seeds_of(rep, "laptop", None, child_ids) == {arm: 9, parent: 9}
    record_seeds(rep, workspace, child_ids)
    assert {run[0].run_id for run in expand_here(rep, workspace)} == {run[0].run_id for run in longer}
    assert new <= plan_here([rep], workspace).keys()


def test_runs_of_the_plan_and_unknown_ones_add_nothing(workspace, rep):
    record_seeds(rep, workspace, [expand(rep, "laptop")[0][0].run_id, "mlp-unknown"])
    assert added_seeds(workspace) == {}
    assert not seeds_file(workspace).exists()
