"""One seed's contrast: the number that a test's interval is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from decaylab.analysis import statistics
from decaylab.analysis.arms import BEST, Arm, ArmTerm, Key, Seed, abscissae
from decaylab.analysis.metrics import evaluate
from decaylab.analysis.results import Results
from decaylab.analysis.verdict import ChosenSetting
from decaylab.replication import Metric, Test


@dataclass
class Contrast:
    """One seed's number, the runs that it was computed from, and the settings that `best` chose."""

    value: float | None
    """None if a run has no such number"""
    run_ids: list[str] = field(default_factory=list)
    chosen: list[ChosenSetting] = field(default_factory=list)


def contrast(test: Test, terms: list[ArmTerm], seed: Seed, results: Results, where: str) -> Contrast:
    """The weighted sum of a test's terms for one seed, minus its reference. Raises InputError from the metric."""
    total: float | None = -test.reference
    run_ids: list[str] = []
    chosen: list[ChosenSetting] = []
    skip = 1 if test.slope_over else 0  # the slope's axis comes first, then those of the best values
    for term in terms:
        points: list[float | None] = []
        for value, cells in term.arm.groups(bool(test.slope_over)).items():
            key = _best(term.arm, cells, seed, test.best_by or test.metric, results, where)
            if key is None:
                points.append(None)
                continue
            run_id = term.arm.cells[key][seed].id
            run_ids.append(run_id)
            points.append(evaluate(results.runs[run_id], term.metric, where))
            if best := dict(zip(term.arm.axes[skip:], key[skip:], strict=True)):
                at = {test.slope_over: value[0]} if test.slope_over else {}
                chosen.append(ChosenSetting(arm=term.arm.selector | at, seed=seed, values=best))
        if None in points:
            total = None
        elif total is not None:
            number = statistics.slope(abscissae(term.arm, test, where), points) if test.slope_over else points[0]
            total += term.weight * number
    chosen = [item for i, item in enumerate(chosen) if item not in chosen[:i]]
    # two terms may read different metrics of one run
    return Contrast(total, list(dict.fromkeys(run_ids)), chosen)


def _best(arm: Arm, cells: list[Key], seed: Seed, by: Metric, results: Results, where: str) -> Key | None:
    """The cell with the lowest mean of `by` over all seeds but `seed`; None if there are no others.

    A cell with a run that has no number for `by` is never the best.
    """
    if BEST not in arm.selector.values():
        return cells[0]
    others = [other for other in arm.seeds(set(results.runs)) if other != seed]
    if not others:
        return None

    def mean(key: Key) -> float:
        values = [evaluate(results.runs[arm.cells[key][other].id], by, where) for other in others]
        return math.inf if None in values else float(np.mean(values))

    best = min(cells, key=mean)
    return best if math.isfinite(mean(best)) else None
