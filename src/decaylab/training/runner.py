"""Several runs in one process: parents first, like ones together, finished ones skipped, stopped in time."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from decaylab.errors import Interrupted
from decaylab.files import Layout
from decaylab.replication import PlannedRun
from decaylab.signals import handling
from decaylab.spec import RunSpec
from decaylab.training.learner import stackable
from decaylab.training.loop import Options, train_together

if TYPE_CHECKING:
    from decaylab.training.distributed import Ranks

LINE_SECONDS = 10.0
"""where nobody watches a terminal: least time between two progress lines"""


def in_order(specs: list[RunSpec], planned: dict[str, PlannedRun]) -> list[RunSpec]:
    """The specs, each preceded by the runs it starts from or follows, every run once.

    A parent is taken from the plan where it is known, since only the plan knows all snapshots wanted of it.
    """
    ordered: dict[str, RunSpec] = {}

    def add(spec: RunSpec) -> None:
        for parent in spec.parents:
            known = planned[parent.run_id].spec if parent.run_id in planned else ordered.get(parent.run_id, parent)
            wanted = {spec.start.step} if spec.start and spec.start.run is parent else set()
            add(known.model_copy(update={"snapshots": tuple(sorted({*known.snapshots, *wanted}))}))
        ordered[spec.run_id] = spec

    for spec in specs:
        add(spec)
    return list(ordered.values())


def in_groups(specs: Sequence[RunSpec], together: Callable[[RunSpec], int]) -> list[list[RunSpec]]:
    """The specs in groups that `train_together` takes, parents before children; every run once.

    Args:
        specs: parents first, as `in_order` gives them.
        together: the largest group that a spec should be in.
    """
    open_groups: dict[Any, list[RunSpec]] = {}
    groups: list[list[RunSpec]] = []
    group_of: dict[str, list[RunSpec]] = {}
    for spec in specs:
        key = (spec.depth, stackable(spec))
        group = open_groups.get(key)
        if key[1] is None or group is None or len(group) >= together(spec):
            group = open_groups[key] = []
            groups.append(group)
        group.append(spec)
        group_of[spec.run_id] = group
    ordered: dict[int, list[RunSpec]] = {}

    def add(group: list[RunSpec]) -> None:
        for spec in group:
            for parent in spec.parents:
                if parent.run_id in group_of:
                    add(group_of[parent.run_id])
        ordered.setdefault(id(group), group)

    for group in groups:
        add(group)
    return list(ordered.values())


def train_all(
    specs: Sequence[RunSpec],
    layout: Layout,
    options: Options,
    together: int | Callable[[RunSpec], int] = 1,
    ranks: Ranks | None = None,
) -> int:
    """Train every run of the list; returns how many are finished.

    Args:
        together: how many runs of one shape are trained in one pass; see `train_together`.
        ranks: the processes that train each run together, if there are several; all of them call this.

    Raises:
        Interrupted: SIGTERM, Ctrl-C, or `options.stop`; the state of the current run is saved.
    """
    limit = together if callable(together) else lambda _: together
    agreed: Callable[[bool], bool] = ranks.any if ranks else bool
    shown = _progress(len(specs)) if ranks is None or ranks.first else nullcontext(options.progress)
    with _stop_on_signal() as stopped, shown as progress:
        stop = options.stop

        def asked() -> bool:
            return stopped() or stop()

        done = 0
        for group in in_groups(specs, limit):
            if agreed(asked()):
                raise Interrupted(f"stopped before {group[0].run_id}: {done} of {len(specs)} runs are finished")
            now = replace(options, stop=asked, progress=progress)
            if ranks:
                from decaylab.training.distributed import train_shared

                [spec] = group
                train_shared(ranks, spec, layout, now)
            else:
                train_together(group, layout, now)
            done += len(group)
    return len(specs)


def deadline(minutes: float | None) -> Callable[[], bool]:
    """True once that many minutes have passed."""
    end = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
    return lambda: time.monotonic() >= end


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """SIGTERM and Ctrl-C ask to stop; the loop saves and ends at its next step. A second Ctrl-C ends at once."""
    seen: list[int] = []

    def handler(number: int, _: object) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        seen.append(number)

    with handling(handler):
        yield lambda: bool(seen)


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[str, int, int, dict[str, float], float], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(runs)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[news]}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def report(run_id: str, step: int, steps: int, values: dict[str, float], _: float) -> None:
            if run_id not in tasks:
                tasks[run_id] = bar.add_task(f"{len(tasks) + 1}/{runs} {run_id}", total=steps, news="")
            bar.update(tasks[run_id], completed=step, news=_news(values))

        yield report


class _Lines:
    """Progress as lines of a log file."""

    def __init__(self, runs: int) -> None:
        self.runs, self.last = runs, 0.0
        self.numbers: dict[str, int] = {}

    def __call__(self, run_id: str, step: int, steps: int, values: dict[str, float], left: float) -> None:
        number = self.numbers.setdefault(run_id, len(self.numbers) + 1)
        if step == steps or time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            place = f"{number}/{self.runs} {run_id} step {step}/{steps}"
            print(f"{place} {_news(values)} {left:.0f} s left", file=sys.stderr, flush=True)


def _news(values: dict[str, float]) -> str:
    shown = [name for name in ("batch_loss", "train_loss", "test_error", "validation_loss") if name in values]
    return " ".join(f"{name} {values[name]:.4g}" for name in shown)
