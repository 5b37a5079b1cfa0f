"""The one training loop. Images and text differ in how a batch is drawn and in the model, not here.

Nothing in a step waits for the device: losses and norms are summed there and fetched at evaluations.
On a CPU a run that was killed and started again gives the same numbers to the last bit.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from decaylab.data import Dataset, load
from decaylab.errors import InputError, Interrupted
from decaylab.files import Layout, read_json, sha256_json, write_json
from decaylab.fingerprint import fingerprint
from decaylab.probes import check_probes
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.training.checkpoint import load_checkpoint, load_snapshot, run_lock, save_checkpoint, save_snapshot
from decaylab.training.kernels import LAUNCH_BOUND, Loss, compiled, repeated
from decaylab.training.learner import Batch, Learner, Stack, cross_entropy
from decaylab.training.provenance import commit, hardware, peak_memory_bytes, versions
from decaylab.training.recorder import Recorder, divergence_step

CHECKPOINT_SECONDS = 5.0
"""least time between checkpoints; longer where saving takes more than one hundredth of it"""

Switch = Literal["auto", "off", "on"]


class Price(Protocol):
    """What a run will cost; see decaylab.training.cost, which decides no number and is not imported here."""

    flops: float
    predicted_seconds: float


@dataclass
class Options:
    """How to run, as opposed to what: nothing here is part of a run's identity."""

    device: str = "auto"
    threads: int = 1
    choices: dict[str, Choice] = field(default_factory=dict)
    stop: Callable[[], bool] = lambda: False
    """asked once a step; True saves the state and raises Interrupted"""
    progress: Callable[[str, int, int, dict[str, float], float], None] = lambda *_: None
    """called after evaluations with run id, step, steps, newest values, seconds left"""
    compile: Switch = "auto"
    """torch.compile; `auto` compiles on a GPU where steps are large"""
    graphs: Switch = "auto"
    """record a pass and repeat it, see kernels.py; `auto` is on"""
    price: Callable[[RunSpec], Price] | None = None
    """foretells the cost, to be kept beside what the run took; asked only if it is trained"""


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA if there is one. Raises InputError for a device that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()):
        return torch.device(name)
    raise InputError(f"device: expected auto, cpu or cuda (if this machine has one), got {name!r}")


def train(spec: RunSpec, layout: Layout, options: Options | None = None) -> dict[str, Any]:
    """Train one run to its end and write its summary, metrics and snapshots; returns the summary.

    A finished run is not trained again: its files are put back from `layout.state(run_id)`. A run that was
    interrupted continues from its checkpoint.

    Raises:
        InputError: the data or the snapshot it starts from are missing or damaged.
        Interrupted: `options.stop` asked to; the state is saved.
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
            locks.enter_context(run_lock(layout.state(run_id)))
        done = {spec.run_id: _finished(spec, layout, keys[spec.run_id]) for spec in specs}
        missing = [spec for spec in specs if done[spec.run_id] is None]
        if missing and _checkpoint_path(specs, layout).exists():
            missing = list(specs)  # killed while it wrote the records: the same runs together, the same numbers
        if missing:
            done |= _Loop(missing, layout, options, [keys[spec.run_id] for spec in missing]).run()
        for spec in specs:
            _publish(spec, layout)
    return [done[spec.run_id] for spec in specs]


def _checkpoint_path(specs: Sequence[RunSpec], layout: Layout) -> Path:
    names = [spec.run_id for spec in specs]
    name = names[0] if len(names) == 1 else f"together-{sha256_json(names)[:16]}"
    return layout.state(name) / "checkpoint.pt"


def _kept_files(spec: RunSpec, layout: Layout) -> list[tuple[Path, Path]]:
    """(record in the state folder, place in the results) of everything a finished run leaves."""
    places = [layout.metrics(spec.run_id), *(layout.snapshot(spec.run_id, step) for step in spec.snapshots)]
    places.append(layout.summary(spec.run_id))
    return [(layout.state(spec.run_id) / place.name, place) for place in places]


def _finished(spec: RunSpec, layout: Layout, key: dict[str, str]) -> dict[str, Any] | None:
    files = _kept_files(spec, layout)
    if not all(record.exists() for record, _ in files):
        return None
    try:
        done = read_json(layout.state(spec.run_id) / "done.json")
        return read_json(files[-1][0]) if done == key else None
    except InputError:
        return None


def _publish(spec: RunSpec, layout: Layout) -> None:
    """Link the kept files to their places; the workflow may delete those without losing a training."""
    for record, place in _kept_files(spec, layout):
        if place.exists() and os.path.samefile(record, place):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            os.link(record, place)
        except OSError:  # a file system without hard links
            place.write_bytes(record.read_bytes())


class _Loop:
    """Takes one or more members through their steps: alone, or stacked and in step."""

    def __init__(self, specs: Sequence[RunSpec], layout: Layout, options: Options, keys: list[dict[str, str]]) -> None:
        self.layout, self.options, self.keys = layout, options, keys
        first = specs[0]
        for spec in specs:
            check_probes(spec.evaluation.probes)
        # before anything draws random numbers: it may train a few steps of the same shape
        prices = [options.price(spec) if options.price else None for spec in specs]
        self.device = resolve_device(options.device)
        self.checkpoint_path = _checkpoint_path(specs, layout)
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads)
        else:
            torch.cuda.reset_peak_memory_stats(self.device)
        torch.set_float32_matmul_precision("high" if first.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = first.precision == "tf32"
        torch.backends.cudnn.benchmark = self.device.type == "cuda"  # all batches of a run have one shape

        self.steps = first.steps
        self.members = [
            _Member(spec, layout, options, self.device, key, price)
            for spec, key, price in zip(specs, keys, prices, strict=True)
        ]
        learners = [member.learner for member in self.members]
        self.stack = Stack(learners) if len(learners) > 1 else None
        self.learner: Learner | Stack = self.stack or learners[0]
        self.loss = self._compiled(first) if self._compiles(prices[0]) else None
        self.backward: Callable[[Batch], torch.Tensor] | None = None
        self.step = 0
        self.seconds_before = 0.0
        # dropout draws from the global generator
        torch.manual_seed(self.members[0].data_seed)
        self._resume()

    def _compiles(self, price: Price | None) -> bool:
        if self.options.compile != "auto":
            return self.options.compile == "on"
        large = price is not None and price.flops / self.steps * len(self.members) > LAUNCH_BOUND
        return self.device.type == "cuda" and large

    def _compiled(self, spec: RunSpec) -> Loss:
        batch = spec.batch_size, spec.micro_batch_size, len(self.members)
        return compiled(self.learner, (spec.model, spec.data, spec.precision, batch, self.device), self.layout.compiled)

    def run(self) -> dict[str, dict[str, Any]]:
        """Train to the end; returns run id -> summary."""
        self.began = self.last_save = time.monotonic()
        self.save_cost = 0.0
        for member in self.members:
            if self.step == 0 and not member.recorder.rows:
                member.evaluate()
                self._flush(member)
            member.learner.model.train()
        while self.step < self.steps and self.alive:
            if self.options.stop():
                self._save()
                names = ", ".join(member.spec.run_id for member in self.members)
                raise Interrupted(f"{names}: stopped after step {self.step} of {self.steps}; state saved")
            losses = self._backward()
            self.step += 1
            for member, loss in zip(self.members, losses, strict=True):
                if not member.lost:
                    member.update(loss)
                    if member.due:
                        member.evaluate()
                        member.lost = not self._flush(member)
            if time.monotonic() - self.last_save > max(CHECKPOINT_SECONDS, 100 * self.save_cost):
                for member in self.members:
                    self._flush(member)
                self._save()
        return self._finish()

    @property
    def alive(self) -> bool:
        return not all(member.lost for member in self.members)

    def _backward(self) -> Sequence[torch.Tensor]:
        """Put the gradients of every member's batch in place; returns their losses."""
        batches = [member.data.batch(self.step) for member in self.members]
        if self.stack:
            inputs, targets = zip(*batches, strict=True)
            batch = torch.stack(inputs), torch.stack(targets)
        else:
            batch = batches[0]
        if self.backward is None:
            if self.options.graphs == "off":
                self.backward = functools.partial(self.learner.backward, loss=self.loss)
            else:
                self.backward = repeated(self.learner, batch, self.loss)
        losses = self.backward(batch)
        return losses.unbind() if self.stack else [losses]

    def _seconds(self) -> float:
        """Of each member: its share of the time that all took."""
        return (self.seconds_before + time.monotonic() - self.began) / len(self.members)

    def _flush(self, member: _Member) -> bool:
        done = max(self.step - self.first_step, 1)
        return member.flush((time.monotonic() - self.began) / done * (self.steps - self.step))

    def _save(self) -> None:
        began = time.monotonic()
        state = {
            "key": self.keys,
            "step": self.step,
            "members": [member.state_dict() for member in self.members],
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
            for member, saved in zip(self.members, state["members"], strict=True):
                member.load_state_dict(saved)
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"], self.device)
            self.seconds_before = state["seconds"]
        self.first_step = self.step

    def _finish(self) -> dict[str, dict[str, Any]]:
        for member in self.members:
            self._flush(member)
        seconds = self._seconds()
        summaries = {member.spec.run_id: member.finish(seconds, len(self.members)) for member in self.members}
        self.checkpoint_path.unlink(missing_ok=True)
        if self.stack:
            with contextlib.suppress(OSError):
                self.checkpoint_path.parent.rmdir()
        return summaries


class _Member:
    """One run: its data, its learner, and what is recorded of it."""

    def __init__(
        self,
        spec: RunSpec,
        layout: Layout,
        options: Options,
        device: torch.device,
        key: dict[str, str],
        price: Price | None,
    ) -> None:
        self.spec, self.layout, self.options, self.device = spec, layout, options, device
        self.key, self.price = key, price
        self.data_seed = spec.seed if spec.data_seed is None else spec.data_seed
        self.data: Dataset = load(
            spec.data,
            layout,
            device,
            batch_size=spec.batch_size,
            seed=self.data_seed,
            context_length=spec.model.context_length if spec.model.kind == "gpt" else None,
            choice=options.choices.get(spec.data.kind),
        )
        self.data.check_steps(spec.steps)
        self.chance = {"loss": math.log(self.data.classes), "error": 1 - 1 / self.data.classes}
        self.learner = Learner(spec, self.data.classes, device)
        self.model = self.learner.model
        if spec.start:
            parent = layout.snapshot(spec.start.run.run_id, spec.start.step)
            load_snapshot(parent, self.model, self.learner.optimizer if spec.start.optimizer_state else None)
            self.learner.restart_average()
        self.recorder = Recorder()
        self.step = 0
        self.lost = False
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._clear_losses()

    def _clear_losses(self) -> None:
        self.loss_sum, self.loss_count = torch.zeros((), device=self.device), 0

    @property
    def due(self) -> bool:
        """Whether an evaluation follows the last step."""
        return self.step % self.spec.evaluation.every == 0 or self.step == self.spec.steps

    def update(self, loss: torch.Tensor) -> None:
        """The step whose gradients are in place and whose loss this is."""
        spec, step = self.spec, self.step
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1
        logged = self.step % spec.evaluation.log_every == 0 or self.step == spec.steps
        lost: dict[str, torch.Tensor] = {}
        probe = "lost_updates" in spec.evaluation.probes and self.due
        after = functools.partial(self._lost_updates, lost, step) if probe else None
        measured = self.learner.update(step, logged=logged, after=after)
        if logged:
            measured["batch_loss"] = self.loss_sum / self.loss_count
            self._clear_losses()
        if logged or lost:
            self.recorder.record(self.step, measured | lost)
        if self.step in spec.snapshots:
            self._snapshot(self.step)

    def _lost_updates(self, lost: dict[str, torch.Tensor], step: int, learning_rate: float) -> None:
        """The probe of an update, which reads its gradients."""
        from decaylab.probes.rounding import intended_updates, lost_updates

        lost |= lost_updates(intended_updates(self.learner.optimizer, self.learner.decay, step, learning_rate))

    def _snapshot(self, step: int) -> None:
        path = self.layout.state(self.spec.run_id) / self.layout.snapshot(self.spec.run_id, step).name
        save_snapshot(path, self.model, self.learner.ema, self.learner.optimizer)

    # -- measuring -----------------------------------------------------------------------------------------

    def _splits(self) -> Iterator[tuple[str, int | None]]:
        evaluation = self.spec.evaluation
        for split in self.data.evaluation_splits:
            if split == "test" and self.data.kind == "text" and self.step < self.spec.steps:
                continue  # a text's test split is looked at once
            yield split, evaluation.train_examples if split == "train" else evaluation.examples

    @torch.no_grad()
    def evaluate(self) -> None:
        """Record losses and errors of the fixed evaluation examples, and what the probes say."""
        values: dict[str, torch.Tensor] = {}
        ema = self.learner.ema
        for split, examples in self._splits():
            values |= self._losses(self.model, split, examples, "")
        if ema is not None and self.step > 0:
            self._refresh_batch_norm(ema)
            for split, examples in self._splits():
                values |= self._losses(ema, split, examples, "ema_")
        if "attention" in self.spec.evaluation.probes:
            from decaylab.probes.attention import attention_logits

            inputs, _ = next(iter(self.data.evaluation("train", self.spec.evaluation.train_examples)))
            with self.learner.autocast():
                values |= attention_logits(self.model, inputs[:64])
        self.recorder.record(self.step, values)
        self.model.train()  # once here, since walking through all modules costs a twentieth of a small step

    def _losses(self, model: nn.Module, split: str, examples: int | None, prefix: str) -> dict[str, torch.Tensor]:
        model.eval()
        loss = torch.zeros((), device=self.device, dtype=torch.float64)
        wrong = torch.zeros((), device=self.device, dtype=torch.float64)
        count = 0
        for inputs, targets in self.data.evaluation(split, examples):
            with self.learner.autocast():
                logits = model(inputs)
            loss += cross_entropy(logits, targets).double() * targets.numel()
            wrong += (logits.argmax(-1) != targets).sum()
            count += targets.numel()
        return {f"{prefix}{split}_loss": loss / count, f"{prefix}{split}_error": wrong / count}

    def _refresh_batch_norm(self, ema: nn.Module) -> None:
        """Averaged weights need their own batch statistics: recompute them on the fixed training examples."""
        if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in ema.modules()):
            return
        batches = (inputs for inputs, _ in self.data.evaluation("train", self.spec.evaluation.train_examples))
        torch.optim.swa_utils.update_bn(batches, ema)

    def flush(self, seconds_left: float) -> bool:
        """Fetch what was measured, report progress; False if the training is lost for good."""
        rows = self.recorder.flush()
        if rows:
            newest = {k: v for row in rows for k, v in row.items()}
            self.options.progress(self.spec.run_id, self.step, self.spec.steps, newest, seconds_left)
        # attention on a CPU hides NaN weights from the loss, but not from the gradient
        overflows = self.spec.precision == "float16"  # expected now and then, and skipped by the scaler
        watched = ("batch_loss",) if overflows else ("batch_loss", "gradient_norm")
        return all(math.isfinite(row.get(name, 0.0)) for row in rows for name in watched)

    # -- state ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        self.recorder.flush()
        return {
            "learner": self.learner.state_dict(),
            "step": self.step,
            "lost": self.lost,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "rows": self.recorder.rows,
            "started_at": self.started_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.step, self.lost = state["step"], state["lost"]
        self.loss_sum, self.loss_count = state["loss_sum"].to(self.device), state["loss_count"]
        self.recorder = Recorder(state["rows"])
        self.started_at = state["started_at"]

    def finish(self, seconds: float, together: int) -> dict[str, Any]:
        """Write the records of the run and return its summary."""
        spec, state = self.spec, self.layout.state(self.spec.run_id)
        diverged_at = divergence_step(self.recorder.rows, self.chance["loss"])
        summary = {
            "run_id": spec.run_id,
            "spec": spec.model_dump(mode="json", exclude_none=True),
            "seconds": seconds,
            "started_at": self.started_at,
            "steps_done": self.step,
            "trained_together": together,
            "final": self.recorder.final(),
            "texts": {} if diverged_at is not None else self._texts(),
            "diverged_at_step": diverged_at,
            "chance": self.chance,
            "applied_decay": self.learner.decay.applied(),
            "data_sha256": self.data.sha256,
            "commit": commit(),
            "code": self.key["code"],
            "versions": versions(),
            "hardware": hardware(self.device),
            "flops": self.price.flops if self.price else None,
            "predicted_seconds": self.price.predicted_seconds if self.price else None,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "parameters": sum(weight.numel() for weight in self.model.parameters()),
        }
        # a snapshot that a lost training never reached is its last state: whoever starts from it is lost as well
        for step in spec.snapshots:
            if step > self.step:
                self._snapshot(step)
        self.recorder.write(state / "metrics.parquet")
        write_json(state / "summary.json", summary)
        write_json(state / "done.json", self.key)
        return read_json(state / "summary.json")

    def _texts(self) -> dict[str, str]:
        if "completion" not in self.spec.evaluation.probes or self.data.kind != "text":
            return {}
        from decaylab.data.tokenizers import tokenizer
        from decaylab.probes.completion import completion

        tokens = tokenizer(self.spec.data.tokenizer)
        with self.learner.autocast():
            text = completion(self.model, lambda words: tokens.encode([words])[0].tolist(), tokens.decode)
        return {"completion": text}
