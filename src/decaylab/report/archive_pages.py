"""Pages of archived runs: they are restored, then judged and shown like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.analysis.archive import Origin, filed_names, read_origin
from decaylab.analysis.restoring import restored_verdicts
from decaylab.analysis.verdict import VerdictFile
from decaylab.errors import InputError
from decaylab.replication import load_replication, replication_file
from decaylab.report.html import relative
from decaylab.report.notebook import render
from decaylab.report.provenance import evidence_facts, sources_text
from decaylab.report.site import build_site, write_page
from decaylab.workspace import Workspace


def render_archived(filed: str, name: str, workspace: Workspace) -> Path:
    """Judge a replication from restored runs and render its notebook; returns the page's path.

    Args:
        filed: the archive's name, <scale>-<data>-<hardware>.
        workspace: the reader's own results and reports, below which archives are restored and shown.

    Raises:
        InputError: it is not restored, or not of this replication.
    """
    origin, shown = _restored(filed, workspace)
    if name not in origin.filed:
        raise InputError(f"evidence {filed}: {name!r}: expected one of {', '.join(origin.filed)}")
    rep = load_replication(replication_file(workspace.root, name))
    restored_verdicts(rep, filed, shown).write(shown.layout)
    return render(name, shown)


def build_archive_site(workspace: Workspace) -> Path:
    """Write index and run pages of each restored archive, and reports/evidence/index.html, whose path it returns.

    Raises:
        InputError: something restored is damaged.
    """
    path = workspace.layout.reports / "evidence" / "index.html"
    entries = []
    for filed in filed_names(workspace.root):
        if workspace.layout.filed(filed).origin.exists():
            origin, shown = _restored(filed, workspace)
            index = build_site(shown)
            entries.append(_entry(origin, shown, path.parent) | {"index": relative(index, path.parent)})
    write_page(path, "evidence.html.j2", {"filed": entries})
    return path


def _restored(filed: str, workspace: Workspace) -> tuple[Origin, Workspace]:
    """Where an archive comes from, and the workspace in which it was restored. Raises InputError."""
    layout = workspace.layout.filed(filed)
    origin = read_origin(layout)
    if origin is None:
        raise InputError(f"{layout.origin}: no such file; run `decaylab evidence restore {filed}` first")
    return origin, origin.workspace(layout, workspace.root)


def _entry(origin: Origin, shown: Workspace, folder: Path) -> dict[str, Any]:
    """What the index of all archives says of one."""
    here, root = shown.layout, shown.root
    replications = []
    for name, head in origin.filed.items():
        report = here.report(origin.scale, name)
        verdicts = VerdictFile.read(here.verdicts(origin.scale, name))
        replications.append(
            {
                "title": load_replication(replication_file(root, name)).title,
                "report": relative(report, folder) if report.exists() else None,
                "counts": verdicts.counts if verdicts else {},
                "runs": head["runs"],
                "runs_planned": head["runs_planned"],
            }
        )
    heads = list(origin.filed.values())
    return {
        "scale": origin.scale,
        "hardware": ", ".join(dict.fromkeys(head["hardware"] for head in heads)),
        "data": sources_text(item for head in heads for item in head["data"]),
        "facts": evidence_facts(origin, origin.filed),
        "replications": replications,
    }
