"""Counts the kernels of a training step and the activations it keeps, on the meta device: nothing is computed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from decaylab.models import build_model
from decaylab.spec import Model, RunSpec
from decaylab.training.learner import cross_entropy

UPDATE_KERNELS = 30
"""optimizer, decay and norms take a few operations on whole vectors, whatever the network"""


@dataclass(frozen=True)
class Footprint:
    """What one step of a run asks of a device besides arithmetic."""

    kernels: int
    """launched by forward pass, backward pass and update"""
    activation_bytes: float
    """kept for the backward pass of one micro-batch"""


def footprint_of(spec: RunSpec, classes: int) -> Footprint:
    """Footprint of a step. `classes`: of the images, or tokens of the tokenizer."""
    return _footprint(*footprint_key(spec, classes))


def footprint_key(spec: RunSpec, classes: int) -> tuple[Model, int, int, int, int]:
    """All that a footprint depends on besides code: network, image size, classes, batch and micro-batch."""
    image_size = spec.data.image_size if spec.data.kind == "images" else 0
    return spec.model, image_size, classes, spec.batch_size, spec.micro_batch_size or spec.batch_size


def random_batch(model: Model, image_size: int, classes: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets as a network takes them."""
    if model.kind == "gpt":
        tokens = torch.randint(classes, (batch_size, model.context_length))
        return tokens, tokens
    return torch.randn(batch_size, 3, image_size, image_size), torch.randint(classes, (batch_size,))


class _Launches(TorchDispatchMode):
    """Counts operations that would launch a kernel; views do not."""

    VIEWS = frozenset({"view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze"})

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += name not in self.VIEWS and name not in ("detach", "split", "squeeze", "alias")
        return func(*args, **(kwargs or {}))


@functools.lru_cache(maxsize=512)
def _footprint(model_spec: Model, image_size: int, classes: int, batch_size: int, micro: int) -> Footprint:
    with torch.device("meta"):
        model = build_model(model_spec, classes=classes, image_size=image_size or None, seed=0)
    # batch norm needs two examples; activations are linear in them
    inputs, targets = (tensor.to("meta") for tensor in random_batch(model_spec, image_size, classes, 2))
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            saved[id(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    with _Launches() as launches:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = cross_entropy(model(inputs), targets)
        loss.backward()
    return Footprint(
        kernels=launches.count * (batch_size // micro) + UPDATE_KERNELS,
        activation_bytes=sum(saved.values()) / 2 * micro,
    )
