"""Counts the operations of one training step on the meta device, so that nothing is computed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from decaylab.models import build_model
from decaylab.sources import classes_of as image_classes
from decaylab.spec import RunSpec
from decaylab.training.learner import cross_entropy

VOCABULARY = {"bytes": 256, "gpt2": 50257}


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
    return _shape(*shape_key(spec))


def shape_key(spec: RunSpec) -> tuple[Any, ...]:
    size = spec.data.image_size if spec.data.kind == "images" else 0
    return spec.model, size, classes_of(spec), spec.batch_size, spec.micro_batch_size or spec.batch_size


def classes_of(spec: RunSpec) -> int:
    if spec.data.kind == "text":
        return VOCABULARY[spec.data.tokenizer]
    return image_classes(spec.data)


@functools.lru_cache(maxsize=512)
def _shape(model_spec: Any, image_size: int, classes: int, batch_size: int, micro: int) -> Shape:
    with torch.device("meta"):
        model = build_model(model_spec, classes=classes, image_size=image_size or None, seed=0)
    # batch norm needs two examples; the count is linear in them
    inputs, targets = (tensor.to("meta") for tensor in random_batch(model_spec, image_size, classes, 2))
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


def random_batch(model_spec, image_size, classes, batch_size):
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
