"""Injects faults into a small workflow and counts what is lost or wrong afterwards."""

from __future__ import annotations

import errno
import os
import random
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from decaylab import locks
from tests.faults.workflow import CRASHED, NAME, Ended, Workflow

CURE = re.compile(r"delete (\S+?)[,;]")
"""what a message asks the user to do"""


@dataclass
class Outcome:
    """One line of the table."""

    fault: str
    times: int = 0
    lost: int = 0
    """finished work that had to be done again without being damaged, or a workflow that could not be finished"""
    wrong: int = 0
    """other bits than without the fault, and no message"""
    messages: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def note(self, message: str, root: Path) -> None:
        """Count a message, without what belongs to one run."""
        text = message.replace(f"{root}/", "").removeprefix("decaylab: ")
        text = re.sub(r"(vgg-[\w.-]+|images-[\w.-]+)", "RUN", text)
        text = re.sub(r"\b\d+\b", "N", text)
        self.messages[text] = self.messages.get(text, 0) + 1

    @property
    def message(self) -> str:
        return max(self.messages, key=lambda text: self.messages[text], default="")


class Harness:
    """All faults on one workflow.

    Args:
        folder: empty.
        seed: of the times and places of faults.
        steps: of each run.
    """

    def __init__(self, folder: Path, seed: int = 0, steps: int = 60) -> None:
        folder.chmod(0o755)  # a user without rights must get there
        self.random = random.Random(seed)
        self.work = Workflow(folder, steps)
        self.work.run()  # fills caches, so that the next one is timed fairly
        self.work.clear()
        began = time.monotonic()
        ended = self.work.run()
        self.seconds = time.monotonic() - began
        if ended.code:
            raise RuntimeError(f"the workflow fails without a fault\n{ended.printed}")
        self.expected = self.work.bits()

    def kills(self, number: int, times: int) -> Outcome:
        """A signal at random moments; the same command again, until the workflow has ended; then anew."""
        outcome = Outcome(f"{signal.Signals(number).name} at a random moment")
        self.work.clear()
        while outcome.times < times:
            before = self.work.finished()
            ended = self.work.signalled(number, self.random.uniform(0, self.seconds / 2))
            self._check_kept(outcome, before, ended)
            if ended.code == 0:
                self._check_bits(outcome, ended)
                self.work.clear()
            else:
                outcome.times += 1
                self._note(outcome, ended)
        self._recover(outcome)
        return outcome

    def broken(self, fault: str, times: int, inject: Callable[[], Callable[[], None]], fresh: bool = True) -> Outcome:
        """Attempts in a process that something is wrong with, each followed by an undisturbed one.

        Args:
            inject: gives for each attempt what is done to its process.
            fresh: whether an attempt begins without results.
        """
        outcome = Outcome(fault)
        for _ in range(times):
            if fresh:
                self.work.clear()
            before = self.work.finished()
            ended = self.work.run(inject=inject())
            outcome.times += 1
            self._note(outcome, ended)
            self._recover(outcome, before, ended)
        return outcome

    def full_disk(self) -> Callable[[], None]:
        """No file may become larger than some bytes: writing fails in the middle, in Python and in libraries."""
        size = int(10 ** self.random.uniform(2, 5))

        def inject() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        return inject

    def crash(self) -> Callable[[], None]:
        """The process ends at once, just before or after it puts some file in its place."""
        number, after = self.random.randrange(60), self.random.random() < 0.5

        def inject() -> None:
            replace, count = os.replace, iter(range(number, -1, -1))

            def crashing(*paths: object) -> None:
                last = next(count) == 0
                if after or not last:
                    replace(*paths)
                if last:
                    os._exit(CRASHED)

            os.replace = crashing

        return inject

    def little_memory(self) -> Callable[[], None]:
        """Not enough address space for the training."""

        def inject() -> None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used, used))

        return inject

    def clock(self) -> Callable[[], None]:
        """The clock jumps by years, now and again."""
        jumps = [self.random.uniform(-1e8, 1e8) for _ in range(1000)]

        def inject() -> None:
            real, calls = time.time, iter(range(10**9))
            time.time = lambda: real() + jumps[next(calls) % len(jumps)]

        return inject

    @staticmethod
    def no_locks() -> Callable[[], None]:
        """A file system without flock."""

        def missing(*_: object) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        return lambda: setattr(locks.fcntl, "flock", missing)

    def read_only(self, times: int) -> Outcome:
        """Folders that cannot be written to."""
        outcome = Outcome("read-only results")
        for _ in range(times):
            self.work.clear()
            self.work.signalled(signal.SIGKILL, self.random.uniform(0, self.seconds))
            before = self.work.finished()
            self.work.layout.results.mkdir(exist_ok=True)
            folders = [self.work.layout.results, *filter(Path.is_dir, self.work.layout.results.rglob("*"))]
            # what the process prints needs a place
            self.work.root.chmod(0o777)
            for path in folders:
                path.chmod(0o555)
            ended = self.work.run(inject=_as_nobody)
            for path in folders:
                path.chmod(0o755)
            self.work.root.chmod(0o755)
            outcome.times += 1
            self._note(outcome, ended)
            self._recover(outcome, before, ended)
        return outcome

    def two_at_once(self, times: int, inject: Callable[[], Callable[[], None]] = lambda: lambda: None) -> Outcome:
        """The same command twice at the same time."""
        outcome = Outcome("two at once" if inject is not self.no_locks else "two at once, no flock")
        for _ in range(times):
            self.work.clear()
            pids = [self.work.start(inject=inject()) for _ in range(2)]
            for ended in map(self.work.wait, pids):
                if ended.code:
                    self._note(outcome, ended)
                    if "decaylab: " not in ended.printed:
                        outcome.problems.append(ended.printed[-800:])
            outcome.times += 1
            self._recover(outcome)
        return outcome

    def damage(self, kind: str, how: str, times: int) -> Outcome:
        """A file that was truncated, or has one wrong bit, before the next call reads it."""
        outcome = Outcome(f"{how} {kind}")
        for _ in range(times):
            files = self._prepared(kind)
            path = self.random.choice(files)
            before = self.work.finished()
            if kind in ("metrics", "summary", "snapshot"):
                before.pop(path.parent.name, None)  # a damaged run may be trained again
            content = bytearray(path.read_bytes())
            if how == "truncated":
                del content[self.random.randrange(len(content)) :]
            else:
                content[self.random.randrange(len(content))] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)  # in place: a hard link sees it as well
            ended = self.work.run()
            outcome.times += 1
            self._note(outcome, ended)
            self._recover(outcome, before, ended)
        return outcome

    def _prepared(self, kind: str) -> list[Path]:
        """The files of that kind, after as much of the workflow as makes the next call read them."""
        layout = self.work.layout
        if kind == "checkpoint":
            while not (found := sorted(layout.state("").glob("*/checkpoint.pt"))):
                self.work.clear()
                self.work.signalled(signal.SIGTERM, self.random.uniform(0.2, 0.8) * self.seconds)
            return found
        if kind == "data":
            self.work.clear()
            self.work.run(["data"])
            return [path for path in layout.prepared("").glob("*/*") if path.is_file()]
        if not all(layout.summary(run_id).exists() for run_id in self.work.specs):
            self.work.run(["data", "train"])
        layout.verdicts("smoke", NAME).unlink(missing_ok=True)
        pattern = {"metrics": "metrics.parquet", "summary": "summary.json", "snapshot": "snapshot-*"}[kind]
        files = sorted(layout.run("").glob(f"*/{pattern}"))
        if kind == "snapshot":  # what starts from it must be trained again to read it
            for run_id, spec in self.work.specs.items():
                if spec.start:
                    shutil.rmtree(layout.run(run_id), ignore_errors=True)
                    shutil.rmtree(layout.state(run_id), ignore_errors=True)
            files = sorted(layout.run("").glob(f"*/{pattern}"))
        return files

    def _recover(self, outcome: Outcome, before: dict[str, str] | None = None, ended: Ended | None = None) -> None:
        """Do what messages ask for and call again, as a user would; then compare."""
        ended = ended or Ended(1, "")
        for _ in range(4):
            for found in CURE.findall(ended.message):
                path = Path(found) if Path(found).is_absolute() else self.work.root / found
                shutil.rmtree(path, ignore_errors=True)
                if path.parent.name == "runs":  # its children, trained from it, stand
                    (before or {}).pop(path.name, None)
            ended = self.work.run()
            if ended.code == 0:
                break
        self._check_kept(outcome, before or {}, ended)
        self._check_bits(outcome, ended)

    def _check_kept(self, outcome: Outcome, before: dict[str, str], ended: Ended) -> None:
        after = self.work.finished()
        if any(after.get(run_id) != record for run_id, record in before.items()):
            outcome.lost += 1
            outcome.problems.append(f"a finished run was trained again\n{ended.printed[-800:]}")

    def _check_bits(self, outcome: Outcome, ended: Ended) -> None:
        if ended.code:
            outcome.lost += 1
            outcome.problems.append(f"cannot be finished\n{ended.printed[-800:]}")
            return
        found = self.work.bits()
        if found != self.expected:
            outcome.wrong += 1
            keys = [key for key in self.expected if found.get(key) != self.expected[key]]
            outcome.problems.append(f"other bits: {', '.join(keys)}")

    def _note(self, outcome: Outcome, ended: Ended) -> None:
        if ended.message:
            outcome.note(ended.message, self.work.root)
        if "Traceback" in ended.printed:
            outcome.problems.append(ended.printed[-1500:])
            outcome.note("a traceback", self.work.root)


def _as_nobody() -> None:
    if os.getuid() == 0:  # root may write everywhere
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def every_fault(harness: Harness, kills: int, times: int) -> Iterator[Outcome]:
    """All faults; `kills` kills, and `times` injections of each other one."""
    yield harness.kills(signal.SIGKILL, kills)
    yield harness.kills(signal.SIGTERM, max(times, kills // 4))
    yield harness.broken("crash around a rename, in every phase", times * 4, harness.crash)
    yield harness.broken("full disk", times * 2, harness.full_disk)
    yield harness.read_only(times)
    yield harness.broken("too little memory", times, harness.little_memory)
    for kind in ("checkpoint", "data", "snapshot", "metrics", "summary"):
        for how in ("truncated", "bit flipped in"):
            yield harness.damage(kind, how, times)
    yield harness.two_at_once(times)
    yield harness.two_at_once(times, harness.no_locks)
    yield harness.broken("no flock", times, harness.no_locks)
    yield harness.broken("clock that jumps", times, harness.clock)
