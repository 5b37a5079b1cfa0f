"""Worker processes that train one run after another, so that torch is imported once per core and not once per run.

Nothing here imports torch: the process that hands out the runs judges between them and stays small.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

from decaylab.errors import Interrupted
from decaylab.files import Layout
from decaylab.signals import handling
from decaylab.spec import RunSpec

POLL_SECONDS = 0.5
"""how often a waiting pool looks whether it was asked to stop"""


@dataclass(frozen=True)
class Trained:
    """What a worker reports of a run."""

    run_id: str
    seconds: float
    """wall-clock time in the worker, which is short for a run that was finished already"""


class Pool:
    """A fixed number of workers. Use it as a context: on exit the workers save their state and stop.

    Args:
        options: fields of `training.loop.Options` that can be sent to another process.
        until: time (of `time.time`) at which every worker saves its state and stops.
    """

    def __init__(self, workers: int, layout: Layout, options: dict[str, Any], until: float) -> None:
        context = get_context("spawn")  # torch's threads do not survive a fork
        self.workers = workers
        self._stop = context.Event()
        self._executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start, initargs=(layout, options, until, self._stop, os.getpid())
        )
        self._running: dict[Future[Trained], str] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    @property
    def running(self) -> set[str]:
        """Ids of the runs that were given to workers and have not come back."""
        return set(self._running.values())

    @property
    def idle(self) -> int:
        """How many workers wait for a run."""
        return self.workers - len(self._running)

    def train(self, spec: RunSpec) -> None:
        """Give a run to a worker. What it starts from must be finished."""
        self._running[self._executor.submit(_train, spec.model_dump_json())] = spec.run_id

    def finished(self) -> list[Trained]:
        """Wait until at least one run comes back, and return all that have; empty if the workers were stopped.

        Raises:
            Interrupted: a worker died, for example for want of memory.
            InputError: a run cannot be trained.
        """
        if not self._running:
            return []
        while not (done := wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done):
            pass
        trained = []
        for future in done:
            run_id = self._running.pop(future)
            try:
                trained.append(future.result())
            except Interrupted:
                continue  # its state is saved
            except BrokenProcessPool:
                raise Interrupted(f"a worker died while it trained {run_id}, perhaps for want of memory") from None
        return trained


@contextmanager
def stopped_by_signals(pool: Pool) -> Iterator[None]:
    """While the block runs, SIGTERM and Ctrl-C make the workers save their state, and then raise Interrupted."""

    def handler(number: int, _: object) -> None:
        pool._stop.set()
        raise Interrupted(f"stopped by {signal.Signals(number).name}; the state of every run is saved")

    with handling(handler):
        yield


_worker: dict[str, Any] = {}


def _start(layout: Layout, options: dict[str, Any], until: float, stop: Event, parent: int) -> None:
    """Prepare a worker. Signals are the parent's business: it sets `stop`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from decaylab.training.loop import Options

    def asked() -> bool:
        # the parent may be killed without a chance to say so
        return stop.is_set() or time.time() >= until or os.getppid() != parent

    _worker.update(layout=layout, options=Options(**options, stop=asked), busy=False)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this worker once its parent is gone and the state of its run is saved; it would wait for work for ever."""
    while os.getppid() == parent or _worker["busy"]:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _train(text: str) -> Trained:
    from decaylab.training.loop import train

    begin = time.monotonic()
    spec = RunSpec.model_validate_json(text)
    options = _worker["options"]
    if options.stop():
        raise Interrupted(f"stopped before {spec.run_id}")
    _worker["busy"] = True
    try:
        train(spec, _worker["layout"], options)
    finally:
        _worker["busy"] = False
    return Trained(spec.run_id, time.monotonic() - begin)
