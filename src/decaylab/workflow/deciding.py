"""Seeds in time: trains more seeds for undecided claims until they are decided, hopeless, or time is up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from decaylab.analysis import allocation
from decaylab.analysis.arms import most_seeds
from decaylab.analysis.undecided import Progress, progress
from decaylab.errors import InputError
from decaylab.files import read_json
from decaylab.operations import run_flops
from decaylab.replication import PlannedRun, Replication, plan_runs, record_seeds
from decaylab.training.pool import Pool
from decaylab.workspace import Workspace

Wanted = Mapping[str, Collection[str]]
"""replication: ids of its claims"""


@dataclass(frozen=True)
class Outcome:
    """How far the claims have come."""

    closed: int
    """claims that are decided, or not testable here"""
    total: int
    open: list[str]
    """claims and variants that more seeds could still decide"""
    missing: int
    """planned runs that only figures read and that have not been trained"""

    @property
    def complete(self) -> bool:
        return not self.open and not self.missing


@dataclass
class _Step:
    """Runs that are trained for one purpose."""

    purpose: str
    runs: set[str]
    replications: set[str]
    """those that are judged again when all runs have finished"""


class Decider:
    """Adds seeds to the undecided claims of some replications.

    Claims come first, then their variants, then planned runs that only figures read. The next seeds always go to the
    look that decides most claims per core-second (`analysis.allocation`).

    Args:
        wanted: only these claims; None stands for all, with everything else that the replications plan.
        variants: whether variants of the claims get seeds as well.
        say: takes one line for each step.
    """

    def __init__(
        self,
        reps: Sequence[Replication],
        workspace: Workspace,
        wanted: Wanted | None = None,
        say: Callable[[str], None] = lambda _: None,
        variants: bool = True,
    ) -> None:
        self.reps, self.workspace, self.wanted, self.say, self.variants = reps, workspace, wanted, say, variants
        scale, choices = workspace.scale, dict(workspace.choices)
        self._planned = plan_runs(list(reps), scale, choices)
        seeds = {rep.name: most_seeds(rep, scale, choices) for rep in reps}
        self._runs = plan_runs(list(reps), scale, choices, seeds)
        self._done = {run_id for run_id in self._runs if workspace.layout.summary(run_id).exists()}
        self._prices = _Prices(self._runs, self._done, workspace)
        self._progress: dict[str, Progress] = {}
        self._queue: list[str] = []
        self._steps: list[_Step] = []
        self._trained = 0
        for rep in reps:
            self._judge(rep)

    @property
    def outcome(self) -> Outcome:
        found = self._progress.values()
        return Outcome(
            closed=sum(len(item.closed) for item in found),
            total=sum(item.total for item in found),
            open=[claim.name for item in found for claim in item.open],
            missing=0 if self.wanted is not None else len(self._planned.keys() - self._done),
        )

    def run(self, pool: Pool, until: float) -> int:
        """Train until nothing is worth training, or until the time `until`; returns the number of finished runs.

        Raises:
            InputError: a run cannot be trained, or a result is damaged.
            Interrupted: a worker died.
        """
        while True:
            while pool.idle and time.time() < until and (run_id := self._next_run(pool, until)):
                pool.train(self._runs[run_id].spec)
            if not pool.running:
                return self._trained
            self._take([item.run_id for item in pool.finished()])

    def _next_run(self, pool: Pool, until: float) -> str | None:
        """A run that can start now; None if there is none, or none that is worth it."""
        while not (ready := [run_id for run_id in self._queue if self._parents(run_id) <= self._done]):
            if self._queue:
                return None  # they wait for their parents
            step = self._next_step(pool, until)
            if step is None:
                return None
            state = self.outcome
            left = max(0.0, until - time.time()) / 60
            self.say(
                f"{state.closed} of {state.total} claims closed, {left:.1f} minutes left; "
                f"{len(step.runs)} runs {step.purpose}"
            )
            self._steps.append(step)
            self._queue += [run_id for run_id in self._runs if run_id in step.runs]
        self._queue.remove(ready[0])
        return ready[0]

    def _next_step(self, pool: Pool, until: float) -> _Step | None:
        """What to train next, taking for finished what is running."""
        there = self._done | pool.running
        seconds = (until - time.time()) * pool.workers
        claims = [claim for item in self._progress.values() for claim in item.open]
        if step := allocation.next_step(claims, self._prices.runs, there, seconds):
            names = {name.partition("/")[0] for name in step.reaches}
            return _Step(f"to judge {step.claim} with {step.look} seeds", set(step.runs), names)
        left = [run_id for run_id in self._planned if run_id not in there] if self.wanted is None else []
        if not left:
            return None
        first = min(left, key=lambda run_id: (self._planned[run_id].priority, self._planned[run_id].spec.depth))
        arm = self._planned[first].spec.arm_id()
        rest = {run_id for run_id in left if self._planned[run_id].spec.arm_id() == arm}
        return _Step("that only figures show", rest, set())

    def _take(self, run_ids: list[str]) -> None:
        """Count finished runs, and judge what they complete."""
        self._trained += len(run_ids)
        for run_id in run_ids:
            self._done.add(run_id)
            self._prices.learn(run_id)
        for rep in self.reps:
            added = [run_id for run_id in run_ids if rep.name in self._runs[run_id].wanted]
            if set(added) - self._planned.keys():
                record_seeds(rep, self.workspace, added)
        complete = [step for step in self._steps if step.runs <= self._done]
        self._steps = [step for step in self._steps if step not in complete]
        for rep in self.reps:
            if any(rep.name in step.replications for step in complete):
                self._judge(rep)

    def _judge(self, rep: Replication) -> None:
        wanted = None if self.wanted is None else self.wanted.get(rep.name, ())
        found = progress(rep, self.workspace, wanted)
        if not self.variants:
            found.open = [claim for claim in found.open if not claim.variant]
        self._progress[rep.name] = found

    def _parents(self, run_id: str) -> set[str]:
        return {parent.run_id for parent in self._runs[run_id].spec.parents}


class _Prices:
    """Core-seconds of each run: measured on its arm, else from its operations at the average rate of all runs."""

    def __init__(self, planned: Mapping[str, PlannedRun], done: Collection[str], workspace: Workspace) -> None:
        self._planned, self._layout = planned, workspace.layout
        self._arms = {run_id: run.spec.arm_id() for run_id, run in planned.items()}
        self._measured: dict[str, list[float]] = defaultdict(list)
        self._rates: list[float] = []
        for run_id in done:
            self._measure(run_id)
        self._update()

    def learn(self, run_id: str) -> None:
        """Take the time of a finished run into account."""
        self._measure(run_id)
        self._update()

    def _measure(self, run_id: str) -> None:
        try:
            seconds = float(read_json(self._layout.summary(run_id))["seconds"])
        except (InputError, KeyError, TypeError, ValueError):
            return
        self._measured[self._arms[run_id]].append(seconds)
        self._rates.append(seconds / run_flops(self._planned[run_id].spec))

    def _update(self) -> None:
        rate = sum(self._rates) / len(self._rates) if self._rates else 1e-10
        self.runs = {}
        for run_id, run in self._planned.items():
            known = self._measured.get(self._arms[run_id])
            seconds = sum(known) / len(known) if known else rate * run_flops(run.spec)
            self.runs[run_id] = allocation.Run(seconds, tuple(parent.run_id for parent in run.spec.parents))
