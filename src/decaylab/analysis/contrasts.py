"""One seed's contrast: the number that a test's interval is made of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from decaylab.analysis import statistics
from decaylab.analysis.arms import BEST, Arm, ArmTerm, Key, Seed, abscissae
from decaylab.analysis.metrics import evaluate
from decaylab.analysis.optimum import optimum
from decaylab.analysis.results import Results
from decaylab.analysis.verdict import ChosenSetting
from decaylab.replication import Metric, Test


@dataclass(frozen=True)
class Contrast:
    """One seed's number and the runs that it was computed from."""

    value: float | None
    """None if a run has no such number"""
    run_ids: list[str]
    binary: bool
    """whether all numbers that went into it are 0 or 1"""
    arms: list[float | None]
    """the number of each term, without its weight"""


Settings = Mapping[tuple[int, Key], Key | None]
"""(term, value along the test's axis): the chosen cell of the arm; None if no cell has numbers"""


def choose_settings(
    test: Test, terms: list[ArmTerm], tuning: list[Seed], results: Results, where: str
) -> tuple[Settings, list[ChosenSetting]]:
    """The cells that `best` stands for, chosen on the tuning seeds, and the same for the verdict file.

    Picking the best of several settings on the seeds that are then judged would report luck as an effect.

    Raises:
        InputError: a run lacks the metric by which the best is chosen.
    """
    settings: dict[tuple[int, Key], Key | None] = {}
    chosen: list[ChosenSetting] = []
    skip = 1 if test.along else 0  # the test's axis comes first, then those of the best values
    for number, term in enumerate(terms):
        for value, cells in term.arm.groups(bool(test.along)).items():
            if BEST not in term.arm.selector.values():
                settings[number, value] = cells[0]
                continue
            cells = [key for key in cells if _may_choose(test, term.arm, key)]
            key = _best(term.arm, cells, tuning, test.best_by or test.metric, results, where)
            settings[number, value] = key
            if key is not None:
                at = {test.along: value[0]} if test.along else {}
                values = dict(zip(term.arm.axes[skip:], key[skip:], strict=True))
                setting = ChosenSetting(arm=term.arm.selector | at, tuned_on=tuning, values=values)
                chosen += [setting] if setting not in chosen else []
    return settings, chosen


def contrast(
    test: Test, terms: list[ArmTerm], seed: Seed, settings: Settings, results: Results, where: str
) -> Contrast:
    """The weighted sum of a test's terms for one seed, minus its reference. Raises InputError from the metric."""
    total: float | None = -test.reference
    run_ids: list[str] = []
    read: list[float] = []
    arms: list[float | None] = []
    for number, term in enumerate(terms):
        points: list[float | None] = []
        for value in term.arm.groups(bool(test.along)):
            key = settings[number, value]
            if key is None:
                points.append(None)
                continue
            run_id = term.arm.cells[key][seed].id
            run_ids.append(run_id)
            points.append(evaluate(results.runs[run_id], term.metric, where))
        arms.append(None if None in points else _point(test, term, points, where))
        if arms[-1] is None:
            total = None
        elif total is not None:
            read += points
            total += term.weight * arms[-1]
    # two terms may read different metrics of one run
    return Contrast(total, list(dict.fromkeys(run_ids)), set(read) <= {0.0, 1.0}, arms)


def compares_nothing(test: Test, terms: list[ArmTerm], seed: Seed, settings: Settings) -> bool:
    """Whether the terms cancel run by run, as where the best settings of two arms are one setting."""
    weights: Counter[tuple[tuple[str, ...], str]] = Counter()
    for number, term in enumerate(terms):
        keys = [settings[number, value] for value in term.arm.groups(bool(test.along))]
        if None in keys:
            return False
        weights[tuple(term.arm.cells[key][seed].id for key in keys), term.metric.model_dump_json()] += term.weight
    return not any(weights.values())


def _point(test: Test, term: ArmTerm, points: list[float], where: str) -> float:
    """An arm's number: its value, or the slope or the optimum of its values along the test's axis."""
    if not test.along:
        return points[0]
    along = statistics.slope if test.slope_over else optimum
    return along(abscissae(term.arm, test, where), points)


def runs_of(test: Test, terms: list[ArmTerm], seed: Seed, settings: Settings) -> list[str]:
    """Ids of the runs that `contrast` reads for a seed."""
    return [
        term.arm.cells[key][seed].id
        for number, term in enumerate(terms)
        for value in term.arm.groups(bool(test.along))
        if (key := settings[number, value]) is not None
    ]


def _may_choose(test: Test, arm: Arm, key: Key) -> bool:
    """Whether `best_among` lets `best` choose this cell."""
    allowed = test.best_among or {}
    return all(value in allowed[axis] for axis, value in zip(arm.axes, key, strict=True) if axis in allowed)


def _best(arm: Arm, cells: list[Key], tuning: list[Seed], by: Metric, results: Results, where: str) -> Key | None:
    """The cell with the lowest mean of `by` over the tuning seeds; a cell with a run that has no number never wins."""

    def mean(key: Key) -> float:
        values = [evaluate(results.runs[arm.cells[key][seed].id], by, where) for seed in tuning]
        return math.inf if None in values else float(np.mean(values))

    best = min(cells, key=mean, default=None)
    return best if best is not None and math.isfinite(mean(best)) else None
