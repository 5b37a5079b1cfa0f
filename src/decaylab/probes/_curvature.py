"""The curvature of the training loss as linear operators (curvlinops), and estimates with their standard errors.

Everything is computed in float32 (float64 if the network is stored so), whatever the precision of the training, on a
copy of the network in evaluation mode: batch norm uses its stored statistics, and the data are fixed examples.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from decaylab.errors import InputError
from decaylab.probes._protocol import BaseProbe, Batch, View
from decaylab.spec import RunSpec

HESSIAN_PASSES = 16.0
GAUSS_NEWTON_PASSES = 8.0
"""cost of a product with a vector, in forward passes: measured on a CPU for an MLP and a ResNet, within a factor 1.5"""

_IMAGES = 250
"""examined at once"""

Matrix = Literal["Hessian", "GGN", "EF"]
"""second derivatives; Gauss-Newton matrix; second moment of the gradients of single examples"""


@functools.cache
def curvlinops() -> ModuleType:
    """The library, imported only by runs that use it. Raises InputError where it is missing."""
    try:
        with warnings.catch_warnings():
            # of a library that it imports, and of torch at its first forward derivative
            warnings.simplefilter("ignore", FutureWarning)
            import curvlinops as library

            with forward_ad.dual_level():
                forward_ad.make_dual(torch.zeros(1), torch.zeros(1))
    except ImportError:
        raise InputError("probes of curvature need curvlinops: pip install decaylab[curvature]") from None
    return library


class _Logits(nn.Module):
    """A network whose output is a matrix, and whose attention has second derivatives (fused attention has none)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """-> [examples, classes], or [examples x length, tokens]."""
        with sdpa_kernel(SDPBackend.MATH):
            return self.network(inputs).flatten(0, -2)


@dataclass(frozen=True)
class Problem:
    """A copy of a network, the weights that it trains, and the examples on which its mean loss is taken."""

    model: nn.Module
    weights: list[nn.Parameter]
    data: list[Batch]

    def operator(self, matrix: Matrix) -> Any:
        """A symmetric curvlinops operator [weights, weights]; products wait for nothing but the device."""
        kind = getattr(curvlinops(), f"{matrix}LinearOperator")
        examples = sum(len(inputs) for inputs, _ in self.data)
        loss = nn.CrossEntropyLoss()
        return kind(self.model, loss, self.weights, self.data, check_deterministic=False, num_data=examples)

    def norms(self) -> Tensor:
        """The norm of its tensor, for each weight: [weights]. Multiplying by it makes a measure free of scale."""
        return torch.cat([weight.detach().norm().expand(weight.numel()) for weight in self.weights])


def problem(view: View, examples: int) -> Problem:
    """The mean loss of the first `examples` fixed training examples, as a function of the trained weights."""
    network = copy.deepcopy(view.model)
    if next(network.parameters()).dtype != torch.float64:
        network.float()
    weights = [weight.requires_grad_() for weight in network.parameters() if weight.requires_grad]
    dtype = weights[0].dtype
    size = _IMAGES if view.spec.data.kind == "images" else view.spec.micro_batch_size or view.spec.batch_size
    data = [
        (part.to(dtype) if part.is_floating_point() else part, targets.flatten())
        for inputs, labels in view.batches("train", examples)
        for part, targets in zip(inputs.split(size), labels.split(size), strict=True)
    ]
    return Problem(_Logits(network), weights, data)


def seed_draws(view: View) -> None:
    """Random vectors of the library are those of this probe at this step; the loop restores the global state."""
    torch.manual_seed(view.generator.initial_seed())


def signs(operator: Any, count: int) -> Iterator[Tensor]:
    """`count` vectors of random signs: the draws of `curvlinops.hutchinson_trace`, one at a time to save memory."""
    curvlinops()
    from curvlinops.sampling import random_vector

    for _ in range(count):
        yield random_vector(operator.shape[1], "rademacher", operator.device, operator.dtype)


def quadratic_forms(operator: Any, scale: Tensor, count: int) -> Tensor:
    """Hutchinson's samples of two traces [2, count]: of the matrix, and of the matrix times `scale` from both sides.

    The mean over samples is an unbiased estimate, and their spread gives its standard error (`mean_and_error`).
    Takes 2 x `count` products.
    """
    samples = []
    for vector in signs(operator, count):
        vectors = torch.stack([vector, scale * vector], dim=1)
        samples.append((vectors * (operator @ vectors)).sum(0))
    return torch.stack(samples, dim=1)


def mean_and_error(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the last dimension, and its standard error; at least two samples."""
    return samples.mean(-1), samples.std(-1) / samples.shape[-1] ** 0.5


def examined(spec: RunSpec, examples: int) -> int:
    """How many examples a probe that asks for `examples` gets, as far as the spec tells."""
    available = spec.data.train_examples if spec.data.kind == "images" else None
    return min(examples, available or examples)


class TraceProbe(BaseProbe):
    """The trace of a matrix of curvature: `matvecs` products with random signs for the raw and for the scaled one.

    Over the first `examples` training examples. Standard errors are those of the random signs; the examples are fixed.
    A subclass gives its column, its matrix, and what a product costs.
    """

    column: ClassVar[str]
    matrix: ClassVar[Matrix]
    passes: ClassVar[float]
    matvecs: int
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        seed_draws(view)
        task = problem(view, self.examples)
        samples = quadratic_forms(task.operator(self.matrix), task.norms(), self.matvecs)
        (trace, scaled), (error, scaled_error) = mean_and_error(samples)
        name = self.column
        return {name: trace, f"{name}_se": error, f"{name}_scaled": scaled, f"{name}_scaled_se": scaled_error}

    def example_passes(self, spec: RunSpec) -> float:
        return 2 * self.passes * self.matvecs * examined(spec, self.examples)
