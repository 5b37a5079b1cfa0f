"""The weights of a network as one vector, in which each parameter group is a slice.

Optimizer, decay, norms and averages then take a few operations per step, however many parameters the network has. In
small networks, most of the time goes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decaylab.spec import GROUPS, Group


@dataclass(frozen=True)
class Place:
    """Position of one parameter in the vector. It keeps its strides, and so its memory format."""

    offset: int
    size: torch.Size
    stride: tuple[int, ...]

    def view(self, vector: Tensor) -> Tensor:
        """The parameter in a vector [n], or the parameters [runs, ...] in the rows of a matrix [runs, n]."""
        runs, strides = vector.shape[:-1], vector.stride()[:-1]
        return vector.as_strided((*runs, *self.size), (*strides, *self.stride), vector.storage_offset() + self.offset)


class FlatParameters:
    """Moves the trained parameters of a network into one vector, group after group; they become views of it.

    Gradients are in a vector of the same shape, which `collect` fills. Names and values of the parameters do not
    change.

    Args:
        model: its trained parameters have one dtype and device.
        groups: parameter name -> group, for every trained parameter.
    """

    def __init__(self, model: nn.Module, groups: Mapping[str, Group]) -> None:
        named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.names, self.parameters = list(named), list(named.values())
        self.places: dict[str, Place] = {}
        self._slices: dict[Group, slice] = {}
        offset = 0
        for group in GROUPS:
            start = offset
            members = [name for name in named if groups[name] == group]
            # those whose size is a multiple of 16 come first, so that they are aligned for wide instructions
            for name in sorted(members, key=lambda name: named[name].numel() % 16 != 0):
                self.places[name] = Place(offset, named[name].shape, named[name].stride())
                offset += named[name].numel()
            if members:
                self._slices[group] = slice(start, offset)
        self.weights = self.parameters[0].new_zeros(offset, requires_grad=False)
        """all weights [n]"""
        with torch.no_grad():
            for name, weight in named.items():
                self.places[name].view(self.weights).copy_(weight)
        self.gradient = torch.zeros_like(self.weights)
        """all gradients [n]"""
        self.groups = {group: nn.Parameter(self.weights[part]) for group, part in self._slices.items()}
        """group -> its weights [n]: the parameters of the optimizer"""
        self._attach()

    def move(self, weights: Tensor, gradient: Tensor) -> None:
        """Copy weights and gradients into this memory, and keep them there from now on."""
        self.weights, self.gradient = weights.copy_(self.weights), gradient.copy_(self.gradient)
        self._attach()

    def collect(self, gradients: Sequence[Tensor], add: bool = False) -> None:
        """Store gradients of `parameters`, in their order; `add` adds them to those of before."""
        with torch.no_grad():
            if add:
                torch._foreach_add_(self.gradients, gradients)
            else:
                torch._foreach_copy_(self.gradients, gradients)

    def point(self, model: nn.Module, weights: Tensor) -> None:
        """Make the parameters of another network of the same shape views of this vector."""
        for name, weight in model.named_parameters():
            if name in self.places:
                weight.data = self.places[name].view(weights)

    def _attach(self) -> None:
        for group, part in self._slices.items():
            self.groups[group].data, self.groups[group].grad = self.weights[part], self.gradient[part]
        for name, weight in zip(self.names, self.parameters, strict=True):
            weight.data = self.places[name].view(self.weights)
        self.gradients = [self.places[name].view(self.gradient) for name in self.names]
        """of `parameters`, in their order: views of `gradient`"""
