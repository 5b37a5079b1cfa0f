"""Luck: judges decided claims again, on runs whose rounding differs and on runs of fresh seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from decaylab.analysis.judge import judge
from decaylab.analysis.verdict import DECIDED, ClaimVerdict
from decaylab.files import Layout, write_json
from decaylab.replication import Grid, Replication, ScaleOverride, grids_at, planned_seeds
from decaylab.replication.added import MOST_SEEDS
from decaylab.replication.schema import GridOverride
from decaylab.training.pool import Pool
from decaylab.workflow.deciding import Decider
from decaylab.workspace import Scale, Workspace

Mode = Literal["rounding", "fresh"]
FRESH_SEEDS = 40
"""seeds that a verification may use, beyond all that a claim may ever be judged on"""


@dataclass(frozen=True)
class Verification:
    """A claim's verdict beside the one that other runs give."""

    claim: str
    """replication/claim"""
    mode: Mode
    """rounding: the same seeds with another order of additions; fresh: seeds that were never judged"""
    verdict: str
    again: str
    estimate: float | None
    estimate_again: float | None
    n: int
    n_again: int

    @property
    def moved(self) -> bool:
        """Whether the claim is decided otherwise; an undecided claim may only need more seeds."""
        return self.again in DECIDED and self.again != self.verdict


def verify(
    reps: Sequence[Replication],
    workspace: Workspace,
    wanted: Mapping[str, Collection[str]] | None,
    minutes: float,
    pool: Callable[[Layout, Mode, float], AbstractContextManager[Pool]],
    say: Callable[[str], None] = lambda _: None,
) -> list[Verification]:
    """Train decided claims anew in folders of their own, half of the time for each mode, and judge them there.

    Args:
        wanted: only these claims.
        pool: makes workers for a layout, a mode and the time at which they stop.

    The sample is what the time allows, beginning with the claims that are decided at least cost. The outcome is also
    written to results/verify/<scale>.json.

    Raises:
        InputError: a result is damaged.
    """
    before = {rep.name: {item.claim: item for item in judge(rep, workspace).claims} for rep in reps}
    decided = {
        name: {
            claim
            for claim, verdict in verdicts.items()
            if verdict.verdict in DECIDED and (wanted is None or claim in wanted.get(name, ()))
        }
        for name, verdicts in before.items()
    }
    found: list[Verification] = []
    modes: tuple[Mode, ...] = ("rounding", "fresh")
    end = time.time() + 60 * minutes
    for number, mode in enumerate(modes):
        until = time.time() + (end - time.time()) / (len(modes) - number)
        other = Workspace(workspace.root, workspace.scale, _layout(workspace, mode), workspace.choices)
        again = [rep if mode == "rounding" else with_fresh_seeds(rep, workspace.scale) for rep in reps]
        again = [rep for rep in again if decided[rep.name]]
        decider = Decider(again, other, decided, lambda line, mode=mode: say(f"{mode}: {line}"), variants=False)
        with pool(other.layout, mode, until) as workers:
            decider.run(workers, until)
        for rep in again:
            for verdict in judge(rep, other).claims:
                if verdict.claim in decided[rep.name] and verdict.deciding.looks:
                    found.append(
                        _compare(f"{rep.name}/{verdict.claim}", mode, before[rep.name][verdict.claim], verdict)
                    )
    write_json(
        workspace.layout.verified(workspace.scale),
        [asdict(item) | {"moved": item.moved} for item in found],
    )
    return found


def with_fresh_seeds(rep: Replication, scale: Scale) -> Replication:
    """The replication with seeds that no claim was or will be judged on, in every grid that has seeds of its own."""
    override = rep.scales.get(scale, ScaleOverride())
    grids, added = dict(override.grids), dict(override.add)
    for name, grid in grids_at(rep, scale).items():
        if "seed" not in grid.axes:
            continue
        axes = {"seed": planned_seeds(grid, MOST_SEEDS + FRESH_SEEDS)[MOST_SEEDS:][: len(grid.axes["seed"])]}
        if name in added:
            added[name] = added[name].model_copy(update={"axes": added[name].axes | axes, "only": _any_seed(grid)})
        else:
            over = grids.get(name, GridOverride())
            grids[name] = over.model_copy(update={"axes": over.axes | axes, "only": _any_seed(grid)})
    fresh = override.model_copy(update={"grids": grids, "add": added})
    return rep.model_copy(update={"scales": rep.scales | {scale: fresh}})


def _any_seed(grid: Grid) -> list[dict[str, Any]] | None:
    """A grid's `only` without conditions on the seed."""
    if grid.only is None:
        return None
    return [{key: value for key, value in keep.items() if key != "seed"} for keep in grid.only]


def _layout(workspace: Workspace, mode: Mode) -> Layout:
    """A results folder beside the other, with the same prepared data."""
    folder = workspace.layout.results / "verify" / mode
    folder.mkdir(parents=True, exist_ok=True)
    data = workspace.layout.results / "data"
    data.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        (folder / "data").symlink_to(data.resolve(), target_is_directory=True)
    return Layout(folder, workspace.layout.reports / "verify" / mode)


def _compare(name: str, mode: Mode, before: ClaimVerdict, again: ClaimVerdict) -> Verification:
    part = next((part for part in again.parts if part.name == before.test), again.deciding)
    return Verification(name, mode, before.verdict, again.verdict, before.estimate, part.estimate, before.n, part.n)
