"""Rounds of seeds: what is trained first, what was added, and whether claims are still waiting for more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from decaylab.analysis.arms import most_seeds
from decaylab.errors import InputError
from decaylab.files import read_json, sha256_json
from decaylab.fingerprint import fingerprint
from decaylab.replication import Replication, expand, plan_here
from decaylab.seeds import read_seeds
from decaylab.workflow.first_look import adds_seeds
from decaylab.workspace import Workspace

STARTED = time.time()
"""when this snakemake read the workflow: what `minutes` counts from"""
RESERVE = 8.0
RESERVE_EACH = 10.0
"""seconds kept for the index, and for judging and rendering each replication, at the end of the time"""


@dataclass(frozen=True)
class DecisionRound:
    """One job that adds seeds to the claims of some replications."""

    key: str
    """of these replications with their claims and data"""
    number: int
    names: tuple[str, ...]
    """replications"""


@cache
def _code_of(summary: Path, _modified: int) -> str | None:
    """Digest of the code that made a run."""
    try:
        return read_json(summary).get("code")
    except (InputError, AttributeError):
        return None


class Rounds:
    """Seeds added to the claims of the replications, at a scale that adds seeds."""

    def __init__(self, reps: Mapping[str, Replication], workspace: Workspace, minutes: float) -> None:
        self.reps, self.workspace, self.minutes = reps, workspace, minutes
        self._found: dict[tuple[str, ...], DecisionRound | None] = {}

    def adds_seeds(self, name: str) -> bool:
        return adds_seeds(self.reps[name], self.workspace.scale)

    def scope(self, name: str, targets: Iterable[str], chosen: Iterable[str]) -> tuple[str, ...]:
        """Replications whose claims compete for the time: those named as targets, else those chosen.

        A replication that is in neither competes with no other.
        """
        targets = set(targets)
        named = [item for item in self.reps if item in targets]
        scope = tuple(item for item in named or chosen if self.adds_seeds(item))
        return scope if name in scope else (name,)

    def round_of(self, names: tuple[str, ...]) -> DecisionRound | None:
        """The round that these replications wait for; None without one.

        It is the last one if nothing was left to decide after it, or if no time is given; otherwise the next one. The
        answer does not change while this snakemake runs.
        """
        if names not in self._found and not all(map(self.adds_seeds, names)):
            self._found[names] = None
        if names not in self._found:
            key = self._key(names)
            record = read_seeds(self.workspace).rounds.get(key)
            number = record.number if record else 0
            done = number > 0 and self.workspace.layout.decided(self.workspace.scale, key, number).exists()
            if not self.minutes:
                number = number if done else 0
            elif not (record and record.complete and done) or self._stale(names):
                number += 1
            self._found[names] = DecisionRound(key, number, names) if number else None
        return self._found[names]

    def by_key(self, key: str) -> DecisionRound:
        """The round of that key. Raises KeyError if nobody waits for it."""
        return next(found for found in self._found.values() if found and found.key == key)

    def until(self, names: tuple[str, ...]) -> float:
        """Unix time at which training must end, so that the pages are ready when the time is up."""
        budget = 60 * self.minutes
        return STARTED + budget - min(budget / 3, RESERVE + RESERVE_EACH * len(names))

    def added(self, name: str) -> list[str]:
        """Finished runs of a replication that the present code made, in the order of the plan."""
        plan = plan_here([self.reps[name]], self.workspace)
        finished = [run_id for run_id in plan if self.workspace.layout.summary(run_id).exists()]
        return [run_id for run_id in finished if not self._is_stale(run_id, fingerprint(plan[run_id].spec))]

    def stale_folders(self, names: Iterable[str], first: Iterable[str]) -> list[Path]:
        """Results of runs that no job makes and that older code made. The judge would read them with the others."""
        first, scale, choices = set(first), self.workspace.scale, dict(self.workspace.choices)
        return [
            self.workspace.layout.run(spec.run_id)
            for name in names
            if self.adds_seeds(name)
            for spec, _, _ in expand(self.reps[name], scale, choices, seeds=most_seeds(self.reps[name], scale, choices))
            if spec.run_id not in first
            and self.workspace.layout.summary(spec.run_id).exists()
            and self._is_stale(spec.run_id, fingerprint(spec))
        ]

    def _stale(self, names: Iterable[str]) -> bool:
        """Whether runs that were added have to be trained again."""
        for name in names:
            plan = plan_here([self.reps[name]], self.workspace)
            if any(
                self.workspace.layout.summary(run_id).exists() and self._is_stale(run_id, fingerprint(run.spec))
                for run_id, run in plan.items()
            ):
                return True
        return False

    def _is_stale(self, run_id: str, code: str) -> bool:
        path = self.workspace.layout.summary(run_id)
        return _code_of(path, path.stat().st_mtime_ns) != code

    def _key(self, names: tuple[str, ...]) -> str:
        claims = [[name, claim.id, claim.sha256()] for name in names for claim in self.reps[name].claims]
        data = sorted((kind, choice.text) for kind, choice in self.workspace.choices.items())
        return sha256_json([claims, data])[:12]
