"""Seeds in time: trains more seeds for undecided claims until they are decided, hopeless, or time is up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from decaylab.analysis import allocation
from decaylab.analysis.allocation import Step
from decaylab.analysis.arms import possible_runs
from decaylab.analysis.undecided import Progress, progress
from decaylab.errors import InputError
from decaylab.files import read_json
from decaylab.replication import PlannedRun, Replication, expand, plan_runs, record_seeds
from decaylab.training.pool import Pool
from decaylab.workflow.jobs import cost
from decaylab.workspace import Workspace


@dataclass
class Outcome:
    """How it ended."""

    closed: int
    """claims that are decided, or not testable here"""
    total: int
    open: list[str]
    """claims that more seeds could still decide"""
    trained: int
    """runs that were added"""

    @property
    def complete(self) -> bool:
        return not self.open


@dataclass
class Decider:
    """Adds seeds to the claims of some replications.

    Attributes:
        wanted: claims by replication; None stands for all of them.
        say: takes a line for whoever watches.
    """

    reps: Sequence[Replication]
    workspace: Workspace
    wanted: Mapping[str, Collection[str]] | None = None
    say: Callable[[str], None] = lambda _: None
    _runs: dict[str, PlannedRun] = field(init=False)
    _progress: dict[str, Progress] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        scale, choices = self.workspace.scale, dict(self.workspace.choices)
        self._planned = {spec.run_id for rep in self.reps for spec, _, _ in expand(rep, scale, choices)}
        self._runs = {}
        for rep in self.reps:
            for spec, parameters in possible_runs(rep, scale, choices):
                run = self._runs.setdefault(spec.run_id, PlannedRun(spec))
                run.spec = spec.model_copy(update={"snapshots": tuple(sorted({*run.spec.snapshots, *spec.snapshots}))})
                run.wanted.setdefault(rep.name, []).append(parameters)
        self._done = {run_id for run_id in self._runs if self.workspace.layout.summary(run_id).exists()}
        self._prices = _Prices(self._runs, self._done, self.workspace)

    def run(self, pool: Pool, until: float) -> Outcome:
        """Train until every claim is decided or hopeless, or until the time `until`."""
        for rep in self.reps:
            self._judge(rep)
        trained, queue, steps = 0, [], {}
        while True:
            ready = [run_id for run_id in queue if not set(self._parents(run_id)) - self._done]
            while pool.idle and time.time() < until:
                if not ready:
                    step = self._next(pool, queue, until)
                    if step is None:
                        break
                    self.say(self._line(step, until))
                    queue += step.runs
                    steps[step.claim, step.look] = step
                    ready = [run_id for run_id in queue if not set(self._parents(run_id)) - self._done]
                    if not ready:
                        break
                run_id = ready.pop(0)
                queue.remove(run_id)
                pool.train(self._runs[run_id].spec)
            if not pool.running:
                break
            fresh = pool.finished()
            for item in fresh:
                self._done.add(item.run_id)
                self._prices.learn(item.run_id)
                trained += 1
            self._record([item.run_id for item in fresh])
            for key, step in list(steps.items()):
                if set(step.runs) <= self._done:
                    del steps[key]
                    names = {name.partition("/")[0] for name in step.reaches}
                    for rep in self.reps:
                        if rep.name in names:
                            self._judge(rep)
        return self.outcome(trained)

    def outcome(self, trained: int = 0) -> Outcome:
        found = self._progress.values()
        return Outcome(
            sum(len(item.closed) for item in found),
            sum(item.total for item in found),
            [claim.name for item in found for claim in item.open],
            trained,
        )

    def _judge(self, rep: Replication) -> None:
        wanted = None if self.wanted is None else self.wanted.get(rep.name, ())
        self._progress[rep.name] = progress(rep, self.workspace, wanted)

    def _next(self, pool: Pool, queue: list[str], until: float) -> Step | None:
        """The step to begin while others are still running, which are taken for finished."""
        claims = [claim for item in self._progress.values() for claim in item.open]
        there = self._done | pool.running | set(queue)
        seconds = (until - time.time()) * pool.workers
        return allocation.next_step(claims, self._prices.runs, there, seconds)

    def _parents(self, run_id: str) -> list[str]:
        start = self._runs[run_id].spec.start
        return [start.run.run_id] if start else []

    def _record(self, run_ids: list[str]) -> None:
        for rep in self.reps:
            own = [run_id for run_id in run_ids if rep.name in self._runs[run_id].wanted]
            if set(own) - self._planned:
                record_seeds(rep, self.workspace, own)

    def _line(self, step: Step, until: float) -> str:
        state = self.outcome()
        left = max(0.0, until - time.time()) / 60
        return (
            f"{state.closed} of {state.total} claims are closed, {left:.1f} minutes left; "
            f"training {len(step.runs)} runs to judge {step.claim} after {step.look} seeds"
        )


class _Prices:
    """Core-seconds of each run: measured on runs of its arm, else on runs of any arm by their operations."""

    def __init__(self, planned: Mapping[str, PlannedRun], done: Collection[str], workspace: Workspace) -> None:
        self._planned, self._layout = planned, workspace.layout
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._rates: list[float] = []
        self._arms = {run_id: run.spec.arm_id() for run_id, run in planned.items()}
        for run_id in done:
            self._measure(run_id)
        self._update()

    def learn(self, run_id: str) -> None:
        """Take the time of a run that has just finished into account."""
        self._measure(run_id)
        self._update()

    def _measure(self, run_id: str) -> None:
        try:
            seconds = float(read_json(self._layout.summary(run_id))["seconds"])
        except (InputError, KeyError, TypeError, ValueError):
            return
        self._seconds[self._arms[run_id]].append(seconds)
        self._rates.append(seconds / max(cost(self._planned[run_id].spec), 1.0))

    def _update(self) -> None:
        rate = sum(self._rates) / len(self._rates) if self._rates else 1e-9
        self.runs = {}
        for run_id, run in self._planned.items():
            known = self._seconds.get(self._arms[run_id])
            seconds = sum(known) / len(known) if known else rate * cost(run.spec)
            parents = (run.spec.start.run.run_id,) if run.spec.start else ()
            self.runs[run_id] = allocation.Run(seconds, parents)


def scope_key(reps: Sequence[Replication], workspace: Workspace) -> str:
    """Key of a set of claims in the record of rounds; another text of a claim is another set."""
    from decaylab.files import sha256_json

    claims = [[rep.name, claim.id, claim.sha256()] for rep in reps for claim in rep.claims]
    data = sorted((kind, choice.text) for kind, choice in workspace.choices.items())
    return sha256_json([claims, data])[:12]


__all__ = ["Decider", "Outcome", "plan_runs", "scope_key"]
