"""Rank of the attention matrices: how many directions W_QK and W_VO of a head really use.

Decay of both factors of a product acts like a nuclear norm of it, and so lowers its rank (Kobayashi et al. 2024,
arXiv 2410.23819).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from decaylab.probes._protocol import BaseProbe, View

NEEDS = "text"
COLUMNS = {
    "effective_rank": ("effective rank of a head's matrix", ""),
    "stable_rank": ("stable rank of a head's matrix", ""),
}


class Probe(BaseProbe):
    """Means over heads and layers: `effective_rank.qk`, `effective_rank.vo`, and the same for the stable rank.

    The effective rank is the exponential of the entropy of the singular values divided by their sum (Roy and
    Vetterli 2007), the stable rank the sum of their squares over the largest square. Both lie between 1 and the size
    of a head. It takes about as much as one step of the optimizer on the attention weights.
    """

    def measure(self, view: View) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {"qk": [], "vo": []}
        for query, key, value, output in heads(view.model):
            found["qk"].append(singular_values(query, key))
            found["vo"].append(singular_values(output.transpose(-2, -1), value))
        columns: dict[str, Tensor] = {}
        for name, parts in found.items():
            values = torch.cat(parts)
            columns[f"effective_rank.{name}"] = effective_rank(values).mean()
            columns[f"stable_rank.{name}"] = stable_rank(values).mean()
        return columns


@torch.no_grad()
def heads(model: nn.Module) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each layer, in float32: queries, keys and values [heads, size, width], and outputs [heads, width, size]."""
    for module in model.modules():
        if getattr(module, "role", None) == "attention":
            width = module.qkv.in_features
            query, key, value = module.qkv.weight.float().view(3, module.heads, -1, width)
            output = module.output.weight.float().view(width, module.heads, -1).transpose(0, 1)
            yield query, key, value, output


def singular_values(left: Tensor, right: Tensor) -> Tensor:
    """Of left^T right, without forming it: two batches [..., size, width] -> [..., size], in descending order."""
    triangles = [torch.linalg.qr(factor.transpose(-2, -1), mode="r").R for factor in (left, right)]
    return torch.linalg.svdvals(triangles[0] @ triangles[1].transpose(-2, -1))


def effective_rank(values: Tensor) -> Tensor:
    """Singular values [..., n] -> exp(entropy of values / sum) [...]."""
    return torch.special.entr(values / values.sum(-1, keepdim=True)).sum(-1).exp()


def stable_rank(values: Tensor) -> Tensor:
    """Singular values [..., n] -> sum of squares over the largest square [...]."""
    return (values**2).sum(-1) / (values**2).amax(-1)
