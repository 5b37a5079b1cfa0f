"""Which runs come first: those that verdicts read, with the seeds of the first look."""

from __future__ import annotations

from collections.abc import Mapping

from decaylab.analysis.arms import TUNING_SEEDS, ArmRun, ArmTerm, RunIndex, needs_tuning, split_seeds
from decaylab.replication import Claim, Parameters, Replication, arm_key, expand, grids_at
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale

Expanded = list[tuple[RunSpec, Parameters, int]]
"""spec, parameters and priority of each run, as `replication.expand` gives them"""


def adds_seeds(rep: Replication, scale: Scale) -> bool:
    """Whether any claim of the replication gets more seeds at this scale until it is decided."""
    return any(_looks(claim, scale) for claim in rep.claims)


def first_look(rep: Replication, scale: Scale, choices: Mapping[str, Choice]) -> Expanded:
    """The runs of a replication that are trained before any claim is judged.

    Where no claim adds seeds, these are all its runs. Otherwise they are the runs that the claims' own tests read at
    the first look, and their parents; runs that only variants or figures read come last.
    """
    planned = expand(rep, scale, dict(choices))
    first = [_looks(claim, scale)[0] for claim in rep.claims if _looks(claim, scale)]
    if not first:
        return planned
    arms = {arm_key(parameters) for _, parameters, _ in planned}
    possible = expand(rep, scale, dict(choices), seeds=dict.fromkeys(arms, max(first) + TUNING_SEEDS))
    runs = [ArmRun(spec.run_id, spec, parameters) for spec, parameters, _ in possible]
    index = RunIndex(rep, scale, runs, set(grids_at(rep, scale)))
    ids = {spec.run_id for spec, _, _ in planned}
    wanted: set[str] = set()
    for claim in rep.claims:
        for test in claim.tests if scale in claim.scales else ():
            terms = index.terms(test, {}, index.where(claim, test))
            if looks := _looks(claim, scale):
                wanted |= _of_first_look(terms, looks[0])
            else:
                wanted |= ids & {run_id for term in terms for run_id in term.arm.run_ids()}
    for spec, _, _ in reversed(possible):  # children before their parents
        if spec.run_id in wanted:
            wanted |= {parent.run_id for parent in spec.parents}
    return [item for item in possible if item[0].run_id in wanted]


def _looks(claim: Claim, scale: Scale) -> list[int]:
    return (claim.looks or {}).get(scale, []) if scale in claim.scales else []


def _of_first_look(terms: list[ArmTerm], look: int) -> set[str]:
    """Runs of the first seeds; where settings must be chosen first, only the runs that choose them."""
    tuning, seeds = split_seeds(terms)
    if needs_tuning(terms):
        terms, seeds = [term for term in terms if needs_tuning([term])], tuning
    return {cell[seed].id for term in terms for cell in term.arm.cells.values() for seed in seeds[: max(look, 0)]}
