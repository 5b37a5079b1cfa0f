"""What `decaylab verify` found: verdicts that other runs gave to decided claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from decaylab.analysis.verdict import DECIDED
from decaylab.errors import InputError
from decaylab.files import Layout, read_json

MODES = {"rounding": "the same seeds with other rounding", "fresh": "fresh seeds"}


@dataclass(frozen=True)
class Again:
    """One claim judged again."""

    mode: str
    """in words: what differs"""
    before: str
    verdict: str
    estimate: float | None
    n: int

    @property
    def moved(self) -> bool:
        """Whether it is decided otherwise; an undecided claim may only need more seeds."""
        return self.verdict in DECIDED and self.verdict != self.before


def read_again(layout: Layout, scale: str) -> dict[str, list[Again]]:
    """<replication>/<claim>: what verifying it gave, from results/verify/<scale>.json. Raises InputError."""
    path = layout.verified(scale)
    if not path.exists():
        return {}
    found: dict[str, list[Again]] = {}
    try:
        for item in read_json(path):
            again = Again(MODES[item["mode"]], item["verdict"], item["again"], item["estimate_again"], item["n_again"])
            found.setdefault(item["claim"], []).append(again)
    except (KeyError, TypeError):
        raise InputError(
            f"{path}: expected a list of claims with mode, verdict, again, estimate_again, n_again"
        ) from None
    return found


def said_again(views: Iterable[Mapping[str, Any]]) -> str:
    """How many verified claims kept their verdict, as one sentence; empty if none was verified."""
    items = [item for view in views for item in view["again"]]
    parts = []
    for mode in MODES.values():
        mine = [item for item in items if item.mode == mode]
        if mine:
            same = sum(item.verdict == item.before for item in mine)
            other = sum(item.moved for item in mine)
            rest = len(mine) - same - other
            more = [f"{other} came out otherwise"] * bool(other) + [f"{rest} stayed undecided"] * bool(rest)
            parts.append(f"with {mode}, {', '.join([f'{same} of {len(mine)} came out the same', *more])}")
    return f"Decided claims were judged again on other runs: {'; '.join(parts)}." if parts else ""
