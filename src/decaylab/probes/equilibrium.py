"""How large each weight matrix is and how far an update turns it, beside the equilibrium that theory predicts.

Kosson, Messmer and Jaggi, "Rotational Equilibrium" (arXiv 2305.17212): if updates are a random walk at a right angle to
the weights, AdamW's decay c and learning rate lr balance where the root mean square of the weights is sqrt(lr / (2 c))
and an update turns them by sqrt(2 lr c (1 - beta1) / (1 + beta1)). Deviations of the squared norm shrink by e in
1 / (2 lr c) steps. The gradient is at a right angle where a norm follows, which makes the weights scale-invariant.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from decaylab.models import parameter_groups
from decaylab.optim.norms import vector_norm
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "rms_norm": ("root mean square of the weights", ""),
    "rms_formula": ("root mean square of the weights at equilibrium, predicted", ""),
    "angular_update": ("angle by which an update turns the weights", "radians"),
    "angular_formula": ("angle of an update at equilibrium, predicted", "radians"),
    "norm_distance": ("squared norm's distance from its prediction, relative", ""),
    "angular_spread": ("spread of the angle between matrices (standard deviation of its logarithm)", ""),
    "gradient_radial": ("share of the gradient along the weights (absolute cosine)", "share"),
}


class Probe(BaseProbe):
    """RMS norm and angular update of every matrix (`rms_norm.<parameter>`), and their means over each group.

    Predictions and distances are written for groups that AdamW decays directly, with one rate for all weights; other
    optimizers have other equilibria.
    """

    moment = "update"

    def before(self, view: View) -> None:
        self._before = {name: weight.detach().float().clone() for name, weight in _matrices(view).items()}
        self._radial = {name: _cosine(_gradient(view, name), weight).abs() for name, weight in self._before.items()}

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor | float]:
        after = {name: weight.float() for name, weight in _matrices(view).items()}
        rms = {name: vector_norm(weight.flatten()) / weight.numel() ** 0.5 for name, weight in after.items()}
        turned = {name: angle(self._before[name], weight) for name, weight in after.items()}
        members: dict[str, list[str]] = defaultdict(list)
        for name, group in parameter_groups(view.model).items():
            if name in after:
                members[group].append(name)
        values: dict[str, Tensor | float] = {}
        for column, found in {"rms_norm": rms, "angular_update": turned, "gradient_radial": self._radial}.items():
            means = {group: _mean(found[name] for name in names) for group, names in members.items()}
            values |= {column: _mean(found.values())}
            values |= {f"{column}.{name}": value for name, value in (means | found).items()}
        spreads = {"": list(turned.values())} | {f".{g}": [turned[n] for n in names] for g, names in members.items()}
        values |= {f"angular_spread{g}": torch.stack(v).log().std() for g, v in spreads.items() if len(v) > 1}
        for group, names in members.items():
            if prediction := _prediction(view, group):
                values[f"rms_formula.{group}"], values[f"angular_formula.{group}"] = prediction
                values[f"norm_distance.{group}"] = _mean(((rms[n] / prediction[0]) ** 2 - 1).abs() for n in names)
        del self._before, self._radial
        return values

    def example_passes(self, spec: RunSpec) -> float:
        return 1.0  # about twenty operations for each weight


def angle(before: Tensor, after: Tensor) -> Tensor:
    """Angle in radians between two tensors of one shape, 0-d. Exact for small angles, whose cosine rounds to 1."""
    units = [weight.flatten() / vector_norm(weight.flatten()) for weight in (before, after)]
    return 2 * torch.asin((vector_norm(units[0] - units[1]) / 2).clamp(max=1))


def _matrices(view: View) -> dict[str, Tensor]:
    return {name: weight for name, weight in view.weights.items() if weight.ndim > 1}


def _gradient(view: View, name: str) -> Tensor:
    """The gradient of a weight, from that of its group: both are the same part of the vector of all weights."""
    weight = view.weights[name]
    whole = view.grouped[parameter_groups(view.model)[name]][0]
    offset = weight.storage_offset() - whole.storage_offset()
    return whole.grad.as_strided(weight.shape, weight.stride(), whole.grad.storage_offset() + offset).float()


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    one, other = one.flatten(), other.flatten()
    return torch.dot(one, other) / (vector_norm(one) * vector_norm(other))


def _mean(values) -> Tensor:
    return torch.stack(list(values)).mean()


def _prediction(view: View, group: str) -> tuple[Tensor | float, Tensor | float] | None:
    """RMS norm and angular update of a group at equilibrium, or None where the formulas do not apply."""
    form, optimizer = view.decay.form, view.spec.optimizer
    if optimizer.name != "adamw" or form.acts_on != "weights" or form.selective:
        return None
    rate = view.decay.rate(group, view.step - 1, view.learning_rate)
    if not isinstance(rate, Tensor) and rate == 0:
        return None
    beta = optimizer.beta1
    return view.learning_rate / (2 * rate) ** 0.5, (2 * rate * (1 - beta) / (1 + beta)) ** 0.5
