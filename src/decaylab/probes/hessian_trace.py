"""Trace of the Hessian of the training loss, by Hutchinson's estimator (PyHessian's, in the EPFL papers' `traceh.py`).

The raw trace depends on the scale of the weights, which batch norm makes meaningless: half the weights, the same
function, four times the trace. The scaled one, sum over tensors of |w|^2 tr(H_ww), does not.
"""

from __future__ import annotations

from torch import Tensor

from decaylab.probes._curvature import HESSIAN_PASSES, examined, problem, quadratic_forms, seed_draws, trace_columns
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "hessian_trace": ("trace of the Hessian", "nats"),
    "hessian_trace_se": ("standard error of the Hessian's trace", "nats"),
    "hessian_trace_scaled": ("trace of the Hessian x squared weight norms", "nats"),
    "hessian_trace_scaled_se": ("standard error of the scaled Hessian's trace", "nats"),
}
PARAMETERS = {
    "matvecs": {"default": 16, "ge": 2},
    "examples": {"default": 500, "ge": 1},
    "moment": {"default": "evaluation", "pattern": "^(evaluation|end)$"},  # `end`: once, after the last update
}


class Probe(BaseProbe):
    """`matvecs` products with random signs for each of the two, over the first `examples` training examples.

    Standard errors are those of the random signs; the examples are fixed.
    """

    matvecs: int
    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        seed_draws(view)
        task = problem(view, self.examples)
        samples = quadratic_forms(task.operator("Hessian"), task.norms(), self.matvecs)
        return trace_columns("hessian_trace", samples)

    def example_passes(self, spec: RunSpec) -> float:
        return 2 * HESSIAN_PASSES * self.matvecs * examined(spec, self.examples)
