"""Claims as pages show them: judged here, or else by the best archived evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import load_evidence, read_origin
from decaylab.analysis.verdict import ClaimVerdict, VerdictFile
from decaylab.files import Layout
from decaylab.replication import Replication, claim_lines, replication_file
from decaylab.report.html import relative
from decaylab.report.provenance import sources_text
from decaylab.sources import is_named
from decaylab.workspace import SCALES, Workspace


def read_evidence(root: Path, name: str) -> list[dict[str, Any]]:
    """Evidence files of a replication, the largest scale first. Raises InputError."""
    return sorted(load_evidence(root, name), key=lambda value: -SCALES.index(value["scale"]))


def judged_in(evidence: Iterable[dict[str, Any]], claim: str) -> list[tuple[dict[str, Any], ClaimVerdict]]:
    """(evidence, the claim as judged there), the best first, for each file in which a claim has a verdict.

    Best is the largest scale; then data that everybody has, as a reader's own runs will; then the most seeds.
    """

    def rank(pair: tuple[dict[str, Any], ClaimVerdict]) -> tuple[int, bool, int]:
        file, judged = pair
        own = not all(is_named(data["source"]) for data in file["data"])
        return -SCALES.index(file["scale"]), own, -judged.n

    pairs = ((file, item) for file in evidence for item in file["verdicts"].claims if item.claim == claim)
    return sorted((pair for pair in pairs if pair[1].verdict != "not run"), key=rank)


def claim_views(rep: Replication, workspace: Workspace) -> list[dict[str, Any]]:
    """Every claim of a replication as pages show it.

    A claim judged here has its verdict; else that of the best evidence, with `origin` naming the file; else `not run`.
    `evidence` lists what all other evidence found, best first. Links are relative to the folder of the scale's reports.
    """
    root, scale, layout = workspace.root, workspace.scale, workspace.layout
    here = layout.index(scale).parent
    lines = claim_lines(replication_file(root, rep.name))
    verdicts = VerdictFile.read(layout.verdicts(scale, rep.name))
    judged = {claim.claim: claim for claim in verdicts.claims} if verdicts else {}
    shown = read_origin(layout)
    # restored evidence is shown two folders below a reader's own runs, see Layout.filed
    home = Layout(layout.results, layout.reports.parents[1] if shown else layout.reports)
    # evidence does not stand beside itself
    own = shown.filed.get(rep.name, {}).get("file") if shown else None
    evidence = [file for file in read_evidence(root, rep.name) if file["file"] != own]
    views = []
    for claim in rep.claims:
        found = judged.get(claim.id)
        origin = None
        filed = judged_in(evidence, claim.id)
        if (found is None or found.verdict == "not run") and filed:
            (file, found), *filed = filed
            origin = _shown_at(file, home, root, here)
        view = {
            "claim": claim.id,
            "statement": claim.statement,
            "locator": claim.locator,
            "unit": claim.unit,
            "source_value": claim.source_value.model_dump(),
            "verdict": "not run",
            "reason": "" if scale in claim.scales else f"judged at {', '.join(claim.scales)} only",
            "estimate": None,
            "interval": None,
            "n": 0,
            "difference_from_source": None,
            "scale": None,
            "direction": claim.tests[0].direction,
            "smallest_effect": claim.tests[0].smallest_effect,
            "kind": claim.tests[0].kind,
            "test": claim.tests[0].name or claim.tests[0].metric.name,
            "registered_at": None,
            "registered_before_runs": None,
            "parts": [],
            "also": [],
            "run_ids": [],
            "seconds": None,
            "commits": [],
            "hardware": None,
        } | {key: value for key, value in (found.to_json() if found else {}).items() if key != "statement"}
        view |= {
            "replication": rep.name,
            "note": claim.note,
            "line": lines[claim.id],
            "text_changed": bool(found and found.claim_sha256 not in (None, claim.sha256())),
            "here": bool(found) and origin is None,
            "origin": origin,
            "evidence": [
                {key: getattr(item, key) for key in ("verdict", "estimate", "interval", "n")}
                | {
                    "label": f"{file['scale']}, {file['hardware']}, {sources_text(file['data'])}",
                    "link": _shown_at(file, home, root, here),
                }
                for file, item in filed
            ],
            "yaml_link": f"yaml/{rep.name}.html#L{lines[claim.id]}",
            "report_link": f"{rep.name}.html#claim-{claim.id}",
            "runs": [
                {"id": run_id, "link": f"runs/{run_id}.html" if layout.summary(run_id).exists() else None}
                for run_id in (found.run_ids if found else [])
            ],
            "commit_text": _few(
                [commit[:8] + "+dirty" * commit.endswith("dirty") for commit in (found.commits if found else [])]
            ),
            "hardware_text": _few(found.hardware if found else []),
        }
        views.append(view)
    return views


def _shown_at(file: Mapping[str, Any], home: Layout, root: Path, here: Path) -> str:
    """Where evidence can be read: its report if it is rendered, else the file itself."""
    report = home.filed(Path(file["file"]).stem).report(file["scale"], file["replication"])
    return relative(report if report.exists() else root / file["file"], here)


def _few(texts: list[str]) -> str:
    texts = list(dict.fromkeys(texts))
    return ", ".join(texts[:2]) + (f" and {len(texts) - 2} more" if len(texts) > 2 else "")
