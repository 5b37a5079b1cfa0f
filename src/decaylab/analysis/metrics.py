"""Evaluate a metric of replication.yaml on one finished run."""

from __future__ import annotations

import itertools
import math

from decaylab.analysis import statistics
from decaylab.analysis.results import RunResult
from decaylab.errors import InputError
from decaylab.replication import Metric

SUMMARY_METRICS = ("diverged", "diverged_at", "seconds", "flops", "peak_memory_bytes")
"""read from summary.json; `diverged` is 0 or 1, `diverged_at` a fraction of the run (1 if it did not diverge)"""


def evaluate(run: RunResult, metric: Metric, where: str) -> float | None:
    """The number that `metric` means for `run`: that of `_value`, or with `below` whether it is below that bound.

    Returns and raises what `_value` does.
    """
    value = _value(run, metric, where)
    return value if metric.below is None or value is None else float(value < metric.below)


def _value(run: RunResult, metric: Metric, where: str) -> float | None:
    """The value of `metric` for `run`.

    Losses and errors of a diverged run are at chance level (`chance` in its summary) from the step of divergence on,
    and so is every window that reaches beyond it. With `log` and `reduce: slope`, the slope is that of the logarithm.

    Returns:
        None if the run has no such number: a value that is not finite, the logarithm of zero, the slope of a diverged
        loss, a column that a diverged run ended too early to record, or with `when` a value that is never reached.

    Raises:
        InputError: there is no such column, or nothing was recorded in the window; the line starts with `where`.
    """
    if metric.name in SUMMARY_METRICS:
        return _log(_summary_value(run, metric.name), metric.log)
    if metric.when is not None:
        return _log(_matched(run, metric, where), metric.log)
    slope = metric.over is not None and metric.reduce == "slope"
    end = 1.0 if metric.at is None else metric.at
    end = metric.over[1] if metric.over else end
    chance = chance_level(run, metric.name)
    if run.diverged_at_step is not None and chance is not None and run.diverged_at_step <= round(end * run.steps):
        return None if slope else _log(chance, metric.log)
    if metric.at is None and metric.over is None and metric.name in run.final:
        return _log(run.final[metric.name], metric.log)
    try:
        steps, values = _series(run, metric, where)
    except InputError:
        if run.diverged_at_step is not None:  # it may have ended before the column was first recorded
            return None
        raise
    if not slope:
        reduce = {"mean": lambda v: v.mean(), "min": lambda v: v.min(), "max": lambda v: v.max()}[metric.reduce]
        return _log(float(reduce(values)) if metric.over else float(values.iloc[-1]), metric.log)
    if len(values) < 2:
        raise InputError(f"{where}: metric {metric.name}: one row in {list(metric.over)} of run {run.run_id}, no slope")
    points = [_log(float(value), metric.log) for value in values]
    if None in points:
        return None
    return statistics.slope(steps / run.steps, points)


def _matched(run: RunResult, metric: Metric, where: str) -> float | None:
    """The metric where another column first falls to a value; None if that never happens between two rows."""
    other, level = metric.when
    _, values = _series(run, metric.model_copy(update={"when": None}), where)
    steps, others = _series(run, Metric(name=other), where)
    rows = [(values[index], others[index]) for index in steps.index if index in values.index]
    for (before, high), (after, low) in itertools.pairwise(rows):
        if high > level >= low:
            return float(after + (before - after) * (level - low) / (high - low))
    return None


def chance_level(run: RunResult, name: str) -> float | None:
    """Chance level of a loss or error; None for other metrics. `test_loss` and `token_loss.rare` are losses."""
    stem = name.split(".", 1)[0]
    for kind in ("loss", "error"):
        if stem == kind or stem.endswith(f"_{kind}"):
            return run.summary["chance"][kind]
    return None


def _summary_value(run: RunResult, name: str) -> float | None:
    if name == "diverged":
        return float(run.diverged_at_step is not None)
    if name == "diverged_at":
        return 1.0 if run.diverged_at_step is None else run.diverged_at_step / run.steps
    return run.summary.get(name)


def _series(run: RunResult, metric: Metric, where: str):
    """(steps, values) of the recorded rows in the metric's window; at least one."""
    if metric.name not in run.metrics and metric.name not in run.final:
        columns = sorted((set(run.final) | set(run.metrics)) - {"step"}) + list(SUMMARY_METRICS)
        raise InputError(f"{where}: metric {metric.name}: not in run {run.run_id}, which has {', '.join(columns)}")
    if metric.name not in run.metrics:
        raise InputError(f"{where}: metric {metric.name}: run {run.run_id} has it at its end only, not over steps")
    rows = run.metrics[["step", metric.name]].dropna()
    low, high = metric.over or (0.0, 1.0 if metric.at is None else metric.at)
    # rounded as replication.expand() rounds `at` for snapshots
    rows = rows[(rows["step"] >= round(low * run.steps)) & (rows["step"] <= round(high * run.steps))]
    if rows.empty:
        raise InputError(
            f"{where}: metric {metric.name}: nothing recorded between {low:g} and {high:g} of run {run.run_id}"
        )
    return rows["step"], rows[metric.name]


def _log(value: float | None, log: bool) -> float | None:
    if value is None or not math.isfinite(value) or (log and value <= 0):
        return None
    return math.log(value) if log else float(value)
