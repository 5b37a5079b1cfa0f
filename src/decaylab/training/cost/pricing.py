"""The price of a run before it runs: FLOPs, seconds, memory and disk.

Seconds on this machine come from timing a few steps of the same shape (kept in `results/calibration.json`). For a known
GPU they come from its peak rate, an assumed utilisation, and the time to launch the kernels of a step, whichever is
longer.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from decaylab.data import prepared_key
from decaylab.errors import InputError
from decaylab.files import Layout, read_json, sha256_json, write_json
from decaylab.fingerprint import package_digest
from decaylab.operations import Operations, evaluated_examples, operations_of, outputs_of, run_flops
from decaylab.sources import is_named
from decaylab.spec import RunSpec
from decaylab.training.cost.calibration import median_seconds, time_steps
from decaylab.training.cost.counting import Footprint, footprint_key, footprint_of
from decaylab.training.cost.gpus import GPU, GPUS
from decaylab.training.device import resolve_device
from decaylab.training.kernels import LAUNCH_BOUND
from decaylab.training.probing import example_passes
from decaylab.training.provenance import hardware, versions

MOST_TOGETHER = 8
"""runs in one pass, unless the user asks for more"""
FIXED_SECONDS = 0.3
"""building the model and loading prepared data"""


@dataclass(frozen=True)
class Price:
    """What a run costs."""

    parameters: int
    flops: float
    predicted_seconds: float
    memory_bytes: float
    disk_bytes: float
    gpu_seconds: dict[str, float]
    gpus: int = 1
    """that train the run together; memory is that of each"""


class Pricer:
    """Prices runs on this machine. Timings are kept between calls and sessions, in `results/calibration.json`."""

    def __init__(self, layout: Layout, device: str = "auto", threads: int = 1) -> None:
        self.device = resolve_device(device)
        self.threads = threads
        self.layout = layout
        self.path = layout.results / "calibration.json"
        self.machine = sha256_json([hardware(self.device)["name"], threads, versions()["torch"]])[:10]
        self.known: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.known = read_json(self.path)
            except InputError:
                self.known = {}  # only a cache

    def outputs(self, spec: RunSpec) -> int:
        """Classes of the images, or tokens of the tokenizer; the user's own images must be prepared to be counted."""
        if spec.data.kind == "images" and not is_named(spec.data.source):
            meta = self.layout.prepared(prepared_key(spec.data)) / "meta.json"
            if meta.exists():
                return len(read_json(meta)["classes"])
        return outputs_of(spec)

    def footprint(self, spec: RunSpec) -> Footprint:
        """`footprint_of`, kept: to count takes torch seconds, most of them for its imports."""
        classes = self.outputs(spec)
        model, *sizes = footprint_key(spec, classes)
        code = [package_digest("models", "training/cost"), versions()["torch"]]
        key = "footprint-" + sha256_json([model.model_dump(mode="json"), sizes, code])[:16]
        if key not in self.known:
            self._keep(key, asdict(footprint_of(spec, classes)))
        return Footprint(**self.known[key])

    def price(self, spec: RunSpec, gpus: int = 1) -> Price:
        """Everything that `decaylab plan` says about a run that this many GPUs train; see `seconds`."""
        operations, footprint = operations_of(spec, self.outputs(spec)), self.footprint(spec)
        return Price(
            parameters=operations.parameters,
            flops=run_flops(spec, self.outputs(spec)) + example_passes(spec) * operations.forward,
            predicted_seconds=self.seconds(spec, gpus),
            memory_bytes=_memory(spec, operations, footprint, gpus),
            disk_bytes=_disk(spec, operations),
            gpu_seconds={gpu.name: _gpu_seconds(gpu, spec, operations, footprint, gpus) for gpu in GPUS},
            gpus=gpus,
        )

    def together(self, spec: RunSpec) -> int:
        """How many runs of this shape to train in one pass: on a GPU as many as keep it busy, up to eight.

        One on a CPU, where only networks of a few thousand weights gain (benchmarks, `together`).
        """
        if self.device.type == "cpu":
            return 1
        step = operations_of(spec, self.outputs(spec)).step * spec.batch_size
        return max(1, min(MOST_TOGETHER, round(LAUNCH_BOUND / step)))

    def seconds(self, spec: RunSpec, gpus: int = 1) -> float:
        """What the run will take on this machine. Times a few of its steps if that was never done here.

        Only GPUs share a run; without one, it is what a single process takes.
        """
        step, example = self._seconds(spec)
        if gpus > 1 and self.device.type == "cuda":
            step /= gpus
            name = hardware(self.device)["name"]
            parameters = operations_of(spec, self.outputs(spec)).parameters
            step += sum(gpu.averaging_seconds(parameters, gpus) for gpu in GPUS if name.startswith(gpu.name))
        return FIXED_SECONDS + spec.steps * step + _examples(spec) * example

    def _key(self, spec: RunSpec) -> str:
        split = spec.float32_parts or spec.rounding
        shape = {
            "model": spec.model.model_dump(mode="json"),
            "classes": self.outputs(spec),
            "optimizer": spec.optimizer.name,
            "batch": [spec.batch_size, spec.micro_batch_size],
            "precision": [spec.precision, spec.float32_parts, spec.rounding] if split else spec.precision,
            "size": spec.data.image_size if spec.data.kind == "images" else None,
            "extras": [spec.ema is not None, spec.gradient_clip is not None, spec.decay.form],
            "machine": self.machine,
            "code": package_digest("training", "optim", "models"),
        }
        return sha256_json(shape)[:16]

    def _seconds(self, spec: RunSpec) -> tuple[float, float]:
        """(seconds of a training step, seconds of the forward pass of one example) on this machine."""
        key = self._key(spec)
        if key not in self.known:
            classes = self.outputs(spec)
            operations = operations_of(spec, classes)
            flops = operations.step * spec.batch_size
            if flops <= (2e10 if self.device.type == "cpu" else 2e14):
                step, example = time_steps(spec, classes, self.device, self.threads)
            else:
                rate = self._rate()
                step, example = flops / rate, operations.forward / rate
            self._keep(key, {"step": step, "example": example})
        timing = self.known[key]
        return timing["step"], timing["example"]

    def _rate(self) -> float:
        """FLOP/s of a large matmul on this machine, for runs too large to time."""
        key = f"rate-{self.machine}"
        if key not in self.known:
            size = 1024 if self.device.type == "cpu" else 8192
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
            torch.set_num_threads(self.threads)
            matrix = torch.randn(size, size, device=self.device, dtype=dtype)
            seconds = median_seconds(lambda: matrix @ matrix, self.device)
            self._keep(key, 0.5 * 2 * size**3 / seconds)
        return self.known[key]

    def _keep(self, key: str, value: Any) -> None:
        self.known[key] = value
        with contextlib.suppress(OSError):  # a read-only results directory costs time, not correctness
            write_json(self.path, self.known)


def _examples(spec: RunSpec) -> float:
    """Forward passes of single examples in all evaluations and probes."""
    return evaluated_examples(spec) + example_passes(spec)


def _gpu_seconds(gpu: GPU, spec: RunSpec, operations: Operations, footprint: Footprint, gpus: int) -> float:
    peak = {"float32": gpu.float32, "tf32": gpu.tf32}.get(spec.precision, gpu.bfloat16)
    rate = peak * (gpu.convolutions if spec.model.kind in ("vgg", "preact_resnet") else gpu.utilisation)
    step = max(operations.step * spec.batch_size / gpus / rate, footprint.kernels * gpu.launch_seconds)
    step += gpu.averaging_seconds(operations.parameters, gpus)
    # evaluations run in large batches, where compute is the limit; several GPUs do not share them
    return FIXED_SECONDS + spec.steps * step + _examples(spec) * operations.forward / rate


def _memory(spec: RunSpec, operations: Operations, footprint: Footprint, gpus: int) -> float:
    """Weights, gradients, optimizer state, average and activations, in bytes, on each GPU."""
    share = min(1.0, spec.batch_size / gpus / (spec.micro_batch_size or spec.batch_size))
    width = 2 if spec.precision == "bfloat16_weights" and not spec.casts_weights else 4
    states = {"sgd": 1 if getattr(spec.optimizer, "momentum", 0) else 0, "adamw": 2}[spec.optimizer.name]
    half = spec.precision in ("bfloat16", "float16", "bfloat16_weights")
    copies = width * (2 + states) + (4 if spec.ema else 0) + (2 if half and width == 4 else 0)
    return operations.parameters * copies + share * footprint.activation_bytes * (0.5 if half else 1)


def _disk(spec: RunSpec, operations: Operations) -> float:
    """Snapshots and the checkpoint (weights, optimizer state, average), and the tables, in bytes."""
    state = operations.parameters * 4 * (3 + (1 if spec.ema else 0))
    return state * (len(spec.snapshots) + 1) + 100_000


def plan_row(run_id: str, wanted: dict[str, Any], spec: RunSpec, price: Price, finished: bool) -> dict[str, Any]:
    """One object of `decaylab plan --json`."""
    return {
        "run_id": run_id,
        "replications": sorted(wanted),
        "arms": wanted,
        "spec": json.loads(spec.model_dump_json(exclude_none=True)),
        "finished": finished,
        **asdict(price),
    }


def is_finished(layout: Layout, run_id: str) -> bool:
    return Path(layout.summary(run_id)).exists()
