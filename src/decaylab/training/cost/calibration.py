"""Times a few training steps on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from decaylab.spec import RunSpec
from decaylab.training.cost.counting import random_batch
from decaylab.training.kernels import repeated
from decaylab.training.learner import Learner


def time_steps(spec: RunSpec, classes: int, device: torch.device, threads: int) -> tuple[float, float]:
    """Time the steps of a spec on random data.

    Args:
        classes: of the images, or tokens of the tokenizer.

    Returns:
        Seconds of a training step, and of the forward pass of one example.
    """
    if device.type == "cpu":
        torch.set_num_threads(threads)
    learner = Learner(spec, classes, device)
    size = spec.data.image_size if spec.data.kind == "images" else 0
    inputs, targets = (t.to(device) for t in random_batch(spec.model, size, classes, spec.batch_size))
    if size:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    plain = next(step for step in range(100) if step not in learner.decay.measured_steps)
    backward = repeated(learner, (inputs, targets))

    def step() -> None:
        backward((inputs, targets))
        learner.update(plain, logged=False)

    seconds = median_seconds(step, device)
    learner.model.eval()
    micro = spec.micro_batch_size or spec.batch_size
    with torch.no_grad(), learner.computing():
        example = median_seconds(lambda: learner.model(inputs[:micro]), device) / micro
    return seconds, example


def median_seconds(function: Callable[[], Any], device: torch.device, budget: float = 0.25) -> float:
    """Median seconds of a call after two to warm up, from at least seven calls or `budget` seconds."""
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
