"""Evidence: small tables of measured runs on named hardware, committed beside the replication that wanted them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analysis.judge import hardware_name, judge
from decaylab.analysis.results import RunResult, load_runs
from decaylab.errors import InputError
from decaylab.files import Layout, git_commit, read_json, write_json
from decaylab.replication import Claim, Replication, Scale, Test, expand
from decaylab.sources import Choice

DIGITS = 6
"""significant digits of metrics: beyond what another machine would reproduce, and a third of the size"""


def folder(root: Path, name: str) -> Path:
    return root / "replications" / name / "evidence"


def collect(
    rep: Replication, scale: Scale, layout: Layout, root: Path, choices: dict[str, Choice] | None = None
) -> Path:
    """Write evidence of the runs that exist to replications/<name>/evidence/<scale>-<data>-<hardware>.json.

    Metrics of single parameter groups (`weight_norm.mlp`) are kept only where a claim reads them.

    Returns:
        the file's path.

    Raises:
        InputError: there are no results at this scale, or a result is damaged.
    """
    planned = [(spec, parameters) for spec, parameters, _ in expand(rep, scale, choices)]
    results = load_runs(layout, planned)
    if not results.runs:
        raise InputError(f"{layout.results}: no run of {rep.name} at {scale} scale; run `snakemake {rep.name}` first")
    runs = [results.runs[run_id] for run_id in sorted(results.runs)]
    hardware = _distinct(hardware_name(run.summary) for run in runs)
    read = set(_metrics_read(rep.claims))
    names = sorted({name for run in runs for name in run.final if "." not in name or name in read})
    sources = sorted({run.summary["spec"]["data"]["source"] for run in runs})
    path = folder(root, rep.name) / f"{scale}-{slug('-'.join(sources))}-{slug('-'.join(hardware))}.json"
    write_json(
        path,
        {
            "replication": rep.name,
            "scale": scale,
            "hardware": " + ".join(hardware),
            "machines": _distinct(run.summary.get("hardware", {}) for run in runs),
            "versions": _distinct(run.summary.get("versions", {}) for run in runs),
            "commit": git_commit(root),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": _distinct(
                {
                    "source": run.summary["spec"]["data"]["source"],
                    "sha256": run.summary.get("data_sha256"),
                }
                for run in runs
            ),
            "runs_planned": len(results.runs) + len(results.missing),
            "seconds": round(sum(run.summary["seconds"] for run in runs), 1),
            "metrics": names,
            "arms": _arms(planned, results.runs, names),
            "runs": [
                {
                    "run_id": run.run_id,
                    "seconds": round(run.summary["seconds"], 2),
                    "diverged_at_step": run.diverged_at_step,
                    "final": [_rounded(run.final.get(name)) for name in names],
                }
                | ({"texts": run.summary["texts"]} if run.summary.get("texts") else {})
                for run in runs
            ],
            "verdicts": judge(rep, scale, layout, root, choices),
        },
    )
    return path


def load_evidence(root: Path, name: str) -> list[dict[str, Any]]:
    """All evidence of a replication, by file name, each with its `file` relative to `root`. Raises InputError."""
    found = []
    for path in sorted(folder(root, name).glob("*.json")):
        value = read_json(path)
        for key in ("replication", "scale", "hardware", "verdicts", "arms"):
            if not isinstance(value, dict) or key not in value:
                raise InputError(f"{path}: {key}: this key is required")
        if value["replication"] != name:
            raise InputError(f"{path}: replication: expected {name}, as the folder, got {value['replication']}")
        found.append(value | {"file": path.relative_to(root).as_posix()})
    return found


def slug(text: str) -> str:
    """`NVIDIA H200` as `nvidia-h200`: safe and short in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "unknown"


def _arms(planned, runs: dict[str, RunResult], names: list[str]) -> list[dict[str, Any]]:
    """Runs that differ only in seed, in one row: `mean` and `sd` are in the order of `names`; sd of n=1 is null."""
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
        # a diverged member has no number; the mean of the others would hide that
        arm["mean"] = [_rounded(value) for value in finals.mean(skipna=False)]
        arm["sd"] = [_rounded(value) for value in finals.std(skipna=False)]
    return list(arms.values())


def _metrics_read(claims: Iterable[Claim]) -> Iterable[str]:
    def names(test: Test) -> Iterable[str]:
        yield from (metric.name for metric in (test.metric, test.best_by) if metric)
        yield from (term.metric.name for term in test.terms or [] if term.metric)

    for claim in claims:
        for test in [*claim.tests, *(test for variant in claim.also for test in variant.tests or [])]:
            yield from names(test)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Different values, sorted by their text."""
    return [value for _, value in sorted({repr(value): value for value in values}.items())]
