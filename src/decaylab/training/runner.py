"""Several runs in one process: parents first, finished ones skipped, stopped in time."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from decaylab.errors import Interrupted
from decaylab.files import Layout
from decaylab.replication import PlannedRun
from decaylab.spec import RunSpec
from decaylab.training.loop import Options, train

LINE_SECONDS = 10.0
"""where nobody watches a terminal: least time between two progress lines"""


def in_order(specs: list[RunSpec], planned: dict[str, PlannedRun]) -> list[RunSpec]:
    """The specs, each preceded by the runs it starts from, every run once.

    A parent is taken from the plan where it is known, since only the plan knows all snapshots wanted of it.
    """
    ordered: dict[str, RunSpec] = {}

    def add(spec: RunSpec) -> None:
        if spec.start:
            parent = spec.start.run
            known = planned[parent.run_id].spec if parent.run_id in planned else ordered.get(parent.run_id, parent)
            steps = tuple(sorted({*known.snapshots, spec.start.step}))
            add(known.model_copy(update={"snapshots": steps}))
        ordered[spec.run_id] = spec

    for spec in specs:
        add(spec)
    return list(ordered.values())


def train_all(specs: list[RunSpec], layout: Layout, options: Options) -> int:
    """Train every run of the list; returns how many are finished.

    Raises:
        Interrupted: SIGTERM, Ctrl-C, or `options.stop`; the state of the current run is saved.
    """
    with _stop_on_signal() as stopped, _progress(len(specs)) as progress:
        stop = options.stop

        def asked() -> bool:
            return stopped() or stop()

        for number, spec in enumerate(specs):
            if asked():
                raise Interrupted(f"stopped before {spec.run_id}: {number} of {len(specs)} runs are finished")
            train(spec, layout, replace(options, stop=asked, progress=progress(number)))
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

    old = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[int], Callable[[str, int, int, dict[str, float], float], None]]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda number: _Lines(number, runs)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[news]}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:

        def reporter(number: int) -> Callable[[str, int, int, dict[str, float], float], None]:
            task = bar.add_task(f"{number + 1}/{runs}", total=None, news="")

            def report(run_id: str, step: int, steps: int, values: dict[str, float], _: float) -> None:
                bar.update(
                    task, completed=step, total=steps, description=f"{number + 1}/{runs} {run_id}", news=_news(values)
                )

            return report

        yield reporter


class _Lines:
    """Progress as lines of a log file."""

    def __init__(self, number: int, runs: int) -> None:
        self.number, self.runs, self.last = number, runs, 0.0

    def __call__(self, run_id: str, step: int, steps: int, values: dict[str, float], left: float) -> None:
        if step == steps or time.monotonic() - self.last > LINE_SECONDS:
            self.last = time.monotonic()
            place = f"{self.number + 1}/{self.runs} {run_id} step {step}/{steps}"
            print(f"{place} {_news(values)} {left:.0f} s left", file=sys.stderr, flush=True)


def _news(values: dict[str, float]) -> str:
    shown = [name for name in ("batch_loss", "train_loss", "test_error", "validation_loss") if name in values]
    return " ".join(f"{name} {values[name]:.4g}" for name in shown)
