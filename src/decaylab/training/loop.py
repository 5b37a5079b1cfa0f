"""The one training loop. Images and text differ in how a batch is drawn and in the network, not here.

Nothing in a step waits for the device: losses and norms are summed there and fetched at evaluations. On a CPU a run
that was killed and started again gives the same numbers to the last bit.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from decaylab.errors import Interrupted
from decaylab.files import Layout, sha256_json
from decaylab.fingerprint import fingerprint
from decaylab.locks import exclusive
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.training.checkpoint import load_checkpoint, save_checkpoint
from decaylab.training.device import resolve_device
from decaylab.training.kernels import LAUNCH_BOUND, Loss, compiled, repeated
from decaylab.training.learner import Batch, Learner, Stack
from decaylab.training.records import checkpoint_path, finished, publish
from decaylab.training.training_run import Price, Progress, TrainingRun

CHECKPOINT_SECONDS = 5.0
"""least time between checkpoints; longer where saving takes more than one hundredth of it"""

Switch = Literal["auto", "off", "on"]


@dataclass
class Options:
    """How to train, as opposed to what: nothing here is part of a run's identity."""

    device: str = "auto"
    threads: int = 1
    choices: dict[str, Choice] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    """asked once a step; True saves the state and raises Interrupted"""
    progress: Progress = lambda *_: None
    """called after evaluations with run id, step, steps, newest values, seconds left"""
    compile: Switch = "auto"
    """torch.compile; `auto` compiles on a GPU where steps are large"""
    graphs: Switch = "auto"
    """record a pass and repeat it, see kernels.py; `auto` is on"""
    price: Callable[[RunSpec], Price] | None = None
    """predicts the cost, which is kept beside what the run took; asked only if it is trained"""


def train(spec: RunSpec, layout: Layout, options: Options | None = None) -> dict[str, Any]:
    """Train one run to its end and write its summary, metrics and snapshots; returns the summary.

    A finished run is not trained again: its files are put back from `layout.state(run_id)`. An interrupted run
    continues from its checkpoint.

    Raises:
        InputError: the data, or the snapshot that it starts from, are missing or damaged.
        Interrupted: `options.stop` asked for it; the state is saved.
    """
    return train_together([spec], layout, options)[0]


def train_together(specs: Sequence[RunSpec], layout: Layout, options: Options | None = None) -> list[dict[str, Any]]:
    """`train` for several runs that `stackable` gives one key, step by step in one pass; returns their summaries.

    Numbers equal those of runs trained alone up to rounding, and to the last bit those of the same runs together.
    """
    options = options or Options()
    keys = {spec.run_id: {"spec": sha256_json(spec.identity()), "code": fingerprint(spec)} for spec in specs}
    with contextlib.ExitStack() as locks:
        for run_id in sorted(keys):  # one order, so that no two processes wait for each other
            locks.enter_context(exclusive(layout.state(run_id) / "lock"))
        done = {spec.run_id: finished(spec, layout, keys[spec.run_id]) for spec in specs}
        missing = [spec for spec in specs if done[spec.run_id] is None]
        if missing and checkpoint_path(specs, layout).exists():
            missing = list(specs)  # killed while it wrote the records: the same runs together, the same numbers
        if missing:
            done |= Loop(missing, layout, options, [keys[spec.run_id] for spec in missing]).run()
        for spec in specs:
            publish(spec, layout)
    return [done[spec.run_id] for spec in specs]


class Loop:
    """Takes one run through its steps, or several stacked and in step."""

    def __init__(self, specs: Sequence[RunSpec], layout: Layout, options: Options, keys: list[dict[str, str]]) -> None:
        self.layout, self.options, self.keys = layout, options, keys
        first = specs[0]
        # before anything draws random numbers: pricing may train a few steps of the same shape
        prices = [options.price(spec) if options.price else None for spec in specs]
        self.device = resolve_device(options.device)
        self.checkpoint_path = checkpoint_path(specs, layout)
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads)
        else:
            torch.cuda.reset_peak_memory_stats(self.device)
        torch.set_float32_matmul_precision("high" if first.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = first.precision == "tf32"
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # all batches of a run have one shape

        self.steps = first.steps
        self.runs = [
            TrainingRun(spec, layout, self.device, key=key, choice=options.choices.get(spec.data.kind), price=price)
            for spec, key, price in zip(specs, keys, prices, strict=True)
        ]
        learners = [run.learner for run in self.runs]
        self.stack = Stack(learners) if len(learners) > 1 else None
        self.learner: Learner | Stack = self.stack or learners[0]
        self.loss = self._compiled(first) if self._compiles(prices[0]) else None
        self.backward: Callable[[Batch], torch.Tensor] | None = None
        self.step = 0
        self.seconds_before = 0.0
        # dropout draws from the global generator
        torch.manual_seed(self.runs[0].data_seed)
        self._resume()

    def run(self) -> dict[str, dict[str, Any]]:
        """Train to the end; returns run id -> summary."""
        self.began = self.last_save = time.monotonic()
        self.save_cost = 0.0
        for run in self.runs:
            if self.step == 0 and not run.buffer.rows:
                run.probe()
                run.evaluate()
                self._flush(run)
            run.model.train()
        while self.step < self.steps and not all(run.diverged for run in self.runs):
            if self.options.stop():
                self._interrupt()
            losses = self._backward(self._draw())
            self.step += 1
            for run, loss in zip(self.runs, losses, strict=True):
                if not run.diverged:
                    run.update(loss)
                    run.probe()
                    if run.due:
                        run.evaluate()
                        self._flush(run)
                        run.diverged = run.overflowed
            if time.monotonic() - self.last_save > max(CHECKPOINT_SECONDS, 100 * self.save_cost):
                self._save()
        return self._finish()

    def _draw(self) -> Batch:
        """The batch of this step; of several runs, their batches stacked."""
        batches = [run.data.batch(self.step) for run in self.runs]
        if not self.stack:
            return batches[0]
        inputs, targets = zip(*batches, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def _backward(self, batch: Batch) -> Sequence[torch.Tensor]:
        """Put the gradients of every run's batch in place; returns their losses."""
        if self.backward is None:
            if self.options.graphs == "off":
                self.backward = functools.partial(self.learner.backward, loss=self.loss)
            else:
                self.backward = repeated(self.learner, batch, self.loss)
        losses = self.backward(batch)
        return losses.unbind() if self.stack else [losses]

    def _compiles(self, price: Price | None) -> bool:
        if self.options.compile != "auto":
            return self.options.compile == "on"
        large = price is not None and price.flops / self.steps * len(self.runs) > LAUNCH_BOUND
        return self.device.type == "cuda" and large

    def _compiled(self, spec: RunSpec) -> Loss:
        batch = spec.batch_size, spec.micro_batch_size, len(self.runs)
        return compiled(
            self.learner,
            (spec.model, spec.data, spec.precision, spec.float32_parts, batch, self.device),
            self.layout.compiled,
        )

    def _flush(self, run: TrainingRun) -> None:
        """Fetch what a run measured, and report its progress."""
        newest = run.flush()
        if newest:
            done = max(self.step - self.first_step, 1)
            left = (time.monotonic() - self.began) / done * (self.steps - self.step)
            self.options.progress(run.spec.run_id, run.step, run.spec.steps, newest, left)

    def _interrupt(self) -> None:
        self._save()
        names = ", ".join(run.spec.run_id for run in self.runs)
        raise Interrupted(f"{names}: stopped after step {self.step} of {self.steps}; state saved")

    def _save(self) -> None:
        for run in self.runs:
            self._flush(run)
        began = time.monotonic()
        state = {
            "key": self.keys,
            "step": self.step,
            "runs": [run.state_dict() for run in self.runs],
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "seconds": self.seconds_before + began - self.began,
        }
        save_checkpoint(self.checkpoint_path, state)
        self.last_save = time.monotonic()
        self.save_cost = self.last_save - began

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint_path, self.keys)
        if state is not None:
            self.step = state["step"]
            for run, saved in zip(self.runs, state["runs"], strict=True):
                run.load_state_dict(saved)
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"], self.device)
            self.seconds_before = state["seconds"]
        self.first_step = self.step

    def _finish(self) -> dict[str, dict[str, Any]]:
        for run in self.runs:
            self._flush(run)
        # each run's share of the time that all took
        seconds = (self.seconds_before + time.monotonic() - self.began) / len(self.runs)
        summaries = {run.spec.run_id: run.finish(seconds, len(self.runs)) for run in self.runs}
        self.checkpoint_path.unlink(missing_ok=True)
        if self.stack:
            with contextlib.suppress(OSError):
                self.checkpoint_path.parent.rmdir()
        return summaries
