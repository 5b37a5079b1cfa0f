"""The manifest of a record: what its .json says of the runs, arms and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from decaylab.analysis import preregistration
from decaylab.analysis.archive import FORMAT, Manifest, write_choices
from decaylab.analysis.judge import judge
from decaylab.analysis.results import RunResult
from decaylab.replication import Claim, Parameters, Replication, Test
from decaylab.spec import RunSpec
from decaylab.workspace import Workspace

DIGITS = 6
"""significant digits of metrics: beyond what another machine would reproduce"""

Planned = list[tuple[RunSpec, Parameters]]


def make_manifest(rep: Replication, workspace: Workspace, planned: Planned, runs: list[RunResult]) -> Manifest:
    """The manifest of some runs that lie in the workspace's results, which are judged for it.

    Metrics of single parameter groups (`weight_norm.mlp`) are left out unless a claim reads them.
    """
    read = set(metrics_read(rep.claims))
    names = sorted({name for run in runs for name in run.final if "." not in name or name in read})
    by_id = {run.run_id: run for run in runs}
    return {
        "format": FORMAT,
        "replication": rep.name,
        "scale": workspace.scale,
        "hardware": " + ".join(distinct(run.hardware_name for run in runs)),
        "machines": distinct(run.summary.get("hardware", {}) for run in runs),
        "versions": distinct(run.summary.get("versions", {}) for run in runs),
        "commits": distinct(run.summary.get("commit") or "unknown" for run in runs),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "choices": write_choices(workspace.choices),
        "data": distinct(
            {"source": run.summary["spec"]["data"]["source"], "sha256": run.summary.get("data_sha256")} for run in runs
        ),
        "runs_planned": len({spec.run_id for spec, _ in planned}),
        "seconds": round(sum(run.summary["seconds"] for run in runs), 1),
        "metrics": names,
        "arms": _arms(planned, by_id, names),
        "runs": [
            {
                "run_id": run.run_id,
                "started_at": run.summary["started_at"],
                "seconds": round(run.summary["seconds"], 2),
                "diverged_at_step": run.diverged_at_step,
                "final": [_rounded(run.final.get(name)) for name in names],
            }
            | ({"texts": run.summary["texts"]} if run.summary.get("texts") else {})
            for run in runs
        ],
        "verdicts": judge(rep, workspace).to_json(),
        # after judging, which registers claims that nobody registered before
        "registered": list(preregistration.registered(workspace.layout).values()),
    }


def metrics_read(claims: Iterable[Claim]) -> Iterable[str]:
    """Names of all metrics that claims and their variants read."""

    def names(test: Test) -> Iterable[str]:
        yield from (metric.name for metric in (test.metric, test.best_by) if metric)
        yield from (term.metric.name for term in test.terms or [] if term.metric)

    for claim in claims:
        for test in [*claim.tests, *(test for variant in claim.also for test in variant.tests or [])]:
            yield from names(test)


def distinct(values: Iterable[Any]) -> list[Any]:
    """Different values, sorted by their text."""
    return [value for _, value in sorted({repr(value): value for value in values}.items())]


def _arms(planned: Planned, runs: Mapping[str, RunResult], names: list[str]) -> list[dict[str, Any]]:
    """Runs that differ only in seed, one row an arm; `mean` and `sd` are in the order of `names`, null for n = 1."""
    arms: dict[str, dict[str, Any]] = {}
    for spec, parameters in planned:
        if spec.run_id not in runs:
            continue
        shown = {key: value for key, value in parameters.items() if key != "seed"}
        arm = arms.setdefault(f"{spec.arm_id()} {shown}", {"parameters": shown, "run_ids": []})
        if spec.run_id not in arm["run_ids"]:
            arm["run_ids"].append(spec.run_id)
    for arm in arms.values():
        members = [runs[run_id] for run_id in arm["run_ids"]]
        finals = pd.DataFrame([run.final for run in members], dtype=float).reindex(columns=names)
        arm["n"] = len(members)
        arm["seconds"] = round(sum(run.summary["seconds"] for run in members), 2)
        # a diverged run has no number, and the mean of the others would hide that
        arm["mean"] = [_rounded(value) for value in finals.mean(skipna=False)]
        arm["sd"] = [_rounded(value) for value in finals.std(skipna=False)]
    return list(arms.values())


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
