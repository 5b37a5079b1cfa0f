"""Finished runs on disk: one run, or all runs of a plan and which of them are missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import InputError
from decaylab.files import Layout, check_digest, read_json
from decaylab.replication import Parameters
from decaylab.spec import RunSpec, parse_spec

REQUIRED = ("run_id", "spec", "seconds", "started_at", "final", "diverged_at_step", "chance")
"""keys of summary.json that judging a run needs"""


@dataclass(frozen=True)
class RunResult:
    """One finished run. `metrics` is read from disk on first use."""

    summary: dict[str, Any]
    folder: Path

    @property
    def run_id(self) -> str:
        return self.summary["run_id"]

    @property
    def steps(self) -> int:
        return self.summary["spec"]["steps"]

    @property
    def final(self) -> dict[str, float | None]:
        return self.summary["final"]

    @property
    def diverged_at_step(self) -> int | None:
        return self.summary["diverged_at_step"]

    @property
    def hardware_name(self) -> str:
        """For people: 'NVIDIA H200', or a processor's name."""
        return str(self.summary.get("hardware", {}).get("name") or "unknown")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per recorded step, ascending `step`; NaN where a column was not recorded. Raises InputError."""
        path = self.folder / "metrics.parquet"
        check_digest(path, _cure(self.folder))
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise InputError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from None
        if "step" not in frame or not frame["step"].is_monotonic_increasing:
            raise InputError(f"{path}: expected a column `step` in rising order")
        return frame


def _cure(folder: Path) -> str:
    return f"delete {folder}, and the same snakemake trains the run again"


def load_run(layout: Layout, run_id: str) -> RunResult:
    """Read one finished run.

    Raises:
        InputError: summary.json is missing, unreadable, incomplete, or belongs to another run than its folder.
    """
    path = layout.summary(run_id)
    if path.exists():
        check_digest(path, _cure(path.parent))
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise InputError(f"{path}: expected a JSON object")
    for key in REQUIRED:
        if key not in summary:
            raise InputError(f"{path}: {key}: this key is required")
    try:
        datetime.fromisoformat(summary["started_at"])
    except (TypeError, ValueError):
        raise InputError(f"{path}: started_at: expected an ISO time, got {summary['started_at']!r}") from None
    spec = parse_spec(summary["spec"], f"{path}: spec")
    for found, name in ((summary["run_id"], "run_id"), (spec.run_id, "spec")):
        if found != run_id:
            raise InputError(f"{path}: {name}: expected run {run_id}, as the folder, got {found}")
    return RunResult(summary, path.parent)


@dataclass(frozen=True)
class Results:
    """The finished runs of a plan."""

    planned: list[tuple[RunSpec, Parameters]]
    runs: dict[str, RunResult]
    """finished runs by id"""
    missing: list[str]
    """ids of unfinished runs, in planned order"""

    @cached_property
    def arms(self) -> pd.DataFrame:
        """One row per finished run: its parameters, run_id, seconds, diverged_at_step and final metrics.

        A final metric with the name of a parameter (`learning_rate`) becomes the column `final.learning_rate`. A run
        that belongs to two grids has two rows.
        """
        rows = []
        for run, parameters in self._present:
            row = parameters | {
                "run_id": run.run_id,
                "seconds": run.summary["seconds"],
                "diverged_at_step": run.diverged_at_step,
            }
            final = {key: math.nan if value is None else value for key, value in run.final.items()}
            taken = self._parameter_names | row.keys()
            rows.append(row | {f"final.{key}" if key in taken else key: value for key, value in final.items()})
        return pd.DataFrame(rows)

    def curves(self, columns: Iterable[str], **where: Any) -> pd.DataFrame:
        """Metrics over steps, for plots: parameters, run_id, step and `columns` of runs with the parameters `where`.

        Rows without any of `columns` are left out, and a column that a run lacks is NaN. A column with the name of a
        parameter gets the prefix `metric.`.
        """
        columns = list(columns)
        frames = []
        for run, parameters in self._present:
            if any(parameters.get(key) != value for key, value in where.items()):
                continue
            head = parameters | {"run_id": run.run_id}
            frame = run.metrics.reindex(columns=["step", *columns]).dropna(subset=columns, how="all")
            frame = frame.rename(columns={name: f"metric.{name}" for name in columns if name in self._parameter_names})
            frames.append(frame.assign(**head))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", "step", *columns])

    @cached_property
    def _parameter_names(self) -> set[str]:
        return {name for _, parameters in self.planned for name in parameters}

    @cached_property
    def _present(self) -> list[tuple[RunResult, Parameters]]:
        planned = [(spec.run_id, parameters) for spec, parameters in self.planned]
        return [(self.runs[run_id], parameters) for run_id, parameters in planned if run_id in self.runs]


def load_runs(layout: Layout, planned: list[tuple[RunSpec, Parameters]]) -> Results:
    """Load the finished runs of a plan. A run without summary.json is unfinished; a damaged one raises InputError."""
    runs: dict[str, RunResult] = {}
    missing: list[str] = []
    for run_id in dict.fromkeys(spec.run_id for spec, _ in planned):
        path = layout.summary(run_id)
        try:
            path.stat()
        except FileNotFoundError:
            missing.append(run_id)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        else:
            runs[run_id] = load_run(layout, run_id)
    return Results(planned, runs, missing)
