"""Which runs to train next: those whose seeds decide most claims for their cost.

Pure functions over plain data. A claim advances by looks (see looks.py); a step brings one claim to a later look, and
with it every other claim that the same runs happen to serve. Its worth is the number of claims that it is expected to
decide per core-second of runs still missing, parents included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from decaylab.analysis.power import HOPELESS


@dataclass(frozen=True)
class Run:
    """A run that may have to be trained."""

    seconds: float
    """core-seconds it takes"""
    parents: tuple[str, ...] = ()
    """runs that it starts from or follows"""


@dataclass(frozen=True)
class OpenClaim:
    """A claim, or a variant of one, that is not decided yet."""

    name: str
    looks: Mapping[int, frozenset[str]]
    """for each later look, all runs of its arms that the look uses; a later look contains the earlier ones"""
    chances: Mapping[int, float]
    """for each later look, the probability that it decides the claim; 1 for a first look"""
    variant: bool = False
    """variants are judged after all claims"""


@dataclass(frozen=True)
class Step:
    """The runs to train next, and what they are for."""

    claim: str
    look: int
    runs: tuple[str, ...]
    """missing runs, parents before children, in the order of the plan"""
    seconds: float
    gain: float
    """claims that this step is expected to decide"""
    reaches: Mapping[str, int] = field(default_factory=dict)
    """each claim that it advances, and the look that this claim reaches"""


def next_step(
    claims: Sequence[OpenClaim],
    runs: Mapping[str, Run],
    done: Collection[str],
    seconds: float | None = None,
    threshold: float = HOPELESS,
) -> Step | None:
    """The step with the largest gain per core-second, or None if none is worth its cost.

    Args:
        claims: open claims; between equals the first wins.
        runs: every run of the claims and every parent, in the order of the plan.
        done: runs that are finished.
        seconds: core-seconds left; a step that takes longer is not proposed.
        threshold: a step must be expected to decide at least this many claims.

    Raises:
        KeyError: a claim needs a run, or a run a parent, that `runs` lacks.
    """
    finished = frozenset(done)
    for variant in (False, True):
        group = [claim for claim in claims if claim.variant == variant]
        # A variant's runs may also serve claims, but all claims that could still advance have had their turn.
        steps = [
            step
            for claim in group
            for look in sorted(claim.looks)
            if (step := _step(claim, look, group, runs, finished)) is not None
            and step.gain >= threshold
            and (seconds is None or step.seconds <= seconds)
        ]
        if steps:
            return max(steps, key=lambda step: step.gain / max(step.seconds, 1e-9))
    return None


def with_parents(wanted: Iterable[str], runs: Mapping[str, Run]) -> frozenset[str]:
    """The runs and everything that they start from."""
    found: set[str] = set()
    queue = list(wanted)
    while queue:
        run = queue.pop()
        if run not in found:
            found.add(run)
            queue.extend(runs[run].parents)
    return frozenset(found)


def _step(
    claim: OpenClaim, look: int, group: Sequence[OpenClaim], runs: Mapping[str, Run], done: frozenset[str]
) -> Step | None:
    missing = with_parents(claim.looks[look] - done, runs) - done
    if not missing:
        return None  # the look is reached already: it is judged, not trained
    there = done | missing
    reaches = {
        other.name: reached
        for other in group
        if (reached := _reached(other, there)) is not None and reached != _reached(other, done)
    }
    chances = {other.name: other.chances for other in group}
    gain = sum(chances[name].get(reached, 0.0) for name, reached in reaches.items())
    ordered = _parents_first(missing, runs)
    return Step(claim.name, look, ordered, sum(runs[run].seconds for run in missing), gain, reaches)


def _reached(claim: OpenClaim, done: frozenset[str]) -> int | None:
    """The last look whose runs are all finished."""
    return max((look for look, needed in claim.looks.items() if needed <= done), default=None)


def _parents_first(missing: frozenset[str], runs: Mapping[str, Run]) -> tuple[str, ...]:
    ordered: dict[str, None] = {}

    def add(run: str) -> None:
        for parent in runs[run].parents:
            if parent in missing:
                add(parent)
        ordered.setdefault(run)

    for run in runs:
        if run in missing:
            add(run)
    return tuple(ordered)
