"""Runs a forward and backward pass with less overhead, and with the same numbers.

The step of a small network is hundreds of kernels that take less time to run than to launch. They are the same ones
in every step, so a pass is recorded once and then replayed: on a GPU as a CUDA graph, which launches all kernels at
once; on a CPU as a list of torch operations, without modules and autograd. On a GPU, torch.compile also fuses what lies
between the matmuls; that pays off where steps are large.
"""

from __future__ import annotations

import functools
import operator
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from decaylab.training.learner import Batch, Learner, Stack

LAUNCH_BOUND = 2.7e11
"""FLOPs of a step below which an H200 waits for kernel launches (estimated, four layers); fusing then gains little"""
_WARM_UP = 3
"""passes before one is recorded, in which libraries choose their algorithms and the compiler compiles"""

Loss = Callable[[Tensor, Tensor], Tensor]
_compiled: dict[Any, Callable[..., Tensor]] = {}


def compiled(learner: Learner | Stack, key: Any, cache: Path) -> Loss:
    """The loss of a learner or a stack, compiled once per key.

    Args:
        key: equal for equal networks, batch shapes and precisions.
        cache: folder that keeps compiled code for later processes.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache.resolve()))
    if key not in _compiled:
        # weights and buffers are arguments, so that the next run can use it
        _compiled[key] = torch.compile(learner.functional_loss(), dynamic=False)
    return functools.partial(_compiled[key], learner.parameters, learner.buffers)


def repeated(learner: Learner | Stack, batch: Batch, loss: Loss | None = None) -> Callable[[Batch], Tensor]:
    """`learner.backward` for batches of this shape, recorded: batch -> loss, with the gradients put in place.

    Args:
        loss: a compiled loss in place of the learner's own; on a CPU it is not recorded.
    """
    backward = functools.partial(learner.backward, loss=loss)
    if batch[0].device.type == "cuda":
        return CUDAGraph(backward, batch, list(learner.buffers.values()))
    return backward if loss else Traced(backward, learner.tensors)


class CUDAGraph:
    """A forward and backward pass as one CUDA graph, launched for each batch.

    The graph reads weights and writes gradients in place, so optimizer and decay work as without it. If the pass
    cannot be captured, it runs as usual, and a line on stderr says so.

    Args:
        backward: batch -> loss; puts gradients in place.
        batch: of the shape of all later ones.
        buffers: what a pass changes besides gradients; restored after warm-up.
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
            print(f"decaylab: no CUDA graph, so kernels are launched one by one ({first})", file=sys.stderr)
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


class Traced:
    """A forward and backward pass as a list of torch operations, replayed for each batch.

    The first two batches train as usual while their operations are recorded, at about 20 ms each. If both lists are
    equal, the list is replayed for all later batches: the same operations in the same order, hence the same bits,
    without modules, autograd and its bookkeeping. This saves a fifth of the step of a small network and a thirtieth of
    a large one. Dropout draws new numbers in each replay. If a pass cannot be replayed, it runs as usual, and a line on
    stderr says so.

    Args:
        backward: batch -> loss; puts gradients in place.
        tensors: all that the pass reads and writes besides its batch; they stay at their addresses.
    """

    # torch.fx.experimental.proxy_tensor.make_fx records the same list: all bits were equal in all 13 cases of
    # tests/training/test_kernels.py, and so was the time of a step. But it takes 0.2 to 2 s a pass where this takes
    # 0.02 to 0.09 s (ResNet to GPT, one core), 3 s more at first for sympy, and many a run takes 2 s as a whole.

    def __init__(self, backward: Callable[[Batch], Tensor], tensors: Iterable[Tensor]) -> None:
        self._backward = backward
        self._tensors = list(tensors)
        self._begin([])

    def _begin(self, shapes: list[torch.Size]) -> None:
        self._shapes = shapes
        self._written = ""
        """the list of the previous batch"""
        self._repeat: Callable[..., Tensor] | None = None
        self._given_up = False

    def __call__(self, batch: Batch) -> Tensor:
        """The loss of a batch, without a graph to differentiate."""
        shapes = [tensor.shape for tensor in batch]
        if shapes != self._shapes:
            self._begin(shapes)
        if self._repeat is not None:
            with torch.inference_mode():
                return self._repeat(*self._tensors, *batch)
        return self._backward(batch) if self._given_up else self._record(batch)

    def _record(self, batch: Batch) -> Tensor:
        recorder = _Recorder([*self._tensors, *batch])
        with recorder:
            loss = self._backward(batch)
        graph = recorder.graph(loss)
        written = str(graph)
        differs = self._written and written != self._written
        if recorder.obstacle or differs:
            reason = recorder.obstacle or "two batches took different operations"
            print(f"decaylab: operations are not replayed, autograd runs each step ({reason})", file=sys.stderr)
            self._given_up = True
        elif self._written:
            self._repeat = fx.GraphModule(torch.nn.Module(), graph).forward
        self._written = written
        return loss


class _Recorder(TorchDispatchMode):
    """Records every operation that reaches torch's kernels while it is active.

    A tensor that is neither given nor the result of an operation would become a constant of the first batch, and so
    would a number read from a tensor. It then gives up, and `obstacle` says why.
    """

    ALIASES = frozenset({torch.ops.aten.detach.default, torch.ops.aten.alias.default})
    """no-ops without autograd"""
    LIMIT = 20_000
    """most operations; with hundreds of micro-batches, Python takes minutes to compile the list, which saves nothing"""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._nodes = WeakTensorKeyDictionary()
        for number, tensor in enumerate(given):
            self._nodes[tensor] = self._graph.placeholder(f"given_{number}")
        self.obstacle = ""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        try:
            # before the call, since an in-place result takes the name of its argument
            written = fx.node.map_aggregate((args, kwargs), self._node)
        except KeyError:
            self.obstacle = self.obstacle or f"{func} reads a tensor from elsewhere"
        result = func(*args, **kwargs)
        if not self.obstacle:
            self._note(func, *written, result)
        return result

    def graph(self, result: Tensor) -> fx.Graph:
        """The graph from tensors like the given ones to this result; incomplete if there was an obstacle."""
        if not self.obstacle:
            self._graph.output(self._nodes[result])
        return self._graph

    def _node(self, value: Any) -> Any:
        return self._nodes[value] if isinstance(value, Tensor) else value

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if func in self.ALIASES:
            self._nodes[result] = args[0]
            return
        if not (result is None or isinstance(result, Tensor | tuple | list)):
            tensors: list[fx.Node] = []
            fx.node.map_arg((args, kwargs), tensors.append)
            if tensors:
                self.obstacle = f"{func} reads a number out of a tensor"
            return
        node = self._graph.call_function(func, args, kwargs)
        if len(self._graph.nodes) > self.LIMIT:
            self.obstacle = f"more than {self.LIMIT} operations"
        if isinstance(result, Tensor):
            self._nodes[result] = node
            return
        for number, part in enumerate(result or ()):
            if isinstance(part, Tensor):
                self._nodes[part] = self._graph.call_function(operator.getitem, (node, number))
