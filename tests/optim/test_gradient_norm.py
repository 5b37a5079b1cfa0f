"""What the test of all forms cannot see: the direction of the rule, and gradients that vanish."""

import pytest
import torch

from decaylab.optim.decay import WeightDecay
from decaylab.spec import Decay
from tests.optim.cases import optimizer_of


def shrinkage(size: float, steps: int = 1, **parameters) -> float:
    """Fraction that decay subtracts from a weight of 1, with gradients of one size."""
    weight = torch.ones(4).requires_grad_()
    optimizer = optimizer_of({"mlp": weight}, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    decay = WeightDecay(Decay(weight_decay=0.5, form="gradient_norm", parameters=parameters), optimizer, 0.1, steps)
    for step in range(steps):
        weight.data.fill_(1.0)
        weight.grad = torch.full((4,), size)
        decay.before_step(step, 0.1)
    return 1 - weight.detach()[0].item()


@pytest.mark.parametrize(("size", "expected"), [(1.0, 0.05), (0.25, 0.2), (4.0, 0.0125)])
def test_smaller_gradients_decay_more(size, expected):
    assert shrinkage(size) == pytest.approx(expected, rel=1e-5)
    assert shrinkage(size, steps=5) == pytest.approx(expected, rel=1e-5)


def test_the_reference_is_where_it_is_plain_decay():
    assert shrinkage(0.3, reference=0.3) == pytest.approx(0.05, rel=1e-5)


def test_vanishing_gradients_take_the_weight_to_zero_and_not_beyond():
    assert shrinkage(0.0) == 1.0
