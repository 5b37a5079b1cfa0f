"""Largest eigenvalue of the Hessian of the training loss ("sharpness"), by Lanczos' method.

Raw, and of the Hessian multiplied by the norms of the weights from both sides, which the scale of layers before a batch
norm does not change.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from decaylab.probes._curvature import HESSIAN_PASSES, curvlinops, examined, problem, seed_draws
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "top_eigenvalue": ("largest eigenvalue of the Hessian", "nats"),
    "top_eigenvalue_se": ("distance to an eigenvalue, at most", "nats"),
    "top_eigenvalue_scaled": ("largest eigenvalue of the Hessian x weight norms", "nats"),
    "top_eigenvalue_scaled_se": ("distance to an eigenvalue of the scaled Hessian, at most", "nats"),
}
PARAMETERS = {
    "matvecs": {"default": 20, "ge": 3},
    "examples": {"default": 500, "ge": 1},
    "moment": {"default": "evaluation", "pattern": "^(evaluation|end)$"},  # `end`: once, after the last update
}


class Probe(BaseProbe):
    """`matvecs` products for each of the two, over the first `examples` training examples.

    Columns that end in `_se` hold the bound of Lanczos' method, |H v - value v|: an eigenvalue lies that near. The
    estimate comes from below.
    """

    matvecs: int
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        seed_draws(view)
        task = problem(view, self.examples)
        hessian = task.operator("Hessian")
        value, bound = largest_eigenvalue(hessian, self.matvecs)
        scaled, scaled_bound = largest_eigenvalue(Scaled(hessian, task.norms()), self.matvecs)
        return {
            "top_eigenvalue": value,
            "top_eigenvalue_se": bound,
            "top_eigenvalue_scaled": scaled,
            "top_eigenvalue_scaled_se": scaled_bound,
        }

    def example_passes(self, spec: RunSpec) -> float:
        return 2 * HESSIAN_PASSES * self.matvecs * examined(spec, self.examples)


class Scaled:
    """scale A scale: what Lanczos' method asks of an operator."""

    def __init__(self, operator: Any, scale: Tensor) -> None:
        self.operator, self.scale = operator, scale
        self.device, self.dtype, self.shape = operator.device, operator.dtype, operator.shape

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.scale * (self.operator @ (self.scale * vector))


def largest_eigenvalue(operator: Any, matvecs: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue of a symmetric operator, and how far off it is at most from some eigenvalue; NaN if A is.

    Takes `matvecs` products, at least 2, or as many as the operator has rows.
    """
    curvlinops()
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    try:
        values, vectors = fast_lanczos(operator, min(matvecs, operator.shape[0]))
        tridiagonal = vectors @ values.diag() @ vectors.T
        # without the last step, so that the size of that step bounds the error
        values, vectors = torch.linalg.eigh(tridiagonal[:-1, :-1])
    except torch.linalg.LinAlgError:  # not finite
        nothing = torch.full((), torch.nan, dtype=operator.dtype, device=operator.device)
        return nothing, nothing
    return values[-1], (tridiagonal[-1, -2] * vectors[-1, -1]).abs()
