"""The static site of a scale: an index of all claims, and a page for each run, readable by double-click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import read_origin
from decaylab.analysis.results import load_run
from decaylab.analysis.summary import summarise
from decaylab.analysis.verdict import VERDICTS, VerdictFile
from decaylab.files import atomic_path, git_commit
from decaylab.replication import (
    PlannedRun,
    Replication,
    list_replications,
    load_replication,
    plan_runs,
    replication_file,
)
from decaylab.report.claims import claim_views
from decaylab.report.html import duration, environment, icons, number, relative, scalar, size, words
from decaylab.report.provenance import evidence_note
from decaylab.workspace import Workspace


def build_site(workspace: Workspace) -> Path:
    """Write reports/<scale>/index.html and reports/<scale>/runs/<run_id>.html for every finished run of the scale.

    The index lists all replications; where results were restored from evidence, those that it is of.

    Returns:
        the path of index.html.

    Raises:
        InputError: a verdict file, evidence or result is damaged.
    """
    root, scale, layout = workspace.root, workspace.scale, workspace.layout
    origin = read_origin(layout)
    reps = [load_replication(replication_file(root, name)) for name in list_replications(root)]
    reps = [rep for rep in reps if origin is None or rep.name in origin.filed]
    claims = {rep.name: claim_views(rep, workspace) for rep in reps}
    planned = plan_runs(reps, scale, dict(workspace.choices))
    # verdicts may rest on runs with other data than chosen now
    shown = {run["id"] for views in claims.values() for view in views for run in view["runs"] if run["link"]}
    finished = [run_id for run_id in planned if layout.summary(run_id).exists()]
    runs = [load_run(layout, run_id) for run_id in dict.fromkeys([*finished, *sorted(shown)])]
    here = layout.index(scale).parent

    def note(folder: Path) -> dict[str, Any]:
        names = [rep.name for rep in reps]
        return {"evidence_note": evidence_note(origin, names, workspace, folder) if origin else None}

    for run in runs:
        page = run_page(run.summary, workspace, reps, claims, planned.get(run.run_id))
        write_page(here / "runs" / f"{run.run_id}.html", "run.html.j2", page | note(here / "runs"))
    for rep in reps:
        write_yaml_page(rep, workspace)
    page = index_page(workspace, reps, claims, runs)
    write_page(layout.index(scale), "index.html.j2", page | note(here))
    return layout.index(scale)


def index_page(
    workspace: Workspace,
    reps: list[Replication],
    claims: dict[str, list[dict[str, Any]]],
    runs: list[Any],
) -> dict[str, Any]:
    """What the index shows."""
    scale, layout = workspace.scale, workspace.layout
    views = [view for rep in reps for view in claims[rep.name]]
    counts = Counter(view["verdict"] for view in views)
    filed = layout.reports / "evidence" / "index.html"
    files = [VerdictFile.read(layout.verdicts(scale, rep.name)) for rep in reps]
    named = [(f"{file.replication}/{claim.claim}", claim) for file in files if file for claim in file.claims]
    return {
        "scale": scale,
        "commit": git_commit(workspace.root),
        "hardware": ", ".join(sorted({run.hardware_name for run in runs})),
        "runs": len(runs),
        "seconds": sum(run.summary["seconds"] for run in runs),
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "judged": sum(view["verdict"] != "not run" for view in views),
        "total": len(views),
        "all_evidence": relative(filed, layout.index(scale).parent) if filed.exists() else None,
        "elsewhere": sum(view["origin"] is not None for view in views),
        "summary": summarise(named),
        "replications": [
            {
                "name": rep.name,
                "title": rep.title,
                "question": rep.question,
                "report": f"{rep.name}.html" if layout.report(scale, rep.name).exists() else None,
                "claims": claims[rep.name],
            }
            for rep in reps
        ],
    }


def run_page(
    summary: Mapping[str, Any],
    workspace: Workspace,
    reps: list[Replication],
    claims: dict[str, list[dict[str, Any]]],
    planned: PlannedRun | None,
) -> dict[str, Any]:
    """What a run's page shows: from its numbers up to the claims that rest on it and down to its files."""
    scale, layout = workspace.scale, workspace.layout
    run_id = summary["run_id"]
    here = layout.index(scale).parent / "runs"
    uses = []
    for rep in reps:
        resting = [view for view in claims[rep.name] if run_id in {run["id"] for run in view["runs"]}]
        parameters = planned.wanted.get(rep.name, []) if planned else []
        if resting or parameters:
            report = layout.report(scale, rep.name)
            uses.append(
                {
                    "name": rep.name,
                    "title": rep.title,
                    "report": relative(report, here) if report.exists() else None,
                    "parameters": [
                        ", ".join(f"{words(k)} {scalar(v)}" for k, v in item.items()) for item in parameters
                    ],
                    "claims": resting,
                }
            )
    spec = summary["spec"]
    hardware = summary.get("hardware") or {}
    predicted = summary.get("predicted_seconds")
    return {
        "scale": scale,
        "run_id": run_id,
        "heading": f"{spec['model']['kind'].replace('_', ' ')}, learning rate "
        f"{number(spec['optimizer']['learning_rate'], 4)}, weight decay {number(spec['decay']['weight_decay'], 4)}, "
        f"seed {spec['seed']}",
        "steps": spec["steps"],
        "diverged_at_step": summary["diverged_at_step"],
        "uses": uses,
        "final": [(words(name), number(value, 5)) for name, value in summary["final"].items()],
        "texts": list((summary.get("texts") or {}).items()),
        "decay": [
            (
                group,
                value.get("configured"),
                value.get("measured"),
                ", ".join(f"{words(k)} {scalar(v)}" for k, v in value.items() if k not in ("configured", "measured")),
            )
            for group, value in (summary.get("applied_decay") or {}).items()
        ],
        "cost": [
            ("measured", duration(summary["seconds"])),
            ("predicted", duration(predicted) if predicted else "no prediction was made"),
            ("arithmetic", size(summary.get("flops"), "FLOP")),
            ("peak memory", size(summary.get("peak_memory_bytes"))),
            ("weights", size(summary.get("parameters"), "").strip()),
        ],
        "provenance": [
            ("started", summary["started_at"]),
            ("commit", summary.get("commit") or "unknown"),
            ("code", summary.get("code") or "unknown"),
            ("data, sha256", summary.get("data_sha256") or "unknown"),
            *((words(name), scalar(value)) for name, value in hardware.items()),
            *((f"version of {name}", value) for name, value in (summary.get("versions") or {}).items()),
        ],
        "spec": [(key, scalar(value)) for key, value in _flat(spec)],
        "command": f"decaylab train {run_id} --scale {scale}",
        "summary": relative(layout.summary(run_id), here),
        "metrics": relative(layout.metrics(run_id), here) if layout.metrics(run_id).exists() else None,
    }


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{a: {b: 1}}` as (`a.b`, 1)."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        elif isinstance(item, list) and item and isinstance(item[0], Mapping):
            for index, part in enumerate(item):
                yield from _flat(part, f"{prefix}{key}.{index}.")
        else:
            yield f"{prefix}{key}", item


def write_yaml_page(rep: Replication, workspace: Workspace) -> Path:
    """replication.yaml as a page with numbered lines, since no browser jumps to a line of a plain file."""
    path = workspace.layout.index(workspace.scale).parent / "yaml" / f"{rep.name}.html"
    lines = replication_file(workspace.root, rep.name).read_text(encoding="utf-8").splitlines()
    write_page(path, "yaml.html.j2", {"name": rep.name, "title": rep.title, "scale": workspace.scale, "lines": lines})
    return path


def write_page(path: Path, template: str, page: Mapping[str, Any]) -> None:
    """Fill a template and write it, atomically."""
    text = environment().get_template(template).render(page, icons=icons)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
