"""Where archived evidence comes from, in words for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import Origin
from decaylab.report.html import Html, link, relative, scale_text
from decaylab.workspace import Workspace


def sources_text(data: Iterable[Mapping[str, Any]]) -> str:
    """Sources of some evidence's `data`, each once."""
    return ", ".join(dict.fromkeys(item["source"] for item in data))


def evidence_facts(origin: Origin, names: Iterable[str], root: Path, folder: Path) -> Html:
    """Scale, hardware, data, runs, commit, day and files of restored evidence, for a page in `folder`."""
    heads = {name: origin.filed[name] for name in names}
    commits = sorted({commit for head in heads.values() for commit in head["commits"]})
    runs, planned = (sum(head[key] for head in heads.values()) for key in ("runs", "runs_planned"))
    facts = [
        f"scale {scale_text(origin.scale)}",
        *dict.fromkeys(head["hardware"] for head in heads.values()),
        f"data {sources_text(item for head in heads.values() for item in head['data'])}",
        f"{runs} of {planned} planned runs",
        f"code of commit {', '.join(commits)}",
        f"filed {', '.join(sorted({head['made_at'][:10] for head in heads.values()}))}",
        *(["curves that no claim reads are thinned"] if any(head["thinned"] for head in heads.values()) else []),
    ]
    files = ", ".join(link(name, relative(root / head["file"], folder)) for name, head in heads.items())
    return Html(f"{escape('; '.join(facts))}; filed as {files}.")


def evidence_note(origin: Origin, names: Iterable[str], workspace: Workspace, folder: Path) -> Html:
    """The line that says of a page in `folder` that it shows evidence."""
    facts = evidence_facts(origin, names, workspace.root, folder)
    index = link("All evidence", relative(workspace.layout.reports.parent / "index.html", folder))
    return Html(f'<p class="note">Shown from filed evidence; nothing was trained here: {facts} {index}.</p>')
