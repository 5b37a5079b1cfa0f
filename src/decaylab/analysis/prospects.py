"""Power before a run: the smallest effect that each claim could decide, and the cost of deciding the source's value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from decaylab.analysis import looks, power
from decaylab.analysis.archive import load_evidence
from decaylab.analysis.arms import RunIndex, common_seeds, most_seeds
from decaylab.analysis.readings import design_of, planned_looks
from decaylab.analysis.verdict import ClaimVerdict, VerdictFile
from decaylab.replication import Claim, Replication
from decaylab.workspace import Workspace


@dataclass(frozen=True)
class Prospect:
    """What a claim's first test could show at a scale."""

    claim: str
    """replication/claim"""
    unit: str
    seeds: int
    """the most seeds that it may be judged on"""
    deviation: float | None
    """standard deviation between seeds; None if no runs are on file"""
    known_from: int
    """seeds behind the deviation"""
    same_runs: bool
    """whether it is that of runs planned now, or of runs made at other settings"""
    detectable: float | None
    """smallest true effect that is shown to exceed the smallest effect that matters, with a probability of 80 %"""
    source: float | None
    """the source's own value"""
    source_seeds: int | None
    """seeds that decide the source's value with a probability of 80 %; None if no planned number does"""
    source_minutes: float | None
    """core-minutes that these seeds take"""


def prospects(rep: Replication, workspace: Workspace, seconds: Mapping[str, float]) -> list[Prospect]:
    """Prospects of all claims that may be judged at the workspace's scale.

    Standard deviations come from the verdicts here, else from the evidence at this scale with the most seeds.

    Args:
        seconds: predicted time of each planned run, by id.

    Raises:
        InputError: a verdict file or evidence is damaged, or an arm is not in the plan.
    """
    files = [VerdictFile.read(workspace.layout.verdicts(workspace.scale, rep.name))]
    files += [item["verdicts"] for item in load_evidence(workspace.root, rep.name) if item["scale"] == workspace.scale]
    known = [verdict for file in files if file for verdict in file.claims]
    seeds = most_seeds(rep, workspace.scale, workspace.choices)
    index = RunIndex.of(rep, workspace.scale, workspace.choices, seeds)
    return [
        _prospect(rep, claim, index, *_values(claim, known, {run.id for run in index.runs}), seconds)
        for claim in rep.claims
        if workspace.scale in claim.scales
    ]


def _values(claim: Claim, known: Iterable[ClaimVerdict], planned: set[str]) -> tuple[list[float], bool]:
    """Values of the first test, seed by seed, and whether they are of planned runs; of these, as many as there are."""
    found: tuple[list[float], bool] = [], False
    for verdict in known:
        if verdict.claim == claim.id:
            seeds = [item for item in verdict.parts[0].seeds if item.value is not None]
            same = bool(seeds) and all(planned.issuperset(item.runs) for item in seeds)
            candidate = [item.value for item in seeds], same
            found = max(found, candidate, key=lambda item: (item[1], len(item[0])))
    return found


def _prospect(
    rep: Replication, claim: Claim, index: RunIndex, values: list[float], same: bool, seconds: Mapping[str, float]
) -> Prospect:
    test = claim.tests[0]
    terms = index.terms(test, {}, index.where(claim, test))
    order = common_seeds(terms)
    planned = planned_looks(claim, index.scale)
    cells = [cell for term in terms for cell in term.arm.cells.values()]
    own = [seed for seed in order if all(cell[seed].id in seconds for cell in cells)]
    count = planned[-1] if planned else len(own)
    design = design_of(planned, max(1, count))
    question = looks.Test(test.direction, test.smallest_effect, test.kind)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    detectable = source_seeds = None
    source = claim.source_value.value
    if deviation and test.kind == "mean" and count > 1:
        upper = power.upper_deviation(deviation, len(values))
        detectable = power.detectable(question, upper, count, design.confidence)
        source_seeds = power.seeds_to_decide(question, source, upper, design) if source is not None else None
    each = sum(seconds[cell[own[0]].id] for cell in cells) if own else 0.0
    return Prospect(
        claim=f"{rep.name}/{claim.id}",
        unit=claim.unit,
        seeds=count,
        deviation=deviation,
        known_from=len(values),
        same_runs=same,
        detectable=detectable,
        source=source,
        source_seeds=source_seeds,
        source_minutes=source_seeds * each / 60 if source_seeds else None,
    )
