"""The price of a run before it runs: FLOPs, seconds, memory, disk.

FLOPs are counted by torch on the meta device, so nothing is computed. Seconds on this machine come from
timing a few steps of the same shape (kept in `results/calibration.json`); for known GPUs from their peak
rates, an assumed utilisation, and the time to launch the kernels of a step, whichever is longer.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from decaylab.errors import InputError
from decaylab.files import Layout, read_json, sha256_json, write_json
from decaylab.fingerprint import package_digest
from decaylab.models import build_model
from decaylab.spec import RunSpec
from decaylab.training.kernels import LAUNCH_BOUND, repeated
from decaylab.training.learner import Learner, cross_entropy
from decaylab.training.loop import resolve_device
from decaylab.training.provenance import hardware, versions

VOCABULARY = {"bytes": 256, "gpt2": 50257}
MOST_TOGETHER = 8
"""runs in one pass, unless the user asks for more"""
FIXED_SECONDS = 0.3
"""building the model and loading prepared data"""


@dataclass(frozen=True)
class GPU:
    """A known GPU. Peaks are dense, from the vendors' data sheets, in FLOP/s."""

    name: str
    bfloat16: float
    tf32: float
    float32: float
    memory_bytes: float
    utilisation: float = 0.4
    """of the peak, in large matrix products with everything around them; assumed, until it is measured"""
    convolutions: float = 0.15
    """the same for networks of convolutions at batch 128; assumed"""
    launch_seconds: float = 5e-6
    """per kernel, when the host is the limit"""


GPUS = (
    GPU("NVIDIA H200", 989e12, 495e12, 67e12, 141e9),
    GPU("NVIDIA H100", 989e12, 495e12, 67e12, 80e9),
    GPU("NVIDIA A100", 312e12, 156e12, 19.5e12, 80e9),
    GPU("NVIDIA RTX 4090", 165e12, 83e12, 83e12, 24e9),
    GPU("NVIDIA RTX 3090", 71e12, 36e12, 36e12, 24e9),
)


@dataclass(frozen=True)
class Shape:
    """What one step of a run costs in operations; independent of the machine."""

    parameters: int
    step_flops: float
    """forward and backward of one batch"""
    example_flops: float
    """forward of one example"""
    kernels: int
    """operations issued in one step (forward, backward and update), each a kernel launch on a GPU"""
    activation_bytes: float
    """saved for the backward pass of one micro-batch"""


@dataclass(frozen=True)
class Price:
    parameters: int
    flops: float
    predicted_seconds: float
    memory_bytes: float
    disk_bytes: float
    gpu_seconds: dict[str, float]


class _Launches(TorchDispatchMode):
    """Counts operations that would launch a kernel; views do not."""

    VIEWS = frozenset({"view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze"})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count += name not in self.VIEWS and name not in ("detach", "split", "squeeze", "alias")
        return func(*args, **(kwargs or {}))


def shape_of(spec: RunSpec) -> Shape:
    """Count the operations of one step of this spec on the meta device."""
    return _shape(*_shape_key(spec))


def _shape_key(spec: RunSpec) -> tuple[Any, ...]:
    size = spec.data.image_size if spec.data.kind == "images" else 0
    return spec.model, size, _classes(spec), spec.batch_size, spec.micro_batch_size or spec.batch_size


def _classes(spec: RunSpec) -> int:
    if spec.data.kind == "text":
        return VOCABULARY[spec.data.tokenizer]
    return 100 if spec.data.source == "cifar100" else spec.data.classes


@functools.lru_cache(maxsize=512)
def _shape(model_spec: Any, image_size: int, classes: int, batch_size: int, micro: int) -> Shape:
    with torch.device("meta"):
        model = build_model(model_spec, classes=classes, image_size=image_size or None, seed=0)
    # batch norm needs two examples; the count is linear in them
    inputs, targets = (tensor.to("meta") for tensor in _random_batch(model_spec, image_size, classes, 2))
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[id(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    counter, launches = FlopCounterMode(display=False), _Launches()
    with counter, launches:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = cross_entropy(model(inputs), targets)
        forward = counter.get_total_flops()
        loss.backward()
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        step_flops=counter.get_total_flops() / 2 * batch_size,
        example_flops=forward / 2,
        kernels=launches.count * (batch_size // micro) + 30,  # foreach updates are few, whatever the model
        activation_bytes=sum(saved.values()) / 2 * micro,
    )


def _random_batch(model_spec, image_size, classes, batch_size):
    if model_spec.kind == "gpt":
        tokens = torch.randint(classes, (batch_size, model_spec.context_length))
        return tokens, tokens
    return torch.randn(batch_size, 3, image_size, image_size), torch.randint(classes, (batch_size,))


def evaluated_examples(spec: RunSpec) -> float:
    """Forward passes of single examples that the run's evaluations need; unknown set sizes count as 10,000."""
    rounds = 2 + (spec.steps - 1) // spec.evaluation.every
    held_out = spec.evaluation.examples or (spec.data.test_examples if spec.data.kind == "images" else None) or 10_000
    per_round = spec.evaluation.train_examples + held_out
    return rounds * per_round * (2 if spec.ema else 1)


class Pricer:
    """Prices runs on this machine; timings are kept between calls and sessions."""

    def __init__(self, layout: Layout, device: str = "auto", threads: int = 1) -> None:
        self.device = resolve_device(device)
        self.threads = threads
        self.path = layout.results / "calibration.json"
        self.machine = sha256_json([hardware(self.device)["name"], threads, versions()["torch"]])[:10]
        self.known: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.known = read_json(self.path)
            except InputError:
                self.known = {}  # only a cache

    def shape(self, spec: RunSpec) -> Shape:
        """`shape_of`, kept: to count takes torch seconds, most of them for its imports."""
        model, *sizes = _shape_key(spec)
        code = [package_digest("models"), versions()["torch"]]
        key = "shape-" + sha256_json([model.model_dump(mode="json"), sizes, code])[:16]
        if key not in self.known:
            self._keep(key, asdict(shape_of(spec)))
        return Shape(**self.known[key])

    def price(self, spec: RunSpec) -> Price:
        shape = self.shape(spec)
        examples = evaluated_examples(spec)
        return Price(
            parameters=shape.parameters,
            flops=spec.steps * shape.step_flops + examples * shape.example_flops,
            predicted_seconds=self.seconds(spec),
            memory_bytes=_memory(spec, shape),
            disk_bytes=_disk(spec, shape),
            gpu_seconds={gpu.name: _gpu_seconds(gpu, spec, shape, examples) for gpu in GPUS},
        )

    def together(self, spec: RunSpec) -> int:
        """How many runs of this shape to train in one pass: on a GPU as many as keep it busy, up to eight.

        One on a CPU, where only networks of a few thousand weights gain (benchmarks, `together`).
        """
        if self.device.type == "cpu":
            return 1
        return max(1, min(MOST_TOGETHER, round(LAUNCH_BOUND / self.shape(spec).step_flops)))

    def seconds(self, spec: RunSpec) -> float:
        """What the run will take on this machine; times a few of its steps where that was never done."""
        step, example = self._seconds(spec, self.shape(spec))
        return FIXED_SECONDS + spec.steps * step + evaluated_examples(spec) * example

    def _key(self, spec: RunSpec) -> str:
        shape = {
            "model": spec.model.model_dump(mode="json"),
            "optimizer": spec.optimizer.name,
            "batch": [spec.batch_size, spec.micro_batch_size],
            "precision": spec.precision,
            "size": spec.data.image_size if spec.data.kind == "images" else spec.data.tokenizer,
            "extras": [spec.ema is not None, spec.gradient_clip is not None, spec.decay.form],
            "machine": self.machine,
            "code": package_digest("training", "optim", "models"),
        }
        return sha256_json(shape)[:16]

    def _seconds(self, spec: RunSpec, shape: Shape) -> tuple[float, float]:
        """(seconds a training step, seconds a forward pass of one example) on this machine."""
        key = self._key(spec)
        if key not in self.known:
            limit = 2e10 if self.device.type == "cpu" else 2e14
            if shape.step_flops <= limit:
                step, example = time_steps(spec, self.device, self.threads)
            else:
                rate = self._rate()
                step, example = shape.step_flops / rate, shape.example_flops / rate
            self._keep(key, {"step": step, "example": example})
        timing = self.known[key]
        return timing["step"], timing["example"]

    def _rate(self) -> float:
        """FLOP/s of a large matrix product here, for runs too large to time."""
        key = f"rate-{self.machine}"
        if key not in self.known:
            size = 1024 if self.device.type == "cpu" else 8192
            dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
            torch.set_num_threads(self.threads)
            matrix = torch.randn(size, size, device=self.device, dtype=dtype)
            seconds = _clock(lambda: matrix @ matrix, self.device)
            self._keep(key, 0.5 * 2 * size**3 / seconds)
        return self.known[key]

    def _keep(self, key: str, value: Any) -> None:
        self.known[key] = value
        with contextlib.suppress(OSError):  # a read-only results directory costs time, not correctness
            write_json(self.path, self.known)


def time_steps(spec: RunSpec, device: torch.device, threads: int) -> tuple[float, float]:
    """Time a few training steps and forward passes of this shape on random data."""
    if device.type == "cpu":
        torch.set_num_threads(threads)
    learner = Learner(spec, _classes(spec), device)
    size = spec.data.image_size if spec.data.kind == "images" else 0
    inputs, targets = (t.to(device) for t in _random_batch(spec.model, size, _classes(spec), spec.batch_size))
    if size:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    plain = next(step for step in range(100) if step not in learner.decay.measured_steps)
    backward = repeated(learner, (inputs, targets))

    def step() -> None:
        backward((inputs, targets))
        learner.update(plain, logged=False)

    seconds = _clock(step, device)
    learner.model.eval()
    micro = spec.micro_batch_size or spec.batch_size
    with torch.no_grad(), learner.autocast():
        example = _clock(lambda: learner.model(inputs[:micro]), device) / micro
    return seconds, example


def _clock(function, device: torch.device, budget: float = 0.25) -> float:
    """Median seconds of one call, after warming up."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 7 or (time.perf_counter() - began < budget and len(times) < 200):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
        if len(times) >= 4 and time.perf_counter() - began > 8 * budget:
            break
    return sorted(times[2:])[len(times[2:]) // 2]


def _gpu_seconds(gpu: GPU, spec: RunSpec, shape: Shape, examples: float) -> float:
    peak = {"float32": gpu.float32, "tf32": gpu.tf32}.get(spec.precision, gpu.bfloat16)
    rate = peak * (gpu.convolutions if spec.model.kind in ("vgg", "preact_resnet") else gpu.utilisation)
    step = max(shape.step_flops / rate, shape.kernels * gpu.launch_seconds)
    # evaluations run in large batches, where compute is the limit
    return FIXED_SECONDS + spec.steps * step + examples * shape.example_flops / rate


def _memory(spec: RunSpec, shape: Shape) -> float:
    """Weights, gradients, optimizer state, average and activations, in bytes."""
    width = 2 if spec.precision == "bfloat16_weights" else 4
    states = {"sgd": 1 if getattr(spec.optimizer, "momentum", 0) else 0, "adamw": 2}[spec.optimizer.name]
    half = spec.precision in ("bfloat16", "float16", "bfloat16_weights")
    copies = width * (2 + states) + (4 if spec.ema else 0) + (2 if half and width == 4 else 0)
    return shape.parameters * copies + shape.activation_bytes * (0.5 if half else 1)


def _disk(spec: RunSpec, shape: Shape) -> float:
    """Snapshots and the checkpoint (weights, optimizer state, average), and the tables, in bytes."""
    state = shape.parameters * 4 * (3 + (1 if spec.ema else 0))
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
