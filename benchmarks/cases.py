"""What a benchmark is: a function that yields cases, in each of which some contenders take turns."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.loops import Failed

TURNS = 4
"""of each training loop in a round: the finer loops alternate, the more alike are the moments that they meet"""


class Contender(Protocol):
    """Whoever takes turns: a training loop (`loops.Loop`) or a command (`commands.Command`)."""

    name: str
    against: str | None
    target: float | None
    memory: int
    length: float
    """seconds of a turn, roughly; known once it has started"""

    def start(self, *, folder: Path, device: str, threads: int, log_every: int, seconds: float) -> None: ...
    def turn(self) -> float: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What is common to all benchmarks of one call."""

    folder: Path
    """temporary: prepared data, results of trainings, logs of contenders"""
    device: str = "cpu"
    """cpu or cuda"""
    threads: int = 1
    rounds: int = 5
    seconds: float = 1.0
    """of each training loop in one round"""
    peers: dict[str, Path] = field(default_factory=dict)
    """checkouts by name"""
    rehearse: bool = False
    """everything as small as can be, and what needs a GPU on the CPU: shows that it runs, measures nothing"""

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"


@dataclass
class Case:
    """Contenders that do the same work."""

    name: str
    contenders: Sequence[Contender]
    about: str = ""
    """size, batch, precision: what a reader must know to repeat it"""
    items: float = 0
    """tokens or images in a step"""
    unit: str = ""
    """`tokens` or `images`"""
    flops: float = 0
    """of a step, counted"""
    peak: float = 0
    """FLOP/s of this device in this precision, if known"""
    target_mfu: float | None = None
    """least utilisation that is hoped for of the first contender"""
    log_every: int = 1
    """turns are multiples of this many steps"""
    most_rounds: int | None = None
    """fewer rounds than were asked for, where each takes long and none differs much"""
    turns: int = 1
    """of each contender in one round, or fewer where a turn of the slowest takes longer than its share"""


@dataclass(frozen=True)
class Skip:
    """A case, or a part of one, that this machine or this call cannot do."""

    name: str
    reason: str


Benchmark = Callable[[Settings], Iterator[Case | Skip]]
BENCHMARKS: dict[str, Benchmark] = {}
BY_NAME_ONLY: set[str] = set()
"""benchmarks that run only when they are asked for"""


def benchmark(name: str, *, by_name_only: bool = False) -> Callable[[Benchmark], Benchmark]:
    """Register a benchmark; the first line of its docstring describes it in `--help`."""

    def register(function: Benchmark) -> Benchmark:
        BENCHMARKS[name] = function
        if by_name_only:
            BY_NAME_ONLY.add(name)
        return function

    return register


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One contender of one case, measured."""

    benchmark: str
    case: str
    contender: str
    about: str = ""
    seconds: tuple[float, ...] = ()
    """of a step (or a call) in each round"""
    against: str | None = None
    ratio: Spread | None = None
    """its time over that of `against`, round by round: above 1 the other is faster"""
    target: float | None = None
    target_mfu: float | None = None
    items: float = 0
    unit: str = ""
    flops: float = 0
    peak: float = 0
    memory: int = 0
    problem: str | None = None
    """why there is no time"""

    @property
    def rate(self) -> float | None:
        """Items a second."""
        return self.items / Spread.of(self.seconds).median if self.items and self.seconds else None

    @property
    def mfu(self) -> float | None:
        """Share of the device's peak that the counted operations use."""
        return self.flops / Spread.of(self.seconds).median / self.peak if self.peak and self.seconds else None


def measure(name: str, case: Case, settings: Settings) -> list[Row]:
    """Let the contenders take turns, each time begun by another one; a round's time is the mean of its turns."""
    about = dict(
        folder=settings.folder,
        device=settings.device,
        threads=settings.threads,
        log_every=case.log_every,
        seconds=settings.seconds / case.turns,
    )
    problems: dict[str, str] = {}
    times: dict[str, list[float]] = {contender.name: [] for contender in case.contenders}

    def running() -> list[Contender]:
        return [contender for contender in case.contenders if contender.name not in problems]

    @contextlib.contextmanager
    def noted(contender: Contender) -> Iterator[None]:
        """One that fails drops out; the others go on."""
        try:
            yield
        except Failed as error:
            problems[contender.name] = f"failed: {error}"

    try:
        for contender in case.contenders:
            with noted(contender):
                contender.start(**about)
        slowest = max((contender.length for contender in running()), default=0)
        turns = max(1, min(case.turns, int(settings.seconds / slowest))) if slowest else 1
        rounds = min(settings.rounds, case.most_rounds or settings.rounds)
        for number in range(rounds * turns):
            for contender in rotated(running(), number):
                with noted(contender):
                    times[contender.name].append(contender.turn())
    finally:
        for contender in case.contenders:
            contender.end()
    seconds = {name: [statistics.mean(part) for part in _chunks(all_, turns)] for name, all_ in times.items()}
    return [_row(name, case, contender, seconds, problems) for contender in case.contenders]


def _chunks(values: Sequence[float], size: int) -> list[Sequence[float]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """The contenders, begun by the one whose turn it is to be first: who comes first finds a cooler machine."""
    first = number % len(contenders) if contenders else 0
    return [*contenders[first:], *contenders[:first]]


def ratios(seconds: Sequence[float], against: Sequence[float]) -> Spread | None:
    """Of times of the same rounds, so that what slows down a whole round falls out."""
    if not seconds or len(seconds) != len(against):
        return None
    return Spread.of(mine / theirs for mine, theirs in zip(seconds, against, strict=True))


def _row(name: str, case: Case, contender: Contender, seconds: dict[str, list[float]], problems: dict[str, str]) -> Row:
    problem = problems.get(contender.name)
    against = contender.against
    return Row(
        benchmark=name,
        case=case.name,
        contender=contender.name,
        about=case.about,
        seconds=() if problem else tuple(seconds[contender.name]),
        against=against,
        ratio=None if problem or not against else ratios(seconds[contender.name], seconds[against]),
        target=contender.target,
        target_mfu=case.target_mfu if case.peak and contender is case.contenders[0] else None,
        items=case.items,
        unit=case.unit,
        flops=case.flops,
        peak=case.peak,
        memory=0 if problem else contender.memory,
        problem=problem,
    )
