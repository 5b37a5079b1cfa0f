"""The runs of a workspace: those of replication.yaml, and the seeds that were added to its arms."""

from __future__ import annotations

from collections.abc import Iterable

from decaylab.replication.expansion import (
    PlannedRun,
    arm_key,
    expand,
    grids_at,
    plan_runs,
    planned_seeds,
    seeded,
)
from decaylab.replication.schema import Parameters, Replication
from decaylab.seeds import added_seeds, changing_seeds
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale, Workspace

MOST_SEEDS = 64
"""runs of later seeds are not recognised"""


def expand_here(rep: Replication, workspace: Workspace) -> list[tuple[RunSpec, Parameters, int]]:
    """`expand` at the workspace's scale, with its data and the seeds that were added there."""
    return expand(rep, workspace.scale, dict(workspace.choices), seeds=added_seeds(workspace).get(rep.name))


def plan_here(reps: Iterable[Replication], workspace: Workspace) -> dict[str, PlannedRun]:
    """`plan_runs` at the workspace's scale, with its data and the seeds that were added there."""
    return plan_runs(list(reps), workspace.scale, dict(workspace.choices), added_seeds(workspace))


def seeds_of(
    rep: Replication, scale: Scale, choices: dict[str, Choice] | None, run_ids: Iterable[str]
) -> dict[str, int]:
    """The added seeds that these runs belong to, as `expand` takes them. Unknown runs are left out."""
    planned = expand(rep, scale, choices)
    missing = set(run_ids) - {spec.run_id for spec, _, _ in planned}
    arms = {arm_key(parameters) for _, parameters, _ in planned}
    found: dict[str, int] = {}
    for most in (16, MOST_SEEDS):
        if not missing:
            break
        runs = {spec.run_id: (spec, p) for spec, p, _ in expand(rep, scale, choices, seeds=dict.fromkeys(arms, most))}
        grids = grids_at(rep, scale)
        waiting = [runs[run_id] for run_id in missing & runs.keys()]
        missing -= runs.keys()
        while waiting:
            spec, parameters = waiting.pop()
            order = planned_seeds(seeded(grids[parameters["grid"]], grids), most)
            key, count = arm_key(parameters), order.index(parameters["seed"]) + 1
            found[key] = max(found.get(key, 0), count)
            waiting += [runs[parent.run_id] for parent in spec.parents]
    return found


def record_seeds(rep: Replication, workspace: Workspace, run_ids: Iterable[str]) -> None:
    """Record the added seeds that finished runs are of, so that they belong to the workspace's plan."""
    found = seeds_of(rep, workspace.scale, dict(workspace.choices), run_ids)
    if found:
        with changing_seeds(workspace) as record:
            arms = record.seeds.setdefault(rep.name, {})
            arms |= {arm: max(count, arms.get(arm, 0)) for arm, count in found.items()}
