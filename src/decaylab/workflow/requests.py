"""What a training job asks a cluster for: minutes and memory, from its plan.

The rates are slower than any machine in use today: a queue ends a job that takes longer than it asked for. A job
ended so has saved its state and goes on from there when it is submitted again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from decaylab.operations import operations_of, run_flops
from decaylab.spec import RunSpec
from decaylab.workflow.jobs import TrainingJob

GPU_RATE, CPU_RATE = 5e12, 5e9
"""FLOP/s of a GPU, and of one CPU thread"""
STEP_SECONDS = 0.01
"""of a step that is too small for the device"""
LEAST_MINUTES, MOST_MINUTES = 15, 24 * 60
"""to import, load data and save; and what many queues allow"""
PROCESS_BYTES = 4e9
"""torch with its libraries and an evaluation"""
BUSY_FLOPS = 2.7e11
"""of a step, below which a GPU waits for kernel launches: training.kernels.LAUNCH_BOUND, without torch"""
COPIES = 48
"""bytes a weight: weights, gradient, optimizer state and average, and all of them again in a checkpoint"""


def shared_gpus(specs: Sequence[RunSpec], most: int) -> int:
    """How many GPUs train each of these runs together: as many as divide every batch and are kept busy by a step."""

    def shares(spec: RunSpec, gpus: int) -> bool:
        normed = spec.model.kind == "preact_resnet" or getattr(spec.model, "batch_norm", False)
        flops = operations_of(spec).step * spec.batch_size / gpus
        return not (spec.batch_size % gpus or (normed and spec.micro_batch_size) or flops < BUSY_FLOPS)

    return next((gpus for gpus in range(most, 1, -1) if all(shares(spec, gpus) for spec in specs)), 1)


def minutes(job: TrainingJob, gpus: int, threads: int) -> int:
    """Time that a job's runs take, one after another, on a slow machine, which has GPUs or none."""
    rate = GPU_RATE * gpus if gpus else CPU_RATE * threads
    seconds = sum(run_flops(run.spec) / rate + STEP_SECONDS * run.spec.steps for run in job.runs)
    return min(LEAST_MINUTES + math.ceil(seconds / 60), MOST_MINUTES)


def megabytes(job: TrainingJob, gpus: int) -> Callable[..., int]:
    """Memory of the node, as a function of Snakemake's attempt: each one after the first asks for as much again."""
    # one process for each GPU
    most = math.ceil(max(1, gpus) * max(_bytes(run.spec, gpus > 0) for run in job.runs) / 1e6)

    def asked(wildcards: object, attempt: int) -> int:
        return most * attempt

    return asked


def _bytes(spec: RunSpec, gpu: bool) -> float:
    counted = operations_of(spec)
    data = 0.0
    if spec.data.kind == "images":
        examples = (spec.data.train_examples or 50_000) + (spec.data.test_examples or 10_000)
        data = 5 * 3 * examples * spec.data.image_size**2  # bytes, and the same as floats
    # a layer keeps at least one number for each 64 operations of its forward pass
    kept = 0.0 if gpu else (spec.micro_batch_size or spec.batch_size) * counted.forward / 16
    return PROCESS_BYTES + COPIES * counted.parameters + data + min(kept, 16e9)
