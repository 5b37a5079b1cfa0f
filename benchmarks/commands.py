"""Commands, timed from their start to their end, in turns like the training loops."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.loops import Failed

SECONDS = 600
"""longest that one command may take"""


@dataclass
class Command:
    """One contender: a command that must end well each time."""

    name: str
    words: Sequence[str | Path]
    folder: Path
    """in which it runs"""
    environment: dict[str, str] = field(default_factory=dict)
    forget: Sequence[Path] = ()
    """removed before each call, so that every call has the same to do"""
    must_say: str = ""
    """part of its output, by which it shows that it did what is meant to be timed"""
    against: str | None = None
    target: float | None = None
    memory: int = 0
    length: float = 0.0

    def start(self, **_: object) -> None:
        """Once without a clock: what is read from the disk is in memory afterwards. Raises Failed."""
        self.turn()

    def turn(self) -> float:
        """Seconds of one call. Raises Failed if it does not end well."""
        for path in self.forget:
            shutil.rmtree(path, ignore_errors=True)
        began = time.perf_counter()
        done = subprocess.run(
            list(map(str, self.words)),
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        seconds = time.perf_counter() - began
        said = done.stdout + done.stderr
        if done.returncode or self.must_say not in said:
            raise Failed((said.strip().splitlines() or ["no output"])[-1])
        return seconds

    def end(self) -> None:
        pass
