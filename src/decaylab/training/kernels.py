"""Fewer and larger kernels on a GPU: compiled once for each shape, recorded once for each run.

A small network's step is hundreds of kernels that take less time to run than to launch. A CUDA graph launches all of
them at once. Compilation joins what stands between the products of matrices, and pays where a step is large.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decaylab.training.learner import Batch, Learner, Stack

LAUNCH_BOUND = 2.7e11
"""FLOP of a step below which an H200 waits for its host (by arithmetic, for four layers): fusing then gains little"""
_WARM_UP = 3
"""passes before one is recorded: libraries choose their algorithms, the compiler compiles"""

Loss = Callable[[Tensor, Tensor], Tensor]
_compiled: dict[Any, Callable[..., Tensor]] = {}


def compiled(learner: Learner | Stack, key: Any, cache: Path) -> Loss:
    """The loss of a learner or a stack, compiled; what has the same key shares the work.

    Args:
        key: equal where networks, batches and precision are.
        cache: folder that keeps compiled code for later processes.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache.resolve()))
    if key not in _compiled:
        # weights and buffers are arguments, so that the next run needs no compilation
        _compiled[key] = torch.compile(learner.functional_loss(), dynamic=False)
    return functools.partial(_compiled[key], learner.parameters, learner.buffers)


class Recorded:
    """A backward pass as one CUDA graph, launched anew for each batch.

    The pass reads weights and writes gradients where they lie, so optimizer and decay go on as without it. Where the
    pass cannot be recorded, it runs as it is, and a line on stderr says so.

    Args:
        backward: batch -> loss; puts gradients in place.
        batch: of the shape of all that follow.
        buffers: what a pass changes besides gradients; put back after the passes that only warm up.
    """

    def __init__(self, backward: Callable[[Batch], Tensor], batch: Batch, buffers: list[Tensor]) -> None:
        self._backward = backward
        self._graph: torch.cuda.CUDAGraph | None = torch.cuda.CUDAGraph()
        self._batch = tuple(tensor.clone() for tensor in batch)
        saved, generator = [buffer.clone() for buffer in buffers], torch.cuda.get_rng_state()
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    backward(self._batch)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph):
                self._loss = backward(self._batch)
        except RuntimeError as error:
            self._graph = None
            first = str(error).strip().splitlines()[0]
            print(f"decaylab: no CUDA graph, kernels are launched one by one ({first})", file=sys.stderr)
        for buffer, value in zip(buffers, saved, strict=True):
            buffer.copy_(value)
        torch.cuda.set_rng_state(generator)

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of a batch; valid until the next call."""
        if self._graph is None:
            return self._backward(batch)
        for kept, new in zip(self._batch, batch, strict=True):
            kept.copy_(new, non_blocking=True)
        self._graph.replay()
        return self._loss
