"""How far an L2 penalty is from weight decay in one update (Loshchilov and Hutter, arXiv 1711.05101, section 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {"l2_mismatch": ("difference between the updates by L2 and by decay, relative to what decay subtracts", "")}


class Probe(BaseProbe):
    """Takes the coming update twice in float64, from the same weights, gradient and optimizer state.

    Once decay subtracts lr c w, once c w is added to the gradient. The column is the norm of the difference of both
    updates over the norm of lr c w, all weights together. What momentum remembers of earlier penalties is not counted:
    the state is that of the run. NaN where nothing decays. The run must have a form that leaves the gradient alone.
    """

    moment = "update"

    def before(self, view: View) -> None:
        self.weights = {group: [w.detach().double() for w in weights] for group, weights in view.grouped.items()}
        self.optimizer = copy.deepcopy(view.optimizer.state_dict())

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor]:
        coefficient = view.decay.coefficient(view.step - 1, view.learning_rate)
        coefficients = {group: coefficient * view.spec.decay.multipliers.get(group, 1.0) for group in view.grouped}
        gradients = {group: [weight.grad.double() for weight in weights] for group, weights in view.grouped.items()}
        make = type(view.optimizer)
        plain = step_of(make, self.optimizer, self.weights, gradients, view.learning_rate)
        penalised = {
            group: [g + coefficients[group] * w for g, w in zip(gradients[group], self.weights[group], strict=True)]
            for group in gradients
        }
        by_l2 = step_of(make, self.optimizer, self.weights, penalised, view.learning_rate)
        decayed = [view.learning_rate * coefficients[group] * w for group in self.weights for w in self.weights[group]]
        difference = [two - one - shrunk for one, two, shrunk in zip(plain, by_l2, decayed, strict=True)]
        return {"l2_mismatch": _norm(difference) / _norm(decayed)}

    def example_passes(self, spec: RunSpec) -> float:
        return 2.0  # about fifty operations for each weight


def step_of(
    make: type[torch.optim.Optimizer],
    state: Mapping[str, object],
    weights: Mapping[str, Sequence[Tensor]],
    gradients: Mapping[str, Sequence[Tensor]],
    learning_rate: float,
) -> list[Tensor]:
    """What one step of an optimizer subtracts from each weight, computed in float64.

    The weights are set to zero first, so that no digit of the step is lost to them.

    Args:
        make: class of the optimizer.
        state: its state_dict before the step; its own decay is off.
    """
    parameters = [torch.zeros_like(w).requires_grad_() for group in weights for w in weights[group]]
    optimizer = make(parameters, lr=learning_rate)
    optimizer.load_state_dict(copy.deepcopy(state))
    optimizer.param_groups[0]["lr"] = learning_rate
    for parameter, gradient in zip(parameters, [g for group in weights for g in gradients[group]], strict=True):
        parameter.grad = gradient
    optimizer.step()
    return [-parameter.detach() for parameter in parameters]


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()
