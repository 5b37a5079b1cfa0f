"""The whole Hessian and Gauss-Newton matrix of a small network: what the estimators of the other probes are held to."""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.errors import InputError
from decaylab.probes._curvature import GAUSS_NEWTON_PASSES, HESSIAN_PASSES, examined, problem
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "exact_hessian_trace": ("trace of the Hessian, exact", "nats"),
    "exact_top_eigenvalue": ("largest eigenvalue of the Hessian, exact", "nats"),
    "exact_lowest_eigenvalue": ("lowest eigenvalue of the Hessian, exact", "nats"),
    "exact_hessian_norm": ("Frobenius norm of the Hessian, exact", "nats"),
    "exact_gauss_newton_trace": ("trace of the Gauss-Newton matrix, exact", "nats"),
}
PARAMETERS = {"examples": {"default": 500, "ge": 1}}

MOST_WEIGHTS = 5000
"""100 MB a matrix, and a minute for its eigenvalues"""
_COLUMNS = 64
"""of a matrix computed at once"""


class Probe(BaseProbe):
    """Both matrices from products with all unit vectors, at the end, over the first `examples` training examples."""

    moment = "end"
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        task = problem(view, self.examples)
        count = sum(weight.numel() for weight in task.weights)
        if count > MOST_WEIGHTS:
            raise InputError(f"exact_hessian: expected a network of at most {MOST_WEIGHTS} weights, got {count}")
        hessian, gauss_newton = (dense(task.operator(kind)) for kind in ("Hessian", "GGN"))
        finite = bool(hessian.isfinite().all())
        values = torch.linalg.eigvalsh(hessian) if finite else torch.full_like(hessian[0], torch.nan)
        return {
            "exact_hessian_trace": hessian.trace(),
            "exact_top_eigenvalue": values[-1],
            "exact_lowest_eigenvalue": values[0],
            "exact_hessian_norm": hessian.norm(),
            "exact_gauss_newton_trace": gauss_newton.trace(),
        }

    def example_passes(self, spec: RunSpec) -> float:
        from decaylab.operations import operations_of, outputs_of

        weights = min(MOST_WEIGHTS, operations_of(spec, outputs_of(spec)).parameters)
        return (HESSIAN_PASSES + GAUSS_NEWTON_PASSES) / 4 * weights * examined(spec, self.examples)


def dense(operator: object) -> Tensor:
    """The matrix [weights, weights] of a symmetric curvlinops operator, made exactly symmetric."""
    identity = torch.eye(operator.shape[1], device=operator.device, dtype=operator.dtype)
    matrix = torch.cat([operator @ part for part in identity.split(_COLUMNS, dim=1)], dim=1)
    return (matrix + matrix.T) / 2
