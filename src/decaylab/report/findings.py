"""What was found, in sentences: a small grammar over verdicts. Nothing here is written by hand for a claim.

A finding is the claim's own statement, introduced by what its verdict says of it, with the number that decides it and
how far it carries: which variants, data and scales agree. Undecided claims are counted, never paraphrased.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decaylab.report.html import measured, number

INTRODUCTION: dict[str, str] = {
    "reproduced": "",
    "contradicted": "Does not hold here: ",
    "negligible": "No effect that matters: ",
    "not testable here": "Could not be tested here: ",
}
"""what a verdict says of a statement; findings are listed in this order, and other verdicts make none"""


@dataclass(frozen=True)
class Finding:
    """One sentence about one claim."""

    claim: str
    replication: str
    verdict: str
    text: str
    """the sentence, with its number"""
    carries: str
    """how far it carries: which variants and archived runs agree, differ or are undecided"""


def findings(views: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Findings about claims, decided ones first, in the order of the claims.

    Args:
        views: claims as `claims.claim_views` gives them.
    """
    order = list(INTRODUCTION)
    said = [view for view in views if view["verdict"] in INTRODUCTION]
    return [
        Finding(view["claim"], view["replication"], view["verdict"], _sentence(view), _carries(view))
        for view in sorted(said, key=lambda view: order.index(view["verdict"]))
    ]


def main_finding(found: Sequence[Finding], views: Sequence[Mapping[str, Any]]) -> Finding | None:
    """The finding that stands for a replication: of its first claim that is decided, whatever the verdict."""
    rank = {view["claim"]: place for place, view in enumerate(views)}
    return min(found, key=lambda item: (item.verdict == "not testable here", rank[item.claim]), default=None)


def _sentence(view: Mapping[str, Any]) -> str:
    statement = " ".join(view["statement"].split()).rstrip(".")
    verdict = view["verdict"]
    if verdict == "not testable here":
        reason = f" ({view['reason']})" if view["reason"] else ""
        return f"{INTRODUCTION[verdict]}{_lower(statement)}{reason}."
    introduction = INTRODUCTION[verdict]
    statement = _lower(statement) if introduction else statement
    return f"{introduction}{statement}. {_number(view)}"


def _number(view: Mapping[str, Any]) -> str:
    """What was measured, as a sentence of its own."""
    seeds = f"{view['n']} seed{'s' if view['n'] != 1 else ''}"
    test = f" in the test “{view['test']}”" if len(view["parts"]) > 1 else ""
    if view["kind"] != "mean":
        low, high = (number(100 * end, 2) for end in view["interval"])
        needed = f"{'more' if view['direction'] == 'above' else 'less'} than {number(100 * view['smallest_effect'])} %"
        share = f"{round(view['estimate'] * view['n'])} of {seeds}{test}, interval {low} to {high} %"
        return f"Measured: {share}; the claim needs {needed}."
    value = f"{measured(view['estimate'], view['interval'], view['unit'])}, {seeds}{test}"
    effect = measured(view["smallest_effect"], None, view["unit"])
    if view["verdict"] == "negligible":
        return f"Measured: {value}; less than {effect} does not matter."
    if view["direction"] == "within":
        return f"Measured difference: {value}; up to {effect} counts as equal."
    if view["verdict"] == "contradicted":
        return f"The measured difference has the other sign: {value}."
    return f"Measured: {value}."


def _carries(view: Mapping[str, Any]) -> str:
    """Which variants and archived runs agree with the verdict and which differ; undecided ones are counted.

    Variants with a question of their own, another metric say, are left out: they neither agree nor differ.
    """
    tried = [item for item in [*view["also"], *view["evidence"]] if item["verdict"] in INTRODUCTION]
    same = [item["label"] for item in tried if item["verdict"] == view["verdict"]]
    other = [f"{item['label']} ({item['verdict']})" for item in tried if item["verdict"] != view["verdict"]]
    undecided = sum(item["verdict"] == "inconclusive" for item in [*view["also"], *view["evidence"]])
    parts = [f"From archived runs at {view['scale']} scale."] if view.get("origin") else []
    parts += [f"Same verdict: {'; '.join(same)}."] if same else []
    parts += [f"Another verdict: {'; '.join(other)}."] if other else []
    if undecided:
        parts.append(f"{undecided} other setting{'s are' if undecided > 1 else ' is'} undecided.")
    return " ".join(parts) or "Seen in this setting only."


def _lower(statement: str) -> str:
    """A statement that goes on after a colon; names such as AdamW keep their capitals."""
    first = statement.split(" ", 1)[0]
    return statement if sum(letter.isupper() for letter in first) > 1 else statement[0].lower() + statement[1:]


def open_claims(views: Sequence[Mapping[str, Any]]) -> str:
    """What the findings leave open, as one sentence; empty if nothing is open."""
    counts = Counter(view["verdict"] for view in views)
    parts = []
    if count := counts["inconclusive"]:
        parts.append(f"{count} claim{'s are' if count > 1 else ' is'} undecided: these runs cannot tell")
    if count := counts["not run"]:
        parts.append(f"{count} {'have' if count > 1 else 'has'} not been run")
    return f"{'; '.join(parts)}." if parts else ""


def agreement(views: Sequence[Mapping[str, Any]]) -> str:
    """How often the direction agrees with the source's, and how often its value lies in our interval.

    Only claims for which the source gives a number for the test that decides; the sign counts where both have one.
    """
    pairs = [
        (view["estimate"], view["interval"], view["source_value"]["value"])
        for view in views
        if view["estimate"] is not None and view["source_value"].get("value") is not None
    ]
    signed = [(ours, source) for ours, _, source in pairs if source != 0]
    within = [(interval, source) for _, interval, source in pairs if interval and None not in interval]
    if not pairs:
        return ""
    same = sum(ours * source > 0 for ours, source in signed)
    inside = sum(interval[0] <= source <= interval[1] for interval, source in within)
    return (
        f"Where the source gives a number, our estimate has its sign in {same} of {len(signed)} claims, and the number "
        f"lies in our interval in {inside} of {len(within)}."
    )


def preregistered(views: Sequence[Mapping[str, Any]]) -> str:
    """How many of the judged claims were fixed before their runs."""
    known = [view["registered_before_runs"] for view in views if view["registered_before_runs"] is not None]
    if not known:
        return ""
    if all(known):
        return "Each claim, its test and the smallest effect that matters were fixed before its runs."
    return f"{sum(known)} of {len(known)} claims were fixed before their runs; the others are marked."
