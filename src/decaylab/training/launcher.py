"""Several processes of one machine that train one run: starts them, ends them together, and says why in one line.

Nothing here imports torch. `torchrun` may start the processes instead; it also starts them on several machines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from decaylab.errors import InputError, Interrupted, Lost
from decaylab.signals import handling

LOST = 3
"""exit code of a process that another one left alone; nobody outside sees it"""
POLL_SECONDS = 0.05
CAUSE_SECONDS = 2.0
"""a process that dies closes its connections a little before its end can be seen"""
GRACE_SECONDS = 30.0
"""from SIGTERM to SIGKILL, as torchrun and Slurm wait"""

_STORE = "DECAYLAB_STORE"
_joined: list[Place] = []
"""this process, once it has met the others"""


@dataclass(frozen=True)
class Place:
    """This process among those that train together."""

    rank: int
    size: int
    local_rank: int
    """among those of this machine"""
    local_size: int
    store: str | None
    """file in which they meet; None where torchrun started them, and they meet as it says"""


def place() -> Place | None:
    """Which process this is, from the environment that `launch` or torchrun has set; None if it trains alone.

    Raises:
        InputError: the environment is not what torchrun sets.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    if not all(value.isdecimal() for value in values):
        if values[1].isdecimal() and int(values[1]) > 1:
            raise InputError(f"WORLD_SIZE is {values[1]}; expected {', '.join(names)} as torchrun sets them")
        return None
    here = Place(*map(int, values), os.environ.get(_STORE))
    return here if here.size > 1 else None


def note_joined(here: Place) -> None:
    """From now on the others wait for this process, so it must not linger when it fails."""
    _joined.append(here)
    shown = sys.excepthook

    def hook(*error: Any) -> None:
        shown(*error)
        leave(1)

    sys.excepthook = hook


def speaks(error: Exception) -> bool:
    """Whether this process prints an error, which may have met all of them alike."""
    try:
        here = place()
    except InputError:
        return True
    if here is None:
        return True
    if isinstance(error, Lost):  # `launch` says which process ended
        return here.rank == 0 and here.store is None
    return here.rank == 0 or not isinstance(error, Interrupted if _joined else InputError)


def leave(code: int) -> NoReturn:
    """End this process; at once if others wait for it, since torch's libraries may wait for them as they close."""
    if _joined:
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def launch(processes: int, command: Sequence[str]) -> int:
    """Run a command in that many processes, which train together.

    SIGTERM and Ctrl-C reach all of them, so that they save their state. As soon as one fails, the others are ended.

    Returns:
        The exit code: 0, or that of the process that failed first. If that one was killed, 1, after a line on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="decaylab-") as folder:
        shared = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, _STORE: Path(folder) / "store"}
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # what torch logs of a lost connection
        started: list[subprocess.Popen[bytes]] = []
        with _signals_to(started):
            for rank in range(processes):
                own = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
                # sessions of their own, or Ctrl-C would reach them twice
                started.append(subprocess.Popen(command, env=quiet | os.environ | own, start_new_session=True))
            try:
                codes = _first_failure(started)
            finally:
                _end(started)
    return _explained(codes)


def _first_failure(started: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes at the time when a process failed or all were done."""
    lost_since: float | None = None
    while True:
        codes = [process.poll() for process in started]
        if None not in codes or any(code not in (None, 0, LOST) for code in codes):
            return codes
        if LOST in codes:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > CAUSE_SECONDS:
                return codes
        time.sleep(POLL_SECONDS)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End whatever still runs: politely, then not."""
    for process in started:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for process in started:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _explained(codes: Sequence[int | None]) -> int:
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            why = "perhaps for want of memory; " if code == -signal.SIGKILL else ""
            sys.stderr.write(
                f"decaylab: process {rank} of {len(codes)} was ended by {name}, and the others with it; "
                f"{why}the same command continues from the last checkpoint\n"
            )
            return 1
    # a process that failed by itself has said why
    return next((code for code in codes if code not in (None, 0, LOST)), 1 if any(codes) else 0)


@contextmanager
def _signals_to(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Hand SIGTERM and SIGINT on to the processes; they end the training, and with it the wait for them."""

    def handler(number: int, _: object) -> None:
        for process in started:
            if process.poll() is None:
                process.send_signal(number)

    with handling(handler):
        yield
