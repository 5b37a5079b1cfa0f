"""One test of a claim, read from the runs that exist: its contrasts, looks, interval and verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from decaylab.analysis import looks, multiplicity, power
from decaylab.analysis.arms import TUNING_SEEDS, ArmTerm, RunIndex, Seed, Selector, needs_tuning, split_seeds
from decaylab.analysis.contrasts import choose_settings, compares_nothing, contrast, runs_of
from decaylab.analysis.looks import Design
from decaylab.analysis.outlook import outlook
from decaylab.analysis.results import Results
from decaylab.analysis.verdict import FALSE_PER_TEST, LookResult, SeedValue, TestResult
from decaylab.errors import InputError
from decaylab.replication import Claim, Test
from decaylab.workspace import Scale


@dataclass
class TestReading:
    """A test's result and what it was read from."""

    __test__ = False  # not a pytest class

    result: TestResult
    run_ids: set[str] = field(default_factory=set)
    seeds: list[Seed] = field(default_factory=list)
    """those that a look has judged"""
    question: looks.Test | None = None
    design: Design | None = None

    def add_p_values(self) -> None:
        """Fill in the p-values of the test's possible verdicts. It takes longer than all else about a test."""
        if self.question and self.design and self.result.looks:
            numbers = [item.value for item in self.result.seeds]
            self.result.p_values = multiplicity.p_values(numbers, self.question, self.design)


@dataclass
class _Values:
    """Contrasts of the first seeds in planned order, up to the first gap."""

    seeds: list[SeedValue] = field(default_factory=list)
    binary: bool = True
    """whether all metrics behind them are 0 or 1"""
    without: Seed | None = None
    """the seed whose runs have no number, if that is where they end"""

    @property
    def numbers(self) -> list[float]:
        return [item.value for item in self.seeds]


def planned_looks(claim: Claim, scale: Scale) -> list[int]:
    """Numbers of seeds after which a claim is judged; empty if the scale has a fixed number and one look."""
    return (claim.looks or {}).get(scale, [])


def design_of(planned: list[int], seeds: int) -> Design:
    """The looks of a test, with intervals wide enough for all of them; one look at 95 % where none are planned."""
    if len(planned) <= 1:
        return Design.fixed(planned[0] if planned else max(1, seeds))
    # the looks of looks.py were calibrated together; more of them are bounded by Bonferroni
    calibrated = len(planned) <= len(looks.LOOKS)
    return Design(tuple(planned), looks.LOOK_CONFIDENCE if calibrated else 1 - FALSE_PER_TEST / len(planned))


def unread(test: Test) -> TestResult:
    """A test's result before anything is known."""
    return TestResult(
        name=test.name or test.metric.name,
        direction=test.direction,
        smallest_effect=test.smallest_effect,
        kind=test.kind,
    )


def read_test(
    test: Test, over: Selector, planned: list[int], index: RunIndex, results: Results, where: str
) -> TestReading:
    """Judge one test, with the parameters `over` replaced in every arm.

    Seeds count in planned order, never in the order in which runs finished: those behind an unfinished one wait.

    Raises:
        InputError: an arm is not in the plan, a run lacks a metric, or a proportion's metric is not 0 or 1.
    """
    terms = index.terms(test, over, where)
    tuning, seeds = split_seeds(terms)
    reading = TestReading(unread(test))
    result = reading.result
    if tuning and not (tuned := tuning_runs(terms, tuning)) <= results.runs.keys():
        missing = len(tuned - results.runs.keys())
        result.reason = f"{missing} of {len(tuned)} runs that choose the best settings are missing"
        return reading
    settings, result.chosen = choose_settings(test, terms, tuning, results, where)
    reading.run_ids = tuning_runs(terms, tuning)
    if seeds and compares_nothing(test, terms, seeds[0], settings):
        result.verdict, result.reason = "not testable here", "both arms do best at one and the same setting"
        return reading
    values = _Values()
    for seed in seeds:
        if not set(runs_of(test, terms, seed, settings)) <= results.runs.keys():
            break
        found = contrast(test, terms, seed, settings, results, where)
        if found.value is None:
            values.without = seed
            break
        values.seeds.append(SeedValue(seed=seed, value=found.value, runs=found.run_ids, arms=found.arms))
        values.binary &= found.binary
    if test.kind == "proportion" and set(values.numbers) - {0.0, 1.0}:
        raise InputError(f"{where}: a proportion needs a metric that is 0 or 1, {test.metric.name} is {values.numbers}")
    wanted = len(seeds) if not planned else _next_look(planned, len(values.seeds))
    _judge(test, values, planned, wanted, reading, results)
    _explain(test, terms, values, planned, wanted, result)
    return reading


def _judge(
    test: Test, values: _Values, planned: list[int], wanted: int, reading: TestReading, results: Results
) -> None:
    """Fill in everything that follows from the values."""
    result, numbers = reading.result, values.numbers
    if not numbers:
        return
    kind = test.kind if test.kind == "proportion" else "mean" if values.binary else "continuous"
    question = looks.Test(test.direction, test.smallest_effect, kind)
    # a seed without a number must not be left out: a single look then waits for it in vain
    design = design_of(planned, wanted if values.without is not None else len(numbers))
    reading.question, reading.design = question, design
    read = looks.read(numbers, question, design)
    judged = values.seeds[: read.n]
    numbers = numbers[: read.n]
    result.verdict, result.estimate, result.interval, result.n = read.outcome, read.estimate, read.interval, read.n
    result.seeds, result.decided_at = judged, read.decided_at
    result.looks = [LookResult(n=look.n, estimate=look.estimate, interval=look.interval) for look in read.looks]
    reading.run_ids |= {run_id for item in judged for run_id in item.runs}
    if read.looks:
        reading.seeds = [item.seed for item in judged]
        deviation = float(np.std(numbers, ddof=1)) if read.n > 1 and test.kind == "mean" else 0.0
        if deviation > 0:
            upper = power.upper_deviation(deviation, read.n)
            result.detectable = power.detectable(question, upper, read.n, design.confidence)
    if read.outcome == "inconclusive":
        runs = {run_id for item in judged for run_id in item.runs}
        seconds = sum(results.runs[run_id].summary["seconds"] for run_id in runs) / len(judged)
        result.outlook = outlook(numbers, question, read, design, seconds, bool(planned))


def tuning_runs(terms: list[ArmTerm], tuning: list[Seed]) -> set[str]:
    return {
        cell[seed].id for term in terms if needs_tuning([term]) for cell in term.arm.cells.values() for seed in tuning
    }


def _next_look(planned: list[int], seeds: int) -> int:
    """The next look; the last one if all are reached."""
    return next((look for look in planned if look > seeds), planned[-1])


def _explain(
    test: Test, terms: list[ArmTerm], values: _Values, planned: list[int], wanted: int, result: TestResult
) -> None:
    """Say what is missing and why the test is undecided."""
    notes = []
    undecided = result.verdict in ("not run", "inconclusive")
    if not wanted:
        notes.append(f"there are no seeds beside the {TUNING_SEEDS} that choose the best settings")
    if len(values.seeds) < wanted and (undecided or not planned):
        notes.append(f"{len(values.seeds)} of {wanted} seeds are complete")
    if values.without is not None and undecided:
        names = ", ".join(dict.fromkeys(term.metric.name for term in terms))
        notes.append(f"{names} has no value for seed {values.without}, and leaving it out could flatter the claim")
        result.outlook = None
    elif result.verdict == "inconclusive":
        if result.looks and (test.kind == "proportion" or result.n >= looks.FEWEST_SEEDS):
            notes.append(_why_open(test, result))
        if result.outlook:
            notes.append(result.outlook.text)
    result.reason = "; ".join(notes)


def _why_open(test: Test, result: TestResult) -> str:
    """Why a test that has been judged is inconclusive."""
    if result.interval is None:
        return "the looks' intervals have no point in common" if len(result.looks) > 1 else "one seed has no interval"
    low, high = result.interval
    interval = f"the interval {low:.3g} to {high:.3g}"
    effect = f"{test.smallest_effect:g}"
    if test.kind == "proportion":
        return f"{interval} contains {effect}"
    if test.direction == "within":
        return f"{interval} is neither inside nor outside -{effect} to {effect}"
    if test.smallest_effect == 0:
        return f"{interval} contains 0"
    sign = "" if test.direction == "above" else "-"
    return f"{interval} is neither wholly {test.direction} {sign}{effect}, nor on the other side of 0, nor negligible"
