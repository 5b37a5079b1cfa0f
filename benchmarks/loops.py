"""Training loops as processes that take turns.

Every loop, ours or a peer's, trains in a process of its own and waits inside a step's clock until it is told to do
so many steps more. Processes, because a peer's script wants the whole of one: its working directory, modules called
`model`, random seeds, global switches of torch, and on a GPU its own count of memory. A waiting loop sleeps in a
read from a pipe, so that one loop at a time has the machine, and what disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START_SECONDS = 600
"""longest wait for the first step of a loop, or for one turn; compiling on a GPU takes a minute or two"""

Run = Callable[..., Any]
"""trains without end, calling its first argument, a Clock, once in every step"""


class Failed(Exception):
    """A loop that cannot run; the message is the last line that it wrote."""


class Clock:
    """Called once a step; returns False when the loop may go on, so that it fits `Options.stop` as it is.

    What is timed is the way from one call to another some steps later, which holds everything that the loop does
    in a step, wherever in the step the call stands.
    """

    def __init__(self, orders: Connection, device: str) -> None:
        self.orders, self.device = orders, device
        self.left = 0
        self.steps = 0
        self.began = 0.0
        self.weights: int | None = None
        """that the loop was seen to train, if it was seen"""

    def __call__(self) -> bool:
        self.left -= 1
        if self.left > 0:
            return False
        self._synchronize()
        seconds = time.perf_counter() - self.began
        try:
            answer = {"steps": self.steps, "seconds": seconds, "memory": self._memory(), "weights": self.weights}
            self.orders.send(answer)
            self.steps = self.left = self.orders.recv()
        except (EOFError, OSError):
            os._exit(0)  # nobody asks any more; the folder that this loop writes into is temporary
        self.began = time.perf_counter()
        return False

    def _synchronize(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def _memory(self) -> int:
        """Largest memory of the GPU so far, in bytes; 0 on a CPU, where a process is mostly libraries."""
        if self.device != "cuda":
            return 0
        import torch

        return torch.cuda.max_memory_allocated()


def _main(orders: Connection, log: Path, device: str, threads: int, run: Run, arguments: dict[str, Any]) -> None:
    """The process of a loop."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import torch

    torch.set_num_threads(threads)
    run(Clock(orders, device), **arguments)
    raise Failed("the loop ended by itself")


@dataclass
class Loop:
    """One contender: how it is called in the table, what it runs, and whom it is compared with."""

    name: str
    run: Run
    """a function of a module, which the process imports by name"""
    arguments: dict[str, Any] = field(default_factory=dict)
    against: str | None = None
    """the contender whose time is 1"""
    target: float | None = None
    """least ratio of times that is hoped for"""
    repeat: int = 1
    """steps that stand for one: eight of a loop that trains eight networks one after another"""
    weights: int | None = None
    """how many it must be seen to train, so that equals are compared"""
    memory: int = 0
    """largest memory of the GPU so far, in bytes"""
    length: float = 0.0

    def start(self, *, folder: Path, device: str, threads: int, log_every: int, seconds: float) -> None:
        """Bring the loop to its first step, warm it up, and choose the length of its turns.

        Raises:
            Failed: it does not get there.
        """
        # A server imports once what every loop needs, and forks. CUDA survives no fork, and its loops last longer.
        context = multiprocessing.get_context("spawn" if device == "cuda" else "forkserver")
        if device != "cuda":
            context.set_forkserver_preload(["torch._dynamo", "decaylab.training.loop"])
        self.log = folder / f"{self.name.replace(' ', '-').replace('/', '-')}-{time.monotonic_ns()}.log"
        self.orders, theirs = context.Pipe()
        main = (theirs, self.log, device, threads, self.run, self.arguments)
        self.process = context.Process(target=_main, args=main)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        found = self._answer()["weights"]
        if self.weights is not None and found not in (None, self.weights):
            raise Failed(f"trains {found} weights, expected {self.weights}")
        self.steps = log_every
        self.turn()  # allocators, caches, compilers
        period = self.turn() / self.repeat * log_every
        # a whole number of logging periods, so that every turn does the same work
        periods = max(1, round(seconds / period))
        self.steps, self.length = periods * log_every, periods * period

    def turn(self) -> float:
        """Train for one turn; seconds a step."""
        try:
            self.orders.send(self.steps)
        except OSError:
            raise Failed(self._last_words()) from None
        answer = self._answer()
        self.memory = answer["memory"]
        return answer["seconds"] / answer["steps"] * self.repeat

    def end(self) -> None:
        if hasattr(self, "process"):
            self.orders.close()
            self.process.join(10)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()

    def _answer(self) -> dict[str, Any]:
        if not self.orders.poll(START_SECONDS):
            raise Failed(f"no step within {START_SECONDS} seconds")
        try:
            return self.orders.recv()
        except (EOFError, OSError):
            raise Failed(self._last_words()) from None

    def _last_words(self) -> str:
        self.process.join(10)
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "ended without a word")


@contextlib.contextmanager
def counted(clock: Clock) -> Iterator[None]:
    """Call the clock after every step of any torch optimizer: it sees the steps of code that knows nothing of it."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def tell(optimizer: Any, *_: Any) -> None:
        if clock.weights is None:
            clock.weights = sum(weight.numel() for group in optimizer.param_groups for weight in group["params"])
        clock()

    hook = register_optimizer_step_post_hook(tell)
    try:
        yield
    finally:
        hook.remove()


def run_script(clock: Clock, checkout: Path, script: str, options: dict[str, Any]) -> None:
    """Run a peer's own training script, as it is, from its folder: `python train.py --name=value ...`."""
    import runpy

    folder = (checkout / script).parent
    sys.dont_write_bytecode = True  # a checkout is left as it was found
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [script, *(f"--{name}={value}" for name, value in options.items())]
    with counted(clock):
        runpy.run_path(str(checkout / script), run_name="__main__")


def run_ours(clock: Clock, spec: dict[str, Any], results: Path, device: str, threads: int) -> None:
    """Train a RunSpec as `decaylab train` does."""
    from decaylab.files import Layout
    from decaylab.spec import parse_spec
    from decaylab.training.loop import train

    train(parse_spec(spec, "benchmark"), Layout(results), our_options(clock, results, device, threads))


def our_options(clock: Clock, results: Path, device: str, threads: int) -> Any:
    """What `decaylab train` chooses; a price decides what is worth compiling."""
    from decaylab.files import Layout
    from decaylab.training.cost.pricing import Pricer
    from decaylab.training.loop import Options

    return Options(device=device, threads=threads, stop=clock, price=Pricer(Layout(results), device, threads).price)
