"""Pages of filed evidence: its runs are restored, then judged and shown like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.analysis.filed import Origin, filed_names, read_origin
from decaylab.analysis.judge import judge, write
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import load_replication, replication_file
from decaylab.report.claims import read_verdicts
from decaylab.report.html import relative
from decaylab.report.notebook import render
from decaylab.report.provenance import evidence_facts, sources_text
from decaylab.report.site import build_site, write_page


def render_filed(filed: str, name: str, layout: Layout, root: Path) -> Path:
    """Judge a replication from restored evidence and render its notebook; returns the page's path.

    Args:
        filed: the evidence's name, <scale>-<data>-<hardware>.
        layout: the reader's own results and reports, below which evidence is restored and shown.

    Raises:
        InputError: it is not restored, or not of this replication.
    """
    here = layout.filed(filed)
    origin = _origin(here, filed)
    if name not in origin.filed:
        raise InputError(f"evidence {filed}: {name!r}: expected one of {', '.join(origin.filed)}")
    rep = load_replication(replication_file(root, name))
    write(judge(rep, origin.scale, here, root, origin.choices), here)
    return render(name, origin.scale, here, root, **{kind: choice.text for kind, choice in origin.choices.items()})


def build_filed_site(layout: Layout, root: Path) -> Path:
    """Write index and run pages of each evidence that is restored, and reports/evidence/index.html, whose path it is.

    Raises:
        InputError: something restored is damaged.
    """
    path = layout.reports / "evidence" / "index.html"
    shown = []
    for filed in filed_names(root):
        here = layout.filed(filed)
        if here.origin.exists():
            origin = _origin(here, filed)
            index = build_site(origin.scale, here, root, origin.choices)
            shown.append(_entry(origin, here, root, path.parent) | {"index": relative(index, path.parent)})
    write_page(path, "evidence.html.j2", {"filed": shown})
    return path


def _origin(here: Layout, filed: str) -> Origin:
    origin = read_origin(here)
    if origin is None:
        raise InputError(f"{here.origin}: no such file; run `decaylab evidence restore {filed}` first")
    return origin


def _entry(origin: Origin, here: Layout, root: Path, folder: Path) -> dict[str, Any]:
    """What the index of all evidence says of one."""
    replications = []
    for name, head in origin.filed.items():
        report = here.report(origin.scale, name)
        replications.append(
            {
                "title": load_replication(replication_file(root, name)).title,
                "report": relative(report, folder) if report.exists() else None,
                "counts": (read_verdicts(here.verdicts(origin.scale, name)) or {"counts": {}})["counts"],
                "runs": head["runs"],
                "runs_planned": head["runs_planned"],
            }
        )
    heads = list(origin.filed.values())
    return {
        "scale": origin.scale,
        "hardware": ", ".join(dict.fromkeys(head["hardware"] for head in heads)),
        "data": sources_text(item for head in heads for item in head["data"]),
        "facts": evidence_facts(origin, origin.filed, root, folder),
        "replications": replications,
    }
