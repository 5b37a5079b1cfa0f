"""The weights of a network as one vector for each parameter group.

A step of optimizer, decay, norms and averages then costs a few operations, however many parameters a network has. That
is where a small network's time goes, and what several networks trained together share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from decaylab.spec import GROUPS, Group


@dataclass(frozen=True)
class Place:
    """Where one parameter lies in its group's vector; strides are its own, so memory formats survive."""

    group: Group
    offset: int
    size: torch.Size
    stride: tuple[int, ...]

    def view(self, vectors: Mapping[Group, Tensor]) -> Tensor:
        """The parameter in a vector [n], or the parameters [runs, ...] in the rows of a matrix [runs, n]."""
        vector = vectors[self.group]
        runs = vector.shape[:-1]
        offset = vector.storage_offset() + self.offset
        return vector.as_strided((*runs, *self.size), (*vector.stride()[:-1], *self.stride), offset)


class FlatParameters:
    """Moves the trained parameters of a network into one vector per group, of which they become views.

    Gradients lie in vectors of the same shape, which `collect` fills. The names and values of the network's own
    parameters stay as they were.

    Args:
        model: its trained parameters have one dtype and device.
        groups: parameter name -> group, for every trained parameter.
    """

    def __init__(self, model: nn.Module, groups: Mapping[str, Group]) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        self.parameters = [weight for _, weight in named]
        self.places: dict[str, Place] = {}
        lengths: dict[Group, int] = {}
        # parameters of 16 elements or a multiple first, so that they start where wide instructions like it
        for name, weight in sorted(named, key=lambda item: item[1].numel() % 16 != 0):
            group = groups[name]
            start = lengths.get(group, 0)
            self.places[name] = Place(group, start, weight.shape, weight.stride())
            lengths[group] = start + weight.numel()
        self.names = [name for name, _ in named]
        self.groups: dict[Group, nn.Parameter] = {}
        """group -> its vector [n]: what an optimizer is given"""
        for group in GROUPS:
            if group in lengths:
                self.groups[group] = nn.Parameter(named[0][1].new_zeros(lengths[group]))
                self.groups[group].grad = torch.zeros_like(self.groups[group])
        with torch.no_grad():
            for name, weight in named:
                self.places[name].view(self.vectors).copy_(weight)
        self._attach()

    @property
    def vectors(self) -> dict[Group, Tensor]:
        """group -> the weights [n], without autograd."""
        return {group: vector.detach() for group, vector in self.groups.items()}

    @property
    def gradients(self) -> dict[Group, Tensor]:
        """group -> the gradients [n]."""
        return {group: vector.grad for group, vector in self.groups.items()}

    def move(self, vectors: Mapping[Group, Tensor], gradients: Mapping[Group, Tensor]) -> None:
        """Keep weights and gradients in this memory from now on; their values are copied there."""
        for group, vector in self.groups.items():
            vectors[group].copy_(vector.detach())
            gradients[group].copy_(vector.grad)
            vector.data = vectors[group]
            vector.grad = gradients[group]
        self._attach()

    def collect(self, gradients: Sequence[Tensor], add: bool = False) -> None:
        """Take the gradients of `parameters`, in their order, in place of the last ones or (`add`) on top of them."""
        with torch.no_grad():
            if add:
                torch._foreach_add_(self._gradient_views, gradients)
            else:
                torch._foreach_copy_(self._gradient_views, gradients)

    def point(self, model: nn.Module, vectors: Mapping[Group, Tensor]) -> None:
        """Make the parameters of another network of the same shape views into these vectors."""
        for name, weight in model.named_parameters():
            if name in self.places:
                weight.data = self.places[name].view(vectors)

    def _attach(self) -> None:
        for name, weight in zip(self.names, self.parameters, strict=True):
            weight.data = self.places[name].view(self.vectors)
        gradients = self.gradients
        self._gradient_views = [self.places[name].view(gradients) for name in self.names]
