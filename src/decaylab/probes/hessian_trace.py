"""Trace of the Hessian of the training loss, by Hutchinson's estimator (PyHessian's, in the EPFL papers' `traceh.py`).

The raw trace depends on the scale of the weights, which batch norm makes meaningless: half the weights, the same
function, four times the trace. The scaled one, sum over tensors of |w|^2 tr(H_ww), does not.
"""

from __future__ import annotations

from decaylab.probes._curvature import HESSIAN_PASSES, TraceProbe

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


class Probe(TraceProbe):
    """Trace of the Hessian."""

    column = "hessian_trace"
    matrix = "Hessian"
    passes = HESSIAN_PASSES
