"""Projection of the weights onto a sphere, for networks whose output does not depend on their norm.

There the norm only sets how far a step turns the weights. Held at a radius, the learning rate alone does (arXiv
2310.04415v1, Figure 2, which projects after each epoch).
"""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.optim.norms import vector_norm
from decaylab.spec import NormControl


def project(weights: Tensor, control: NormControl | None, updates: int) -> None:
    """Scale all weights [n] to the radius where a projection is due after this many updates.

    The initial weights (0 updates) are always scaled. Weights that are all zero become NaN.
    """
    if control is None or (updates and not (control.every and updates % control.every == 0)):
        return
    with torch.no_grad():
        weights.mul_(control.radius / vector_norm(weights))
