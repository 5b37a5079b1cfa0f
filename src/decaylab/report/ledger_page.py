"""The ledger as a page of the site, and as a table of the documentation: every statement, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.analysis.verdict import DECIDED, ClaimVerdict, VerdictFile
from decaylab.files import Layout
from decaylab.ledger import OUTCOMES, Entry, Ledger, Tie, check_claims_exist, ledger_file, load_ledger
from decaylab.replication import Replication, select
from decaylab.report.claims import judged_in, read_evidence, shown_at
from decaylab.report.html import measured, relative
from decaylab.workspace import SCALES, Workspace

ANY = ""
"""in place of a scale: for each claim, the largest scale at which it is decided"""
SENSES = {
    "as it says": "",
    "not": "the statement denies this claim",
    "opposite": "the statement says the opposite of this claim",
    "stricter": "stricter than the statement, which stays open where this claim fails",
}


@dataclass(frozen=True)
class Found:
    """What became of one claim at one scale."""

    verdict: str
    text: str
    """estimate, interval and seeds in words; empty without an estimate"""
    archived: bool
    link: str | None = None

    @classmethod
    def of(cls, claim: ClaimVerdict, unit: str, archived: bool, link: str | None = None) -> Found:
        text = ""
        if claim.estimate is not None:
            seeds = f"{claim.n} seed{'s' if claim.n != 1 else ''}"
            text = f"{measured(claim.estimate, claim.interval, unit)}, {seeds}"
        return cls(claim.verdict, text, archived, link)


Judged = dict[str, dict[str, Found]]
"""<replication>/<claim>: scale: what was found there"""


def judged(reps: Sequence[Replication], root: Path, layout: Layout | None = None, here: Path | None = None) -> Judged:
    """Verdicts of all claims at each scale that has any: of the results, else of the best filed evidence.

    Args:
        layout: the results; None for filed evidence alone.
        here: the folder of the page that links to them; None for no links.

    Raises:
        InputError: a verdict file or evidence is damaged.
    """
    found: Judged = {}
    for rep in reps:
        evidence = read_evidence(root, rep.name)
        units = {claim.id: claim.unit for claim in rep.claims}
        for claim, unit in units.items():
            mine = found.setdefault(f"{rep.name}/{claim}", {})
            for file, verdict in judged_in(evidence, claim):
                link = shown_at(file, layout, here) if layout and here else None
                mine.setdefault(file["scale"], Found.of(verdict, unit, True, link))
        for scale in SCALES if layout else ():
            file = VerdictFile.read(layout.verdicts(scale, rep.name))
            index = layout.index(scale)
            for verdict in file.claims if file else ():
                if verdict.verdict != "not run" and verdict.claim in units:
                    anchor = f"#{rep.name}-claim-{verdict.claim}"
                    shown = here and (index.exists() or index.parent == here)
                    link = f"{relative(index, here)}{anchor}" if shown else None
                    found[f"{rep.name}/{verdict.claim}"][scale] = Found.of(verdict, units[verdict.claim], False, link)
    return found


def verdicts_at(found: Judged, scale: str) -> dict[str, str]:
    """Verdict of each claim at a scale; for ANY, at the largest scale that decides it. Smoke decides nothing."""
    if scale != ANY:
        return {claim: items[scale].verdict for claim, items in found.items() if scale in items}
    best = {}
    order = [*DECIDED, "inconclusive", "not testable here"]
    for claim, items in found.items():
        known = [items[scale].verdict for scale in reversed(SCALES[1:]) if scale in items]
        if known:
            # stable: of the decided ones, that of the largest scale
            best[claim] = min(known, key=lambda verdict: verdict not in DECIDED and order.index(verdict))
    return best


def ledger_page(reps: Sequence[Replication], workspace: Workspace) -> dict[str, Any] | None:
    """What the template `ledger.html.j2` shows, for a page in reports/<scale>/; None where there is no ledger.

    Raises:
        InputError: the ledger is damaged, or names a claim that its replication does not have.
    """
    root, layout = workspace.root, workspace.layout
    if not ledger_file(root).exists():
        return None
    ledger = checked_ledger(root, reps)
    found = judged(reps, root, layout, layout.index(workspace.scale).parent)
    scales = [scale for scale in SCALES if any(scale in items for items in found.values())]
    verdicts = {scale: verdicts_at(found, scale) for scale in (ANY, *scales)}
    counts = Counter(entry.outcome(verdicts[ANY]) for entry in ledger.entries)
    return {
        "scale": workspace.scale,
        "scales": scales,
        "total": len(ledger.entries),
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]},
        "outcomes": [
            outcome
            for outcome in OUTCOMES
            if any(entry.outcome(known) == outcome for known in verdicts.values() for entry in ledger.entries)
        ],
        "sources": [
            {
                "key": key,
                "source": source,
                "said": {scale: ledger.summary(key, known) for scale, known in verdicts.items()},
                "entries": [_entry(entry, reps, found, verdicts) for entry in ledger.of(key)],
            }
            for key, source in ledger.sources.items()
        ],
    }


def checked_ledger(root: Path, reps: Sequence[Replication]) -> Ledger:
    """The ledger, whose claims exist wherever their replication does. Raises InputError."""
    ledger = load_ledger(root)
    check_claims_exist(ledger, {rep.name: {claim.id for claim in rep.claims} for rep in reps}, ledger_file(root))
    return ledger


def _entry(
    entry: Entry, reps: Sequence[Replication], found: Judged, verdicts: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    return {
        "entry": entry,
        "outcomes": {scale: entry.outcome(known) for scale, known in verdicts.items()},
        "claims": [_tied(tie, reps, found) for tie in entry.ties],
    }


def _tied(tie: Tie, reps: Sequence[Replication], found: Judged) -> dict[str, Any]:
    """A claim beside a statement: what it says, where it is shown, and what was found at each scale."""
    statement, title = claim_words(tie, reps)
    replication, _, claim = tie.claim.partition("/")
    items = found.get(tie.claim, {})
    return {
        "name": tie.claim,
        "sense": SENSES[tie.sense],
        "statement": statement,
        "title": title,
        "link": f"index.html#{replication}-claim-{claim}" if statement else None,
        "found": [(scale, items[scale]) for scale in SCALES if scale in items],
    }


def claim_words(tie: Tie, reps: Sequence[Replication]) -> tuple[str, str]:
    """Statement of a claim and title of its replication; empty where the suite does not have it yet."""
    replication, _, name = tie.claim.partition("/")
    for rep in reps:
        for claim in rep.claims:
            if (rep.name, claim.id) == (replication, name):
                return " ".join(claim.statement.split()), rep.title
    return "", ""


# --- as a table of the documentation ---------------------------------------------------------------------------------


def ledger_markdown(root: Path) -> str:
    """All statements with their outcomes as Markdown, from the filed evidence alone. Raises InputError."""
    reps = select(root, "all")
    ledger = checked_ledger(root, reps)
    found = judged(reps, root)
    verdicts = verdicts_at(found, ANY)
    sections = []
    for key, source in ledger.sources.items():
        who = f"{source.authors}, {source.year}"
        who = f"[{who}]({source.url})" if source.url else who
        rows = [
            f"| {entry.id} | {_cell(entry.statement)} | **{entry.outcome(verdicts)}** | {_ground(entry, reps, found)} |"
            for entry in ledger.of(key)
        ]
        head = ["| id | statement | outcome | why |", "|---|---|---|---|"]
        sections.append(
            f"## {source.title}\n\n{who}. {ledger.summary(key, verdicts)}\n\n" + "\n".join([*head, *rows]) + "\n"
        )
    return "\n".join(sections)


def _ground(entry: Entry, reps: Sequence[Replication], found: Judged) -> str:
    """Why a statement has its outcome: verdicts of claims, a document, or a reason."""
    if entry.document:
        return _cell(f"{entry.document.name}: {entry.document.finding}")
    if entry.untestable:
        return _cell(entry.untestable)
    parts = []
    for tie in entry.ties:
        replication, _, claim = tie.claim.partition("/")
        exists = bool(claim_words(tie, reps)[0])
        name = f"[{claim}](../replications/{replication})" if exists else f"`{tie.claim}`"
        items = found.get(tie.claim, {})
        said = ", ".join(f"{items[scale].verdict} at {scale} scale" for scale in SCALES if scale in items)
        said = said or ("not run" if exists else "not part of the suite yet")
        parts.append(f"{SENSES[tie.sense]}: {name}, {said}" if tie.sense != "as it says" else f"{name}: {said}")
    parts += [f"left open: {entry.partly}"] if entry.partly else []
    return _cell("; ".join(parts))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
