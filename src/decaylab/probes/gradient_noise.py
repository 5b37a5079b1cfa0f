"""The noise of stochastic gradients: the trace of its covariance, and how well that is aligned with the curvature.

C is the covariance of the gradients of single examples; the noise of a batch of B has C / B. Its alignment with a
matrix A is the cosine tr(C A) / (|C| |A|) in Frobenius norms (D'Angelo et al. 2024, Figure 13: Gauss-Newton matrix).
"""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.probes._curvature import (
    GAUSS_NEWTON_PASSES,
    HESSIAN_PASSES,
    Problem,
    examined,
    mean_and_error,
    problem,
    seed_draws,
    signs,
)
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "images"  # the gradients of a text's tokens are not those of its sequences
COLUMNS = {
    "gradient_noise": ("trace of the gradient noise's covariance", "nats^2"),
    "gradient_noise_se": ("standard error of the gradient noise's trace", "nats^2"),
    "noise_hessian_alignment": ("cosine of gradient noise and Hessian", ""),
    "noise_hessian_alignment_se": ("standard error of the cosine with the Hessian", ""),
    "noise_gauss_newton_alignment": ("cosine of gradient noise and Gauss-Newton matrix", ""),
    "noise_gauss_newton_alignment_se": ("standard error of the cosine with the Gauss-Newton matrix", ""),
}
PARAMETERS = {
    "matvecs": {"default": 16, "ge": 3},
    "examples": {"default": 500, "ge": 2},
    "moment": {"default": "evaluation", "pattern": "^(evaluation|end)$"},  # `end`: once, after the last update
}


class Probe(BaseProbe):
    """`matvecs` products of each of three matrices with the same random signs; errors of cosines by the jackknife."""

    matvecs: int
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        seed_draws(view)
        return gradient_noise(problem(view, self.examples), self.matvecs)

    def example_passes(self, spec: RunSpec) -> float:
        products = self.matvecs * (HESSIAN_PASSES + 2 * GAUSS_NEWTON_PASSES)
        return (products + 3) * examined(spec, self.examples)


def gradient_noise(task: Problem, matvecs: int) -> dict[str, Tensor]:
    """The columns of the probe, as 0-d tensors on the device."""
    moment, hessian, gauss_newton = (task.operator(kind) for kind in ("EF", "Hessian", "GGN"))
    slopes, _ = moment.gradient_and_loss()
    mean = torch.cat([slope.flatten() for slope in slopes])
    traces: list[Tensor] = []
    products: dict[str, list[Tensor]] = {"noise_hessian_alignment": [], "noise_gauss_newton_alignment": []}
    for vector in signs(moment, matvecs):
        noise = moment @ vector - mean * (mean @ vector)
        traces.append(vector @ noise)
        for name, operator in zip(products, (hessian, gauss_newton), strict=True):
            curved = operator @ vector
            products[name].append(torch.stack([noise @ curved, noise @ noise, curved @ curved]))
    trace, error = mean_and_error(torch.stack(traces))
    columns = {"gradient_noise": trace, "gradient_noise_se": error}
    for name, rows in products.items():
        columns[name], columns[f"{name}_se"] = jackknifed_cosine(torch.stack(rows))
    return columns


def jackknifed_cosine(products: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of two matrices A and B, and its standard error, from [draws, 3]: Av.Bv, Av.Av and Bv.Bv."""
    count = len(products)
    total = products.sum(0)
    without = _cosine(total - products)
    spread = (without - without.mean()).square().sum() * (count - 1) / count
    return _cosine(total), spread.sqrt()


def _cosine(sums: Tensor) -> Tensor:
    inner, first, second = sums.unbind(-1)
    return inner / (first * second).sqrt()
