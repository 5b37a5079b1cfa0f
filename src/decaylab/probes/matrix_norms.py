"""Norm of every weight matrix over a run: what another run can follow (see `spec.Follow`)."""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.optim.norms import vector_norm
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {"matrix_norm": ("norm of a weight matrix (L2)", "")}


class Probe(BaseProbe):
    """L2 norms: `matrix_norm` of all trained weights, and of each parameter group and each matrix by its name."""

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor]:
        groups = {group: vector_norm(torch.cat([w.flatten() for w in of])) for group, of in view.grouped.items()}
        matrices = {name: vector_norm(w.flatten()) for name, w in view.weights.items() if w.ndim > 1}
        return {"matrix_norm": vector_norm(torch.stack(list(groups.values())))} | {
            f"matrix_norm.{name}": norm for name, norm in (groups | matrices).items()
        }

    def example_passes(self, spec: RunSpec) -> float:
        return 0.1  # a few operations for each weight
