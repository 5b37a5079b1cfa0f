"""One run in training: its data, its learner, and what is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import torch
from torch import Tensor

from decaylab.data import Dataset, load
from decaylab.files import Layout, read_json, write_digests, write_json
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.training.checkpoint import load_snapshot, save_snapshot
from decaylab.training.evaluation import losses, refresh_batch_norm
from decaylab.training.following import Follower
from decaylab.training.learner import Learner
from decaylab.training.metric_buffer import MetricBuffer, divergence_step
from decaylab.training.probing import Probing
from decaylab.training.provenance import commit, hardware, peak_memory_bytes, versions
from decaylab.training.records import snapshot_record

Progress = Callable[[str, int, int, dict[str, float], float], None]
"""run id, step, steps, newest values, seconds left"""


class Price(Protocol):
    """What a run will cost. decaylab.training.cost makes it; it decides no number and is not imported here."""

    flops: float
    predicted_seconds: float


class TrainingRun:
    """A run while it trains.

    Args:
        key: digests of its spec and code, kept with its records.
        price: what it was predicted to cost, if anybody asked.
    """

    def __init__(
        self,
        spec: RunSpec,
        layout: Layout,
        device: torch.device,
        *,
        key: dict[str, str],
        choice: Choice | None = None,
        price: Price | None = None,
    ) -> None:
        self.spec, self.layout, self.device = spec, layout, device
        self.key, self.price = key, price
        self.data_seed = spec.seed if spec.data_seed is None else spec.data_seed
        self.data: Dataset = load(
            spec.data,
            layout,
            device,
            batch_size=spec.batch_size,
            seed=self.data_seed,
            context_length=spec.model.context_length if spec.model.kind == "gpt" else None,
            choice=choice,
        )
        self.data.check_steps(spec.steps)
        self.chance = {"loss": math.log(self.data.classes), "error": 1 - 1 / self.data.classes}
        self.learner = Learner(spec, self.data.classes, device)
        self.model = self.learner.model
        if spec.start:
            parent = layout.snapshot(spec.start.run.run_id, spec.start.step)
            load_snapshot(parent, self.model, self.learner.optimizer if spec.start.optimizer_state else None)
            self.learner.restart_average()
        self.follower = Follower(spec, layout, self.learner.flat) if spec.follow else None
        self.probing = Probing(spec, self.learner, self.data, self.data_seed)
        self.buffer = MetricBuffer()
        self.step = 0
        self.diverged = False
        """set after evaluations only, so that it does not depend on when checkpoints are written"""
        self.overflowed = False
        """whether any number that was fetched so far is not finite"""
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._clear_losses()

    def _clear_losses(self) -> None:
        self.loss_sum, self.loss_count = torch.zeros((), device=self.device), 0

    @property
    def due(self) -> bool:
        """Whether an evaluation follows the last step."""
        return self.step % self.spec.evaluation.every == 0 or self.step == self.spec.steps

    def update(self, loss: Tensor) -> None:
        """Take the step whose gradients are in place and whose loss this is."""
        spec, step = self.spec, self.step
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1
        logged = self.step % spec.evaluation.log_every == 0 or self.step == spec.steps
        probed: dict[str, Any] = {}
        after = self.probing.around_update(self.step, probed)
        if self.follower:
            after = self._following(self.follower, after)
        measured = self.learner.update(step, logged=logged, after=after)
        if logged and self.follower:
            measured |= self.follower.measured(measured["learning_rate"], measured["weight_norm"])
        if logged:
            measured["batch_loss"] = self.loss_sum / self.loss_count
            self._clear_losses()
        if logged or probed:
            self.buffer.record(self.step, measured | probed)
        if self.step in spec.snapshots:
            self._snapshot(self.step)

    def _following(self, follower: Follower, probe: Callable[[float], None] | None) -> Callable[[float], None]:
        """What to call after the next update, so that it is as large as in the followed run, before probes look."""
        step = self.step - 1
        follower.before(step)

        def after(learning_rate: float) -> None:
            follower.after(step)
            if probe:
                probe(learning_rate)

        return after

    def probe(self) -> None:
        """Record what probes between updates say, where one is due."""
        if values := self.probing.measure("evaluation", self.step):
            self.buffer.record(self.step, values)

    def evaluate(self) -> None:
        """Record losses and errors of the fixed evaluation examples, of the weights and of their average."""
        values: dict[str, Tensor] = {}
        average = self.learner.ema
        for split, examples in self._splits():
            values |= losses(self.model, self.data, split, examples, self.learner.computing)
        if average is not None and self.step > 0:
            self._refresh_average()
            for split, examples in self._splits():
                found = losses(average, self.data, split, examples, self.learner.computing)
                values |= {f"ema_{name}": value for name, value in found.items()}
        self.buffer.record(self.step, values)
        self.model.train()  # once here, since walking through all modules costs a twentieth of a small step

    def _splits(self) -> list[tuple[str, int | None]]:
        """Splits to evaluate now, and how many of their examples."""
        evaluation = self.spec.evaluation
        # a text's test split is looked at once
        early = self.data.kind == "text" and self.step < self.spec.steps
        splits = [split for split in self.data.evaluation_splits if not (split == "test" and early)]
        return [(split, evaluation.train_examples if split == "train" else evaluation.examples) for split in splits]

    def _refresh_average(self) -> None:
        batches = self.data.evaluation("train", self.spec.evaluation.train_examples)
        refresh_batch_norm(self.learner.ema, batches, self.model)

    def _snapshot(self, step: int) -> None:
        if self.learner.ema is not None:
            self._refresh_average()
        path = snapshot_record(self.spec, self.layout, step)
        save_snapshot(path, self.model, self.learner.ema, self.learner.optimizer)

    def flush(self) -> dict[str, float] | None:
        """Fetch what was measured since the last call, and note whether anything overflowed.

        Returns:
            The newest value of each column, or None if there is none.
        """
        rows = self.buffer.flush()
        # attention on a CPU hides NaN weights from the loss, but not from the gradient
        expected = self.spec.precision == "float16"  # now and then, and skipped by the scaler
        watched = ("batch_loss",) if expected else ("batch_loss", "gradient_norm")
        if not all(math.isfinite(row.get(name, 0.0)) for row in rows for name in watched):
            self.overflowed = True
        return {name: value for row in rows for name, value in row.items()} or None

    def state_dict(self) -> dict[str, Any]:
        self.buffer.flush()
        return {
            "learner": self.learner.state_dict(),
            "probing": self.probing.state_dict(),
            "step": self.step,
            "diverged": self.diverged,
            "overflowed": self.overflowed,
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
            "rows": self.buffer.rows,
            "started_at": self.started_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.probing.load_state_dict(state.get("probing", {}))  # checkpoints of before have none
        self.step, self.diverged, self.overflowed = state["step"], state["diverged"], state["overflowed"]
        self.loss_sum, self.loss_count = state["loss_sum"].to(self.device), state["loss_count"]
        self.buffer = MetricBuffer(state["rows"])
        self.started_at = state["started_at"]

    def finish(self, seconds: float, together: int) -> dict[str, Any]:
        """Write the records of the run and return its summary.

        Args:
            seconds: that it took.
            together: how many runs were trained in one pass.
        """
        spec, folder = self.spec, self.layout.state(self.spec.run_id)
        diverged_at = divergence_step(self.buffer.rows, self.chance["loss"])
        if diverged_at is None and self.step < spec.steps:
            diverged_at = self.step  # it was ended because gradients overflowed, while its losses were finite
        texts: dict[str, str] = {}
        if diverged_at is None:
            last = self.probing.measure("end", self.step)
            texts = {name: value for name, value in last.items() if isinstance(value, str)}
            self.buffer.add_to_last(self.step, {name: value for name, value in last.items() if name not in texts})
        summary = {
            "run_id": spec.run_id,
            "spec": spec.model_dump(mode="json", exclude_none=True),
            "seconds": seconds,
            "started_at": self.started_at,
            "steps_done": self.step,
            "trained_together": together,
            "final": self.buffer.final(),
            "texts": texts,
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
        # the last state stands for a snapshot that a diverged run never reached: what starts from it diverges too
        for step in spec.snapshots:
            if step > self.step:
                self._snapshot(step)
        self.buffer.write(folder / "metrics.parquet")
        write_json(folder / "summary.json", summary)
        snapshots = [self.layout.snapshot(spec.run_id, step).name for step in spec.snapshots]
        write_digests(folder, ["metrics.parquet", "summary.json", *snapshots])
        write_json(folder / "done.json", self.key)
        return read_json(folder / "summary.json")
