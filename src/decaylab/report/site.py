"""The static site of a scale: an index of all claims, and a page for each run, readable by double-click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import read_origin
from decaylab.analysis.results import load_run
from decaylab.analysis.summary import summarise
from decaylab.analysis.verdict import VERDICTS, VerdictFile
from decaylab.files import atomic_path, git_commit
from decaylab.replication import (
    Replication,
    list_replications,
    load_replication,
    plan_here,
    replication_file,
)
from decaylab.report.archive_summary import page_name, summary_page
from decaylab.report.claims import claim_views, read_evidence
from decaylab.report.doc_pages import body, documents, links
from decaylab.report.findings import agreement, findings, main_finding, open_claims, preregistered
from decaylab.report.html import environment, relative
from decaylab.report.ledger_page import ledger_page
from decaylab.report.provenance import data_list, evidence_note
from decaylab.report.references import citation
from decaylab.report.run_pages import run_page, write_metrics
from decaylab.report.verified import said_again
from decaylab.workspace import SCALES, Workspace

OTHER_THEME = "Further findings"


def build_site(workspace: Workspace) -> Path:
    """Write reports/<scale>/index.html, ledger.html and runs/<run_id>.html for every finished run of the scale.

    The index lists all replications, or those of the archive from which the results were restored.

    Returns:
        the path of index.html.

    Raises:
        InputError: a verdict file, an archive or a result is damaged.
    """
    root, scale, layout = workspace.root, workspace.scale, workspace.layout
    origin = read_origin(layout)
    reps = [load_replication(replication_file(root, name)) for name in list_replications(root)]
    reps = [rep for rep in reps if origin is None or rep.name in origin.filed]
    claims = {rep.name: claim_views(rep, workspace) for rep in reps}
    planned = plan_here(reps, workspace)
    # verdicts may rest on runs with other data than chosen now
    shown = {run["id"] for views in claims.values() for view in views for run in view["runs"] if run["link"]}
    finished = [run_id for run_id in planned if layout.summary(run_id).exists()]
    runs = [load_run(layout, run_id) for run_id in dict.fromkeys([*finished, *sorted(shown)])]
    here = layout.index(scale).parent

    def note(folder: Path) -> dict[str, Any]:
        names = [rep.name for rep in reps]
        return {"evidence_note": evidence_note(origin, names, workspace, folder) if origin else None}

    for run in runs:
        page = run_page(run, workspace, reps, claims, planned)
        write_metrics(run, workspace)
        write_page(here / "runs" / f"{run.run_id}.html", "run.html.j2", page | note(here / "runs"))
    for rep in reps:
        write_yaml_page(rep, workspace)
        for file in read_evidence(root, rep.name):
            write_page(here / page_name(file), "archive.html.j2", summary_page(file, rep))
    for title, path in documents(root).items():
        page = {"title": title, "scale": scale, "body": body(path), "others": links(workspace)}
        write_page(here / "docs" / f"{path.stem}.html", "doc.html.j2", page)
    ledger = ledger_page(reps, workspace) if origin is None else None
    if ledger:
        write_page(here / "ledger.html", "ledger.html.j2", ledger)
    page = index_page(workspace, reps, claims, runs) | {"ledger": ledger}
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
    summary = summarise(named)
    for view in views:
        view["survives"] = f"{view['replication']}/{view['claim']}" in summary.surviving
    shown = [_replication(rep, claims[rep.name], workspace) for rep in reps]
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
        "archived_scales": ", ".join(sorted({view["scale"] for view in views if view["origin"]}, key=SCALES.index)),
        "summary": summary,
        "agreement": agreement(views),
        "open_claims": open_claims(views),
        "preregistered": preregistered(views),
        "again": said_again(views),
        "choices": _choices(reps, views),
        "data": data_list(_sources(runs, reps, workspace.root), layout.results),
        "documents": links(workspace),
        "scales": [
            (other, relative(layout.index(other), layout.index(scale).parent))
            for other in SCALES
            if other != scale and layout.index(other).exists()
        ],
        "themes": _themes(shown),
        "replications": shown,
    }


def _replication(rep: Replication, views: list[dict[str, Any]], workspace: Workspace) -> dict[str, Any]:
    """What the index shows of one replication."""
    found = findings(views)
    return {
        "name": rep.name,
        "title": rep.title,
        "theme": rep.theme or OTHER_THEME,
        "question": rep.question,
        "references": [(citation(reference), reference.url) for reference in rep.references],
        "report": f"{rep.name}.html" if workspace.layout.report(workspace.scale, rep.name).exists() else None,
        "claims": views,
        "main_finding": main_finding(found, views),
        "findings": found,
    }


def _themes(shown: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Replications that found something, by their themes, in their order; those without a theme come last."""
    themes: dict[str, list[dict[str, Any]]] = {}
    for rep in sorted(shown, key=lambda rep: rep["theme"] == OTHER_THEME):
        if rep["findings"]:
            themes.setdefault(rep["theme"], []).append(rep)
    return themes


def _choices(reps: list[Replication], views: list[dict[str, Any]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(name, label, options) of the filters that have anything to choose between."""

    def of(key: str) -> list[tuple[str, str]]:
        found = [value for view in views for value in ([view[key]] if isinstance(view[key], str) else view[key] or [])]
        return [(value, value) for value in dict.fromkeys(found)]

    choices = [
        ("replication", "replication", [(rep.name, rep.title) for rep in reps]),
        ("source", "source", of("cited")),
        ("scale", "scale", of("scale")),
        ("data", "data set", of("data")),
    ]
    return [choice for choice in choices if len(choice[2]) > 1]


def _sources(runs: list[Any], reps: list[Replication], root: Path) -> list[str]:
    """Names of all data behind what the index shows: of the runs here, then of filed ones."""
    filed = [item["source"] for rep in reps for file in read_evidence(root, rep.name) for item in file["data"]]
    return [*(run.summary["spec"]["data"]["source"] for run in runs), *filed]


def write_yaml_page(rep: Replication, workspace: Workspace) -> Path:
    """replication.yaml as a page with numbered lines, since no browser jumps to a line of a plain file."""
    path = workspace.layout.index(workspace.scale).parent / "yaml" / f"{rep.name}.html"
    lines = replication_file(workspace.root, rep.name).read_text(encoding="utf-8").splitlines()
    write_page(path, "yaml.html.j2", {"name": rep.name, "title": rep.title, "scale": workspace.scale, "lines": lines})
    return path


def write_page(path: Path, template: str, page: Mapping[str, Any]) -> None:
    """Fill a template and write it, atomically."""
    text = environment().get_template(template).render(page)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
