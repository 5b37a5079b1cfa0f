"""A training step of ResNets: ours against the loops of other people in `image_loops`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.cases import TURNS, Case, Settings, Skip, benchmark
from benchmarks.gpt import NEVER, next_seed, ours, peak
from benchmarks.image_loops import jpeg_files, pil_images, run_airbench, run_dataloader, run_epfl, tensor_images
from benchmarks.loops import Loop

EXAMPLES = 2000
"""procedural images; few enough to make quickly, and an epoch of them is long enough for a loader"""
LEARNING_RATE = 0.05
RESNET8, RESNET18 = (1, 1, 1), (2, 2, 2, 2)
SIZES = {
    "ResNet-8 8x8 w4": (8, 4, 20),
    "ResNet-8 16x16 w8": (16, 8, 20),
    "ResNet-8 16x16 w16": (16, 16, 20),
    "ResNet-8 32x32 w16": (32, 16, 20),
    "ResNet-8 32x32 w64": (32, 64, 4),
}
"""pixels along a side, width, steps between two rows of the log"""


def image_spec(
    size: int, width: int, blocks: tuple[int, ...], batch_size: int, log_every: int = 20, **more: Any
) -> dict[str, Any]:
    """A RunSpec: plain SGD on procedural images that are made beforehand."""
    return {
        "data": {"source": "procedural", "image_size": size, "train_examples": EXAMPLES, "test_examples": 100}
        | {"kind": "images"}
        | more.pop("data", {}),
        "model": {"kind": "preact_resnet", "width": width, "blocks": list(blocks)},
        "optimizer": {"name": "sgd", "learning_rate": LEARNING_RATE} | more.pop("optimizer", {}),
        "decay": {"weight_decay": 0.0005},
        "steps": NEVER,
        "batch_size": batch_size,
        "evaluation": {"every": NEVER, "log_every": log_every, "train_examples": 1, "examples": 1},
        "seed": next_seed(),
    } | more


def has_torchvision() -> bool:
    return importlib.util.find_spec("torchvision") is not None


def dataloaders(spec: dict[str, Any], settings: Settings, target: float | None) -> list[Loop]:
    """The loops around a DataLoader that this machine can run."""
    kinds: dict[str, tuple[Callable[..., Any], float | None]] = {"tensors": (tensor_images, None)}
    if has_torchvision():
        kinds = {"JPEG files": (jpeg_files, target), "PIL": (pil_images, target)} | kinds
    # a loader's processes need cores besides those that train; with none to spare they only take turns with it
    spare = (os.cpu_count() or 1) - settings.threads
    workers = [0] if spare < 2 else [0, min(8, spare) if settings.gpu else 2]
    folder = settings.folder / f"jpeg-{spec['data']['image_size']}"
    arguments = {"spec": spec, "device": settings.device, "folder": folder}
    return [
        Loop(
            f"DataLoader, {name}" + (f", {count} workers" if count else ""),
            run_dataloader,
            arguments | {"dataset": dataset, "workers": count},
            against="ours",
            target=goal,
        )
        for name, (dataset, goal) in kinds.items()
        for count in workers
    ]


def image_case(name: str, settings: Settings, spec: dict[str, Any], contenders: list[Loop]) -> Case:
    """`spec` is that of ours, which is the first contender."""
    from decaylab.operations import operations_of
    from decaylab.spec import parse_spec

    parsed = parse_spec(spec, name)
    operations = operations_of(parsed)
    weights = operations.parameters
    for loop in contenders:
        loop.weights = weights
    size = parsed.data.image_size
    return Case(
        name,
        [ours("ours", spec, settings), *contenders],
        about=f"{weights:,} weights, {size} x {size} pixels, batch {parsed.batch_size}, {parsed.precision}"
        + (f", EMA {parsed.ema}" if parsed.ema else ""),
        items=parsed.batch_size,
        unit="images",
        flops=operations.step * parsed.batch_size,
        peak=peak(settings, parsed.precision),
        log_every=parsed.evaluation.log_every,
        turns=TURNS,
    )


@benchmark("resnet")
def small_resnets(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of ResNet-8, 8x8 to 32x32 images, widths 4 to 64, in float32, against DataLoader loops."""
    for name, (size, width, log_every) in SIZES.items():
        spec = image_spec(size, width, RESNET8, batch_size=32, log_every=log_every)
        if settings.rehearse:
            spec = image_spec(8, 2, RESNET8, batch_size=2)
        yield image_case(name, settings, spec, dataloaders(spec, settings, None if settings.gpu else 1.5))


@benchmark("resnet18-cpu")
def resnet18_on_a_cpu(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of a thin ResNet-18 with an average of its weights, against the EPFL step, in float32."""
    name = "ResNet-18 32x32 w8"
    if settings.gpu:
        yield Skip(name, "for a CPU; resnet18-gpu is for a GPU")
        return
    if "epfl" not in settings.peers:
        yield Skip(name, "needs --peer epfl=PATH")
        return
    width, batch = (2, 2) if settings.rehearse else (8, 32)
    spec = image_spec(32, width, RESNET18, batch, ema=0.999)
    yield image_case(name, settings, spec, [epfl(spec, settings, None)])


def epfl(spec: dict[str, Any], settings: Settings, target: float | None) -> Loop:
    arguments = {
        "checkout": settings.peers["epfl"],
        "spec": spec,
        "device": settings.device,
    }
    return Loop("EPFL step", run_epfl, arguments, against="ours", target=target)


@benchmark("resnet18-gpu")
def resnet18_on_a_gpu(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of ResNet-18 on 32x32 images at batch 128 in half precision on a GPU, against all others."""
    name = "ResNet-18 32x32 w64"
    if not (settings.gpu or settings.rehearse):
        yield Skip(name, "needs a GPU")
        return
    width, batch = (2, 2) if settings.rehearse else (64, 128)
    precision = "float16" if settings.gpu else "float32"
    if "epfl" in settings.peers:
        spec = image_spec(32, width, RESNET18, batch, precision=precision, ema=0.999)
        yield image_case(f"{name}, EMA", settings, spec, [epfl(spec, settings, 1.5)])
    spec = image_spec(32, width, RESNET18, batch, precision="bfloat16")
    yield image_case(name, settings, spec, dataloaders(spec, settings, 1.5))
    yield airbench(f"{name}, augmented", settings, width, batch)


def airbench(name: str, settings: Settings, width: int, batch: int) -> Case | Skip:
    if "airbench" not in settings.peers:
        return Skip(name, "needs --peer airbench=PATH")
    if not settings.gpu:
        return Skip(name, "airbench's loader puts its images on a GPU")
    if not has_torchvision():
        return Skip(name, "airbench's loader needs torchvision")
    spec = image_spec(
        32, width, RESNET18, batch,
        precision="bfloat16",
        data={"augmentation": "flip_translate"},
        optimizer={"momentum": 0.9, "nesterov": True},
    )  # fmt: skip
    arguments = {
        "checkout": settings.peers["airbench"],
        "spec": spec,
        "folder": settings.folder / "airbench",
    }
    loader = Loop("airbench's loader", run_airbench, arguments, against="ours")
    return image_case(name, settings, spec, [loader])
