"""Preregistered preconditions: whether a claim can be tested here, whichever way it would come out."""

from __future__ import annotations

import operator

from decaylab.analysis.arms import BEST, RunIndex, Seed, Selector
from decaylab.analysis.metrics import evaluate
from decaylab.analysis.results import Results
from decaylab.analysis.verdict import PreconditionResult
from decaylab.errors import InputError
from decaylab.regime import LABELS, regime_of
from decaylab.replication import Claim, Precondition

REGIME = "regime."
"""prefix of metrics that are computed from specs, without any run"""


def check_preconditions(
    claim: Claim, over: Selector, seeds: list[Seed], index: RunIndex, results: Results
) -> list[PreconditionResult]:
    """The preconditions of a claim, or of its variant with the parameters `over`.

    A parameter that the variant sets to `best` keeps the value that the precondition gives it.

    Args:
        seeds: those that are judged. Metrics of runs are means over them; without any they are not known yet.

    Raises:
        InputError: an arm is not in the plan, a run lacks the metric, or a regime has no such number.
    """
    over = {key: value for key, value in over.items() if value != BEST}
    return [
        PreconditionResult(
            name=condition.name,
            metric=condition.metric.name,
            value=_value(condition, over, seeds, index, results, index.where(claim)),
            difference=condition.minus is not None,
            direction=condition.direction,
            threshold=condition.threshold,
        )
        for condition in claim.preconditions or []
    ]


def _value(
    condition: Precondition, over: Selector, seeds: list[Seed], index: RunIndex, results: Results, where: str
) -> float | None:
    where = f"{where}: precondition {condition.name!r}"
    # a variant at each arm's best setting is testable where the claim is
    fixed = {name: value for name, value in over.items() if value != BEST}
    (runs,) = index.arm(condition.arm | fixed, where).cells.values()
    metric = condition.metric
    if metric.name.startswith(REGIME):
        name = metric.name.removeprefix(REGIME)
        if name not in LABELS:
            raise InputError(f"{where}: metric: expected {REGIME}NAME with one of {', '.join(LABELS)}, got {name!r}")
        spec = next(iter(runs.values())).spec  # the runs of an arm differ only in seed
        return regime_of(spec, until=1.0 if metric.at is None else metric.at).numbers().get(name)
    signed = [(runs, 1.0)]
    if condition.minus is not None:
        (others,) = index.arm(condition.minus | fixed, where).cells.values()
        signed.append((others, -1.0))
    values: list[float | None] = []
    for seed in seeds:
        if all(seed in arm and arm[seed].id in results.runs for arm, _ in signed):
            found = [evaluate(results.runs[arm[seed].id], metric, where) for arm, _ in signed]
            signs = [sign for _, sign in signed]
            values.append(None if None in found else sum(map(operator.mul, signs, found)))
    return None if not values or None in values else sum(values) / len(values)
