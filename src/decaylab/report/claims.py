"""Claims as pages show them: judged here, or else in the best archive."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import load_evidence, read_origin
from decaylab.analysis.questions import same_question
from decaylab.analysis.verdict import ClaimVerdict, VerdictFile
from decaylab.files import Layout, read_json
from decaylab.replication import Claim, Replication, claim_lines, replication_file
from decaylab.report.archive_summary import page_name
from decaylab.report.html import measured, relative
from decaylab.report.mini_forest import mini_forest
from decaylab.report.provenance import data_title, sources_text
from decaylab.report.references import cited, located
from decaylab.report.seed_table import seed_table
from decaylab.report.verified import read_again
from decaylab.sources import is_named
from decaylab.workspace import SCALES, Workspace


def read_evidence(root: Path, name: str) -> list[dict[str, Any]]:
    """Archives of a replication, the largest scale first. Raises InputError."""
    return sorted(load_evidence(root, name), key=lambda value: -SCALES.index(value["scale"]))


def judged_in(evidence: Iterable[dict[str, Any]], claim: str) -> list[tuple[dict[str, Any], ClaimVerdict]]:
    """(archive, the claim as judged there), the best first, for each archive in which a claim has a verdict.

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

    A claim judged here has its verdict; else that of the best archive, with `origin` as its page; else `not run`.
    `also` lists variants that ask the same question of other runs; `asked_otherwise` those with another metric,
    contrast or expectation, which speak neither for the claim nor against it. `evidence` lists what all other archives
    found, best first. Links are relative to the folder of the scale's reports.
    """
    root, scale, layout = workspace.root, workspace.scale, workspace.layout
    here = layout.index(scale).parent
    lines = claim_lines(replication_file(root, rep.name))
    texts = _claim_texts(replication_file(root, rep.name), lines)
    verdicts = VerdictFile.read(layout.verdicts(scale, rep.name))
    judged = {claim.claim: claim for claim in verdicts.claims} if verdicts else {}
    shown = read_origin(layout)
    # archives are shown two folders below a reader's own runs, see Layout.filed
    home = Layout(layout.results, layout.reports.parents[1] if shown else layout.reports)
    # an archive is not compared with itself
    itself = shown.filed.get(rep.name, {}).get("file") if shown else None
    evidence = [file for file in read_evidence(root, rep.name) if file["file"] != itself]
    again = read_again(layout, scale)
    views = []
    for claim in rep.claims:
        found = judged.get(claim.id)
        origin, data = None, _sources(found.run_ids if found else [], layout)
        filed = judged_in(evidence, claim.id)
        own = bool(found and found.run_ids and scale == SCALES[0])  # smoke runs decide nothing, but are a reader's own
        if (found is None or found.verdict == "not run") and filed and not own:
            (file, found), *filed = filed
            origin, data = shown_at(file, home, here), [item["source"] for item in file["data"]]
        view = {
            "claim": claim.id,
            "statement": claim.statement.replace(" x ", " \u00d7 "),
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
            "looks": [],
            "detectable": None,
            "outlook": None,
            "p_value": None,
            "preconditions": [],
            "rule_note": "",
            "disagrees": [],
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
                    "label": f"archived runs on {sources_text(file['data'])}"
                    + (f" at {file['scale']} scale" if file["scale"] != scale else "")
                    + f" ({file['hardware']})",
                    "link": shown_at(file, home, here),
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
            "replication_title": rep.title,
            "report_exists": layout.report(scale, rep.name).exists(),
            "located": located(claim.locator, rep.references),
            "yaml": texts[claim.id],
            "cited": cited(claim.locator, rep.references),
            "data": list(dict.fromkeys(map(data_title, data))),
            "again": again.get(f"{rep.name}/{claim.id}", []) if origin is None else [],
            "hardware_text": _few(found.hardware if found else []),
        }
        view |= seed_table(view, claim) | _variants(view["also"], claim)
        views.append(view | {"test_text": test_text(view), "forest": mini_forest(view)})
    return views


def test_text(view: Mapping[str, Any]) -> str:
    """The rule of the deciding test in words."""
    if view["kind"] != "mean":
        return (
            f"reproduced if the whole interval of the proportion lies {view['direction']} {view['smallest_effect']:g}"
        )
    effect = view["smallest_effect"]
    if view["direction"] == "within":
        size = measured(effect, None, view["unit"])
        return f"an equivalence: reproduced if the whole interval lies within \u00b1{size}"
    bound = measured(effect if view["direction"] == "above" else -effect, None, view["unit"]) if effect else "zero"
    return f"reproduced if the whole interval lies {view['direction']} {bound}"


def _variants(also: Iterable[Mapping[str, Any]], claim: Claim) -> dict[str, list[dict[str, Any]]]:
    """Variants that ask the claim's question of other runs, and those with a question of their own."""
    asked = {variant.label: same_question(claim, variant) for variant in claim.also}
    found: dict[str, list[dict[str, Any]]] = {"also": [], "asked_otherwise": []}
    for item in also:
        same = item.get("same_question")  # older files do not say
        same = asked.get(item["label"], False) if same is None else same
        found["also" if same else "asked_otherwise"].append(dict(item))
    return found


def _claim_texts(path: Path, lines: Mapping[str, int]) -> dict[str, str]:
    """The YAML of each claim: from its line to the next claim, or to the end of the block."""
    text = path.read_text(encoding="utf-8").splitlines()
    starts = sorted(lines.items(), key=lambda item: item[1])
    ends = [line for _, line in starts[1:]] + [len(text) + 1]
    found = {}
    for (claim, line), end in zip(starts, ends, strict=True):
        block = text[line - 1 : end - 1]
        indent = len(block[0]) - len(block[0].lstrip())
        inside = [row for row in block[1:] if not row.strip() or len(row) - len(row.lstrip()) > indent]
        found[claim] = textwrap.dedent("\n".join([block[0], *inside])).strip()
    return found


def _sources(run_ids: Iterable[str], layout: Layout) -> list[str]:
    """Names of the data of some runs that are here."""
    files = [layout.summary(run_id) for run_id in run_ids]
    return list(dict.fromkeys(read_json(file)["spec"]["data"]["source"] for file in files if file.exists()))


def shown_at(file: Mapping[str, Any], home: Layout, here: Path) -> str:
    """Where archived runs can be read: their report if it is rendered, else the page that sums them up."""
    report = home.filed(Path(file["file"]).stem).report(file["scale"], file["replication"])
    return relative(report, here) if report.exists() else page_name(file)


def _few(texts: list[str]) -> str:
    texts = list(dict.fromkeys(texts))
    return ", ".join(texts[:2]) + (f" and {len(texts) - 2} more" if len(texts) > 2 else "")
