"""Norms of weights and gradients, and the effective learning rate. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from decaylab.optim.norms import blocks, wide


def weight_norms(groups: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """L2 norms `weight_norm` (all weights) and `weight_norm.<group>`, 0-d float32."""
    return _norms("weight_norm", groups)


def gradient_norms(groups: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """L2 norms `gradient_norm` and `gradient_norm.<group>`; parameters without a gradient count as zero."""
    gradients = {group: [p.grad for p in params if p.grad is not None] for group, params in groups.items()}
    return _norms("gradient_norm", {group: members for group, members in gradients.items() if members})


def effective_learning_rate(optimizer: Literal["sgd", "adamw"], learning_rate: float, weight_norm: Tensor) -> Tensor:
    """How far a step moves the direction of the weights w, were the loss invariant to their length.

    The size of an Adam update does not depend on |w|, so it is learning_rate / |w| (NeurIPS 2024 version of arXiv
    2310.04415); a gradient is proportional to 1 / |w|, so for SGD it is learning_rate / |w|^2 (arXiv 1706.05350).
    """
    return learning_rate / (weight_norm if optimizer == "adamw" else weight_norm.square())


@torch.no_grad()
def _norms(name: str, groups: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    parts = {group: [block for tensor in members for block in blocks(tensor)] for group, members in groups.items()}
    every = [block for members in parts.values() for block in members]
    # one launch for all
    norms = torch.stack(torch._foreach_norm(every, 2, dtype=wide(every[0])))
    result = {name: torch.linalg.vector_norm(norms)}
    of_groups = norms.split([len(members) for members in parts.values()])
    return result | {
        f"{name}.{group}": torch.linalg.vector_norm(part) for group, part in zip(groups, of_groups, strict=True)
    }
