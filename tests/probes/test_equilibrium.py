import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from decaylab.models import parameter_groups
from decaylab.optim.decay import WeightDecay
from decaylab.optim.flat import FlatParameters
from decaylab.optim.optimizers import build_optimizer, grouped_parameters
from decaylab.probes.equilibrium import Probe, angle
from tests.training.cases import CASES, spec

RATE, DECAY = 0.01, 1.0
CHANGES = {"optimizer": {"learning_rate": RATE}, "decay": {"weight_decay": DECAY, "multipliers": {"head": 0}}}


class TwoLayers(nn.Module):
    """Two matrices in two groups."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(30, 40, bias=False)
        self.head = nn.Linear(40, 30, bias=False)


class Training:
    """AdamW on gradients that somebody gives it, and the probe around its updates."""

    def __init__(self, **changes):
        self.spec = spec(CASES["gpt"], **CHANGES | changes)
        self.model = TwoLayers()
        self.flat = FlatParameters(self.model, parameter_groups(self.model))
        self.optimizer = build_optimizer(self.spec, self.flat.groups)
        self.decay = WeightDecay(self.spec.decay, self.optimizer, RATE, 1000)
        self.probe, self.step = Probe(), 0

    def update(self, gradients, probed=False):
        self.flat.collect(gradients)
        view = SimpleNamespace(
            spec=self.spec, model=self.model, optimizer=self.optimizer, decay=self.decay, learning_rate=RATE,
            weights=dict(self.model.named_parameters()), grouped=grouped_parameters(self.optimizer),
        )  # fmt: skip
        if probed:
            self.probe.before(view)
        self.decay.before_step(self.step, RATE)
        self.optimizer.step()
        self.step += 1
        view.step = self.step
        return {name: float(value) for name, value in self.probe.measure(view).items()} if probed else {}


def test_a_random_walk_settles_where_the_formulas_say():
    generator = torch.Generator().manual_seed(0)
    training = Training()
    rows = []
    for step in range(300):  # six times the predicted time
        gradients = [torch.randn(weight.shape, generator=generator) for weight in training.flat.parameters]
        rows.append(training.update(gradients, probed=step % 10 == 0 and step >= 200))
    late = {name: sum(row[name] for row in rows[200::10]) / 10 for name in rows[200]}
    assert late["rms_formula.mlp"] == pytest.approx(math.sqrt(RATE / 2))
    assert late["angular_formula.mlp"] == pytest.approx(math.sqrt(2 * RATE * 0.1 / 1.9))
    assert late["rms_norm.mlp"] == pytest.approx(late["rms_formula.mlp"], rel=0.1)
    assert late["angular_update.mlp"] == pytest.approx(late["angular_formula.mlp"], rel=0.1)
    assert late["norm_distance.mlp"] < 0.2
    assert late["rms_norm.head"] > 2 * late["rms_norm.mlp"], "without decay nothing holds the head"
    assert not {"rms_formula.head", "norm_distance.head"} & late.keys()


def test_the_gradient_along_the_weights_is_measured_before_the_update():
    training = Training()
    hidden, head = (weight.detach().clone() for weight in training.flat.parameters)
    across = torch.zeros_like(head)
    across[0, 0], across[0, 1] = head[0, 1], -head[0, 0]
    row = training.update([-2 * hidden, across], probed=True)
    assert row["gradient_radial.hidden.weight"] == pytest.approx(1, abs=1e-5)
    assert row["gradient_radial.head.weight"] == pytest.approx(0, abs=1e-6)
    assert row["gradient_radial"] == pytest.approx(0.5, abs=1e-5)


def test_spread_is_that_of_the_logarithm_between_matrices():
    training = Training()
    row = training.update([torch.ones_like(weight) for weight in training.flat.parameters], probed=True)
    turned = [row["angular_update.hidden.weight"], row["angular_update.head.weight"]]
    assert row["angular_spread"] == pytest.approx(abs(math.log(turned[0] / turned[1])) / math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("decay", [{"form": "l2_gradient"}, {"form": "cautious"}, {"weight_decay": 0.0}])
def test_other_rules_have_no_prediction(decay):
    row = Training(decay=decay).update([torch.ones(40, 30), torch.ones(30, 40)], probed=True)
    assert not [name for name in row if "formula" in name or "distance" in name]


@pytest.mark.parametrize("turn", [1e-6, 1e-3, 1.0, math.pi])
def test_angles_are_exact_where_their_cosine_rounds_to_one(turn):
    flat = torch.tensor([3.0, 0.0])
    assert angle(flat, 5 * torch.tensor([math.cos(turn), math.sin(turn)])).item() == pytest.approx(turn, rel=1e-3)
