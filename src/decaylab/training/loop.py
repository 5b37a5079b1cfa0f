"""The one training loop. Images and text differ in how a batch is drawn and in the model, not here.

Nothing in a step waits for the device: losses and norms are summed there and fetched at evaluations.
On a CPU a run that was killed and started again gives the same numbers to the last bit.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from decaylab.data import Dataset, load
from decaylab.errors import InputError, Interrupted
from decaylab.files import Layout, read_json, sha256_json, write_json
from decaylab.fingerprint import fingerprint
from decaylab.models import build_model, parameter_groups
from decaylab.optim.decay import WeightDecay
from decaylab.optim.optimizers import build_optimizer, grouped_parameters, set_learning_rate
from decaylab.optim.schedules import learning_rate_at
from decaylab.probes import check_probes
from decaylab.probes.norms import effective_learning_rate, gradient_norms, weight_norms
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.training.checkpoint import load_checkpoint, load_snapshot, run_lock, save_checkpoint, save_snapshot
from decaylab.training.provenance import commit, hardware, peak_memory_bytes, versions
from decaylab.training.recorder import Recorder, divergence_step

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
CHECKPOINT_SECONDS = 5.0
"""least time between checkpoints; longer where saving takes more than one hundredth of it"""


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
    compile: bool | None = None
    """torch.compile; None compiles on a GPU"""
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
    options = options or Options()
    state = layout.state(spec.run_id)
    with run_lock(state):
        key = {"spec": sha256_json(spec.identity()), "code": fingerprint(spec)}
        summary = _finished(spec, layout, key)
        if summary is None:
            summary = _Training(spec, layout, options, key).run()
        _publish(spec, layout)
    return summary


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


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss in nats, in float32 whatever the logits are: [..., classes] and int64 [...] -> 0-d."""
    return functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


class _Training:
    def __init__(self, spec: RunSpec, layout: Layout, options: Options, key: dict[str, str]) -> None:
        self.spec, self.layout, self.options, self.key = spec, layout, options, key
        check_probes(spec.evaluation.probes)
        # before anything draws random numbers: it may train a few steps of the same shape
        self.price = options.price(spec) if options.price else None
        self.device = resolve_device(options.device)
        self.checkpoint_path = layout.state(spec.run_id) / "checkpoint.pt"
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads)
        else:
            torch.cuda.reset_peak_memory_stats(self.device)
        torch.set_float32_matmul_precision("high" if spec.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = spec.precision == "tf32"

        init_seed = spec.seed if spec.init_seed is None else spec.init_seed
        data_seed = spec.seed if spec.data_seed is None else spec.data_seed
        context = spec.model.context_length if spec.model.kind == "gpt" else None
        self.data: Dataset = load(
            spec.data,
            layout,
            self.device,
            batch_size=spec.batch_size,
            seed=data_seed,
            context_length=context,
            choice=options.choices.get(spec.data.kind),
        )
        self.data.check_steps(spec.steps)
        self.chance = {"loss": math.log(self.data.classes), "error": 1 - 1 / self.data.classes}

        image_size = spec.data.image_size if spec.data.kind == "images" else None
        model = build_model(spec.model, classes=self.data.classes, image_size=image_size, seed=init_seed)
        model.to(self.device)
        if spec.data.kind == "images":
            model.to(memory_format=torch.channels_last)
        if spec.precision == "bfloat16_weights":
            model.to(torch.bfloat16)
        self.model = model
        self.parameters = list(model.parameters())
        self.optimizer = build_optimizer(spec, model, parameter_groups(model))
        self.grouped = grouped_parameters(self.optimizer)
        self.decay = WeightDecay(spec.decay, self.optimizer, spec.optimizer.learning_rate, spec.steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=spec.precision == "float16")
        if spec.start:
            parent = layout.snapshot(spec.start.run.run_id, spec.start.step)
            load_snapshot(parent, model, self.optimizer if spec.start.optimizer_state else None)
        # the average is kept in float32 whatever the weights are: 0.001 of an update is far below bfloat16's spacing
        self.ema = copy.deepcopy(model).float().eval().requires_grad_(False) if spec.ema else None
        self.ema_parameters = list(self.ema.parameters()) if self.ema is not None else []

        compiled = self.device.type == "cuda" if options.compile is None else options.compile
        self.forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model) if compiled else model
        self.recorder = Recorder()
        self.loss_sum = torch.zeros((), device=self.device)
        self.loss_count = 0
        self.step = 0
        self.seconds_before = 0.0
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        # dropout draws from the global generator
        torch.manual_seed(data_seed)
        self._resume()

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        spec = self.spec
        self.began = self.last_save = time.monotonic()
        self.save_cost = 0.0
        self.model.train()
        if self.step == 0:
            self._evaluate()
            self._flush()
        while self.step < spec.steps:
            if self.options.stop():
                self._save()
                raise Interrupted(f"{spec.run_id}: stopped after step {self.step} of {spec.steps}; state saved")
            self._train_step()
            if self.step in spec.snapshots:
                path = self.layout.state(spec.run_id) / self.layout.snapshot(spec.run_id, self.step).name
                save_snapshot(path, self.model, self.ema, self.optimizer)
            if self.step % spec.evaluation.every == 0 or self.step == spec.steps:
                self._evaluate()
                if not self._flush():
                    break
            if time.monotonic() - self.last_save > max(CHECKPOINT_SECONDS, 100 * self.save_cost):
                self._flush()
                self._save()
        return self._finish()

    def _train_step(self) -> None:
        spec, last = self.spec, self.step + 1 == self.spec.steps
        learning_rate = learning_rate_at(spec.schedule, spec.optimizer.learning_rate, spec.steps, self.step)
        set_learning_rate(self.optimizer, learning_rate)
        inputs, targets = self.data.batch(self.step)
        micro = spec.micro_batch_size or spec.batch_size
        for part, part_targets in zip(inputs.split(micro), targets.split(micro), strict=True):
            with self._autocast():
                loss = cross_entropy(self.forward(part), part_targets) * (len(part) / len(inputs))
            self.scaler.scale(loss).backward()
            self.loss_sum += loss.detach()
        self.loss_count += 1
        penalty = self.decay.loss_penalty(self.step)
        if penalty is not None:
            self.scaler.scale(penalty).backward()
        self.scaler.unscale_(self.optimizer)

        logged = (self.step + 1) % spec.evaluation.log_every == 0 or last
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        measured = gradient_norms(self.grouped) if logged else {}
        if spec.gradient_clip is not None or logged or spec.precision == "float16":
            norm = torch.nn.utils.get_total_norm(gradients)
            measured["gradient_norm"] = norm
            if spec.gradient_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, spec.gradient_clip, norm)

        # a float16 gradient that overflowed is not applied, and then neither is decay
        skipped = ~torch.isfinite(norm) if spec.precision == "float16" else None
        self.decay.before_step(self.step, learning_rate, skipped)
        self.scaler.step(self.optimizer)
        measured |= self._lost_updates(learning_rate)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            with torch.no_grad():
                weights = [p.float() for p in self.parameters]  # no copy where they are float32 already
                torch._foreach_lerp_(self.ema_parameters, weights, 1 - spec.ema)
        self.step += 1
        if logged:
            measured |= weight_norms(self.grouped)
            effective = effective_learning_rate(spec.optimizer.name, learning_rate, measured["weight_norm"])
            measured |= {
                "effective_learning_rate": effective,
                "learning_rate": learning_rate,
                "weight_decay": self.decay.coefficient(self.step - 1, learning_rate),
                "batch_loss": self.loss_sum / self.loss_count,
            }
            self.loss_sum, self.loss_count = torch.zeros((), device=self.device), 0
        if logged or "lost_updates" in measured:
            self.recorder.record(self.step, measured)

    def _lost_updates(self, learning_rate: float) -> dict[str, torch.Tensor]:
        """The probe of the update just made; it reads the gradients, so it comes before they are cleared."""
        due = (self.step + 1) % self.spec.evaluation.every == 0 or self.step + 1 == self.spec.steps
        if "lost_updates" not in self.spec.evaluation.probes or not due:
            return {}
        from decaylab.probes.rounding import intended_updates, lost_updates

        return lost_updates(intended_updates(self.optimizer, self.decay, self.step, learning_rate))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self.spec.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    # -- measuring -----------------------------------------------------------------------------------------

    def _splits(self) -> Iterator[tuple[str, int | None]]:
        evaluation = self.spec.evaluation
        for split in self.data.evaluation_splits:
            if split == "test" and self.data.kind == "text" and self.step < self.spec.steps:
                continue  # a text's test split is looked at once
            yield split, evaluation.train_examples if split == "train" else evaluation.examples

    @torch.no_grad()
    def _evaluate(self) -> None:
        values: dict[str, torch.Tensor] = {}
        for split, examples in self._splits():
            values |= self._losses(self.model, split, examples, "")
        if self.ema is not None and self.step > 0:
            self._refresh_batch_norm()
            for split, examples in self._splits():
                values |= self._losses(self.ema, split, examples, "ema_")
        if "attention" in self.spec.evaluation.probes:
            from decaylab.probes.attention import attention_logits

            inputs, _ = next(iter(self.data.evaluation("train", self.spec.evaluation.train_examples)))
            with self._autocast():
                values |= attention_logits(self.model, inputs[:64])
        self.recorder.record(self.step, values)
        self.model.train()  # once here, since walking through all modules costs a twentieth of a small step

    def _losses(self, model: nn.Module, split: str, examples: int | None, prefix: str) -> dict[str, torch.Tensor]:
        model.eval()
        loss = torch.zeros((), device=self.device, dtype=torch.float64)
        wrong = torch.zeros((), device=self.device, dtype=torch.float64)
        count = 0
        for inputs, targets in self.data.evaluation(split, examples):
            with self._autocast():
                logits = model(inputs)
            loss += cross_entropy(logits, targets).double() * targets.numel()
            wrong += (logits.argmax(-1) != targets).sum()
            count += targets.numel()
        return {f"{prefix}{split}_loss": loss / count, f"{prefix}{split}_error": wrong / count}

    def _refresh_batch_norm(self) -> None:
        """Averaged weights need their own batch statistics: recompute them on the fixed training examples."""
        if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.ema.modules()):
            return
        batches = (inputs for inputs, _ in self.data.evaluation("train", self.spec.evaluation.train_examples))
        torch.optim.swa_utils.update_bn(batches, self.ema)

    def _flush(self) -> bool:
        """Fetch what was measured, report progress; False if the training is lost for good."""
        rows = self.recorder.flush()
        if rows:
            newest = {k: v for row in rows for k, v in row.items()}
            elapsed = time.monotonic() - self.began
            done = max(self.step - getattr(self, "first_step", 0), 1)
            left = elapsed / done * (self.spec.steps - self.step)
            self.options.progress(self.spec.run_id, self.step, self.spec.steps, newest, left)
        # attention on a CPU hides NaN weights from the loss, but not from the gradient
        overflows = self.spec.precision == "float16"  # expected now and then, and skipped by the scaler
        watched = ("batch_loss",) if overflows else ("batch_loss", "gradient_norm")
        return all(math.isfinite(row.get(name, 0.0)) for row in rows for name in watched)

    # -- state ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        began = time.monotonic()
        self.recorder.flush()
        state = {
            "key": self.key,
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "decay": self.decay.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "rows": self.recorder.rows,
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "seconds": self.seconds_before + began - self.began,
            "started_at": self.started_at,
        }
        save_checkpoint(self.checkpoint_path, state)
        self.last_save = time.monotonic()
        self.save_cost = self.last_save - began

    def _resume(self) -> None:
        state = load_checkpoint(self.checkpoint_path, self.key)
        if state is not None:
            self.step = state["step"]
            self.model.load_state_dict(state["model"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.decay.load_state_dict(state["decay"])
            self.scaler.load_state_dict(state["scaler"])
            self.loss_sum = state["loss_sum"].to(self.device)
            self.loss_count = state["loss_count"]
            self.recorder = Recorder(state["rows"])
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"], self.device)
            self.seconds_before = state["seconds"]
            self.started_at = state["started_at"]
        self.first_step = self.step

    def _finish(self) -> dict[str, Any]:
        spec, state = self.spec, self.layout.state(self.spec.run_id)
        self._flush()
        lost = divergence_step(self.recorder.rows, self.chance["loss"])
        texts = {} if lost is not None else self._texts()
        summary = {
            "run_id": spec.run_id,
            "spec": spec.model_dump(mode="json", exclude_none=True),
            "seconds": self.seconds_before + time.monotonic() - self.began,
            "started_at": self.started_at,
            "steps_done": self.step,
            "final": self.recorder.final(),
            "texts": texts,
            "diverged_at_step": lost,
            "chance": self.chance,
            "applied_decay": self.decay.applied(),
            "data_sha256": self.data.sha256,
            "commit": commit(),
            "code": self.key["code"],
            "versions": versions(),
            "hardware": hardware(self.device),
            "flops": self.price.flops if self.price else None,
            "predicted_seconds": self.price.predicted_seconds if self.price else None,
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "parameters": sum(p.numel() for p in self.parameters),
        }
        # a snapshot that a lost training never reached is its last state: whoever starts from it is lost as well
        for step in spec.snapshots:
            path = state / self.layout.snapshot(spec.run_id, step).name
            if step > self.step:
                save_snapshot(path, self.model, self.ema, self.optimizer)
        self.recorder.write(state / "metrics.parquet")
        write_json(state / "summary.json", summary)
        write_json(state / "done.json", self.key)
        self.checkpoint_path.unlink(missing_ok=True)
        return read_json(state / "summary.json")

    def _texts(self) -> dict[str, str]:
        if "completion" not in self.spec.evaluation.probes or self.data.kind != "text":
            return {}
        from decaylab.data.tokenizers import tokenizer
        from decaylab.probes.completion import completion

        tokens = tokenizer(self.spec.data.tokenizer)
        with self._autocast():
            text = completion(self.model, lambda words: tokens.encode([words])[0].tolist(), tokens.decode)
        return {"completion": text}
