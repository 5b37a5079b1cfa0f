"""Frobenius norm of the Jacobian of the logits with respect to the weights.

In the NeurIPS version of arXiv 2310.04415 (Conjecture 1), large-step SGD with decay minimises its loss plus a multiple
of the squared norm. At a network with batch norm the norm depends on the scale of the weights, which decay itself
changes, so a version without that dependence stands beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from decaylab.probes._mode import evaluating
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "jacobian_norm": ("norm of the Jacobian of the logits", ""),
    "jacobian_norm_se": ("standard error of the Jacobian norm", ""),
    "jacobian_norm_scaled": ("norm of the Jacobian of the logits, each matrix times its norm", ""),
    "jacobian_norm_scaled_se": ("standard error of the scaled Jacobian norm", ""),
}
PARAMETERS = {"examples": {"default": 256, "ge": 2}, "draws": {"default": 1, "ge": 1}, "average": {"default": False}}

_BLOCK = 1 << 27
"""elements of gradients held in memory at once"""


class Probe(BaseProbe):
    """Of the first `examples` training examples: of the weights, or of their moving average if `average` is set.

    `jacobian_norm` is the root of the mean over examples of ||J||^2, the squared Frobenius norm for one example (over
    all its positions, for text). `jacobian_norm_scaled` is that of sum_l ||w_l||^2 ||J_l||^2 over parameters l. It
    stays the same when a matrix before a norm is rescaled. Standard errors contain the choice of the examples and the
    draws. Computed in the precision of the weights, without autocast.
    """

    examples: int
    draws: int
    average: bool

    def measure(self, view: View) -> dict[str, Tensor]:
        model = view.average() if self.average else view.model
        inputs, _ = next(view.batches("train", view.spec.evaluation.train_examples))
        with evaluating(model):
            return jacobian_norms(model, inputs[: self.examples], self.draws, view.generator)

    def example_passes(self, spec: RunSpec) -> float:
        return 3.0 * self.draws * min(self.examples, spec.evaluation.train_examples)


def jacobian_norms(model: nn.Module, inputs: Tensor, draws: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The columns of the probe, 0-d, from `draws` random vectors of signs for each example (Hutchinson)."""
    with torch.no_grad():
        shape = model(inputs[:1]).shape[1:]
    signs = torch.randint(0, 2, (len(inputs), draws, *shape), generator=generator) * 2.0 - 1
    squares = squared_norms(model, inputs, signs.to(inputs.device)).mean(1)
    weights = torch.stack([weight.detach().double().square().sum() for weight in model.parameters()])
    found: dict[str, Tensor] = {}
    for name, values in (("jacobian_norm", squares.sum(1)), ("jacobian_norm_scaled", squares @ weights)):
        norm = values.mean().sqrt()
        # of the root, by the delta method
        found |= {name: norm, f"{name}_se": values.std() / len(values) ** 0.5 / (2 * norm)}
    return found


def squared_norms(model: nn.Module, inputs: Tensor, vectors: Tensor) -> Tensor:
    """||J_l^T v||^2 for each example, vector v and parameter l, float64 [examples, draws, parameters].

    Each example has its own vectors. curvlinops.hutchinson_squared_fro draws one vector for all examples together, and
    the products of different examples, which only average out, then make up most of its noise.

    Args:
        model: in evaluation mode, so that examples do not depend on each other.
        vectors: [examples, draws, ...], the rest like the logits of one example. The mean over vectors of random signs,
            or over all rows of a Hadamard matrix, is ||J_l||^2.
    """
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def product(weights: dict[str, Tensor], example: Tensor, vector: Tensor) -> Tensor:
        logits = functional_call(model, weights, (example.unsqueeze(0),))[0]
        return (logits * vector.to(logits.dtype)).sum()

    def squares(example: Tensor, vector: Tensor) -> Tensor:
        slopes = grad(product)(weights, example, vector)
        return torch.stack([slope.double().square().sum() for slope in slopes.values()])

    elements = sum(weight.numel() for weight in weights.values())
    repeated = inputs.repeat_interleave(vectors.shape[1], 0)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be batched over examples
        found = vmap(squares, chunk_size=max(1, _BLOCK // elements))(repeated, vectors.flatten(0, 1))
    return found.unflatten(0, vectors.shape[:2])
