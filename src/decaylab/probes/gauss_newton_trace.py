"""Trace of the Gauss-Newton matrix of the training loss: the part of the Hessian that the logits' Jacobian makes.

It is the mean over examples of tr(J^T (diag p - p p^T) J), never negative, and less noisy than the Hessian's trace.
"""

from __future__ import annotations

from torch import Tensor

from decaylab.probes._curvature import (
    GAUSS_NEWTON_PASSES,
    examined,
    problem,
    quadratic_forms,
    seed_draws,
    trace_columns,
)
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "gauss_newton_trace": ("trace of the Gauss-Newton matrix", "nats"),
    "gauss_newton_trace_se": ("standard error of the Gauss-Newton trace", "nats"),
    "gauss_newton_trace_scaled": ("trace of the Gauss-Newton matrix x squared weight norms", "nats"),
    "gauss_newton_trace_scaled_se": ("standard error of the scaled Gauss-Newton trace", "nats"),
}
PARAMETERS = {
    "matvecs": {"default": 16, "ge": 2},
    "examples": {"default": 500, "ge": 1},
    "moment": {"default": "evaluation", "pattern": "^(evaluation|end)$"},  # `end`: once, after the last update
}


class Probe(BaseProbe):
    """`matvecs` products with random signs for each of the two, over the first `examples` training examples.

    Errors and scaling as in hessian_trace.py.
    """

    matvecs: int
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        seed_draws(view)
        task = problem(view, self.examples)
        samples = quadratic_forms(task.operator("GGN"), task.norms(), self.matvecs)
        return trace_columns("gauss_newton_trace", samples)

    def example_passes(self, spec: RunSpec) -> float:
        return 2 * GAUSS_NEWTON_PASSES * self.matvecs * examined(spec, self.examples)
