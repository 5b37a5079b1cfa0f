"""Which runs come first: those that verdicts read, with the seeds of the first look."""

from __future__ import annotations

from collections.abc import Mapping

from decaylab.analysis.arms import TUNING_SEEDS, ArmRun, ArmTerm, RunIndex, needs_tuning, split_seeds
from decaylab.replication import Replication, arm_key, expand, grids_at
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale


def first_look(rep: Replication, scale: Scale, choices: Mapping[str, Choice]) -> dict[str, RunSpec] | None:
    """The runs of a replication that are trained before any claim is judged, by id, parents included.

    Returns:
        None if no claim of the replication adds seeds at this scale; then all its runs are trained.
    """
    sequential = [claim.looks[scale][0] for claim in rep.claims if scale in claim.scales and scale in (claim.looks or {})]
    if not sequential:
        return None
    arms = {arm_key(parameters) for _, parameters, _ in expand(rep, scale, dict(choices))}
    seeds = dict.fromkeys(arms, max(sequential) + TUNING_SEEDS)
    runs = [ArmRun(spec.run_id, spec, found) for spec, found, _ in expand(rep, scale, dict(choices), seeds=seeds)]
    index = RunIndex(rep, scale, runs, set(grids_at(rep, scale)))
    planned = {spec.run_id for spec, _, _ in expand(rep, scale, dict(choices))}
    wanted: set[str] = set()
    for claim in rep.claims:
        if scale not in claim.scales:
            continue
        for test in claim.tests:
            terms = index.terms(test, {}, index.where(claim, test))
            if scale in (claim.looks or {}):
                wanted |= _of_look(terms, claim.looks[scale][0])
            else:
                wanted |= {run_id for term in terms for run_id in term.arm.run_ids()} & planned
    specs = {run.id: run.spec for run in runs}
    for run_id in list(wanted):
        spec = specs[run_id]
        while spec.start:
            wanted.add(spec.start.run.run_id)
            spec = spec.start.run
    return {run_id: spec for run_id, spec in specs.items() if run_id in wanted}


def _of_look(terms: list[ArmTerm], look: int) -> set[str]:
    """Runs of the first seeds; where settings must be chosen first, only those that choose them."""
    tuning, seeds = split_seeds(terms)
    if needs_tuning(terms):
        terms, seeds = [term for term in terms if needs_tuning([term])], tuning
    else:
        seeds = seeds[:look]
    return {cell[seed].id for term in terms for cell in term.arm.cells.values() for seed in seeds}
