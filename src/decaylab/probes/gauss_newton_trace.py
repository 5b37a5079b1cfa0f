"""Trace of the Gauss-Newton matrix of the training loss: the part of the Hessian that the logits' Jacobian makes.

It is the mean over examples of tr(J^T (diag p - p p^T) J), never negative, and less noisy than the Hessian's trace.
"""

from __future__ import annotations

from decaylab.probes._curvature import GAUSS_NEWTON_PASSES, TraceProbe

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


class Probe(TraceProbe):
    """Trace of the Gauss-Newton matrix; scaling as in hessian_trace.py."""

    column = "gauss_newton_trace"
    matrix = "GGN"
    passes = GAUSS_NEWTON_PASSES
