import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from decaylab.optim.decay import WeightDecay
from decaylab.probes.lost_updates import intended_updates, lost_updates
from decaylab.spec import Decay


def optimizer_of(parameters, make, **options):
    return make([{"params": list(parameters.values()), "groups": list(parameters)}], **options)


def loses(weight: float, change: float) -> bool:
    """Half a spacing of bfloat16 numbers (8 significant bits) decides, in float64, by the weight's exponent."""
    mantissa, exponent = math.frexp(abs(weight))
    spacing = 2.0 ** (exponent - 8)
    towards_zero = weight * change < 0
    # below a power of two the numbers lie twice as close
    half = spacing / (4 if towards_zero and mantissa == 0.5 else 2)
    even = (abs(weight) / spacing) % 2 == 0
    if towards_zero and mantissa == 0.5:
        even = True
    return abs(change) < half or (abs(change) == half and even)


@given(
    st.floats(1e-3, 100).map(lambda value: torch.tensor(value).to(torch.bfloat16).item()),
    st.sampled_from([-1, 1]),
    st.floats(2**-14, 2**-5),
    st.booleans(),
)
def test_lost_means_below_half_a_spacing(magnitude, sign, relative, down):
    weight = sign * magnitude
    # few enough digits that weight + change is exact in float32
    change = float(np.float32(magnitude * (-1 if down else 1) * relative).astype(np.float16))
    assume(change != 0 and float(np.float32(weight) + np.float32(change)) == weight + change)
    lost = lost_updates([("mlp", torch.tensor([weight]), torch.tensor([change]))])
    assert lost["lost_updates"].item() == float(loses(weight, change))


def test_float32_weights_are_first_stored_in_bfloat16():
    """1 + 0.9 of half a spacing is stored as 1; half as much again does not move it, though the sum would round up."""
    half = 2.0**-8
    lost = lost_updates([("mlp", torch.tensor([1 + 0.9 * half]), torch.tensor([0.5 * half]))])
    assert lost["lost_updates"].item() == 1


def test_shares_per_group_and_in_all():
    one = torch.ones(4)
    changes = [
        ("mlp", one, torch.tensor([1e-4, 1e-4, 0.1, 0.0])),
        ("mlp", one[:1], torch.tensor([-1e-4])),
        ("bias", one[:2], torch.tensor([0.1, 1e-5])),
        ("norm", one, torch.zeros(4)),
    ]
    lost = {name: share.item() for name, share in lost_updates(changes).items()}
    assert math.isnan(lost.pop("lost_updates.norm"))
    assert lost == {"lost_updates": 4 / 6, "lost_updates.mlp": 3 / 4, "lost_updates.bias": 1 / 2}
    assert lost_updates([]) == {}


SGDS = [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}]


@pytest.mark.parametrize("form", ["decoupled", "independent", "l2_gradient", "l2_loss", "cautious", "adamc"])
@pytest.mark.parametrize(
    ("make", "options"),
    [(torch.optim.AdamW, {"betas": (0.9, 0.95)})] + [(torch.optim.SGD, options) for options in SGDS],
)
def test_intended_updates_are_what_float32_weights_did(form, make, options):
    generator = torch.Generator().manual_seed(1)
    parameters = {
        group: torch.randn(200, generator=generator).requires_grad_() for group in ("attention", "norm", "head")
    }
    rate, peak = 1e-3, 2e-3
    optimizer = optimizer_of(parameters, make, lr=rate, weight_decay=0.0, fused=True, **options)
    weight_decay = 5e-4 if form == "independent" else 0.5
    decay = WeightDecay(Decay(weight_decay=weight_decay, form=form, multipliers={"norm": 0.0}), optimizer, peak, 100)
    for step in range(4):
        before = {group: weight.detach().clone() for group, weight in parameters.items()}
        optimizer.zero_grad()
        loss = sum((weight * torch.randn(200, generator=generator)).sum() for weight in parameters.values())
        penalty = decay.loss_penalty(step)
        (loss if penalty is None else loss + penalty).backward()
        decay.before_step(step, rate)
        optimizer.step()
        changes = list(intended_updates(optimizer, decay, step, rate))
        assert [group for group, _, _ in changes] == list(parameters)
        for group, weight, change in changes:
            assert change.dtype == torch.float32
            moved = weight - before[group]
            # decay is taken of the weights after the step, which changes it by the step's own relative size
            close = torch.isclose(change, moved, rtol=2e-2, atol=1e-6)
            # a weight that crosses zero may change its mind about cautious decay
            assert close.float().mean() > 0.99


def test_bfloat16_weights_that_stand_still_have_lost_every_update():
    """What the stored weights cannot show: they did not move, because every intended update was rounded away."""
    generator = torch.Generator().manual_seed(0)
    weight = (1 + torch.rand(500, generator=generator)).to(torch.bfloat16).requires_grad_()
    before = weight.detach().clone()
    optimizer = optimizer_of({"mlp": weight}, torch.optim.AdamW, lr=1e-4, weight_decay=0.0, fused=True)
    decay = WeightDecay(Decay(weight_decay=0.1), optimizer, 1e-4, 10)
    for step in range(5):
        weight.grad = torch.randn(500, generator=generator).to(torch.bfloat16)
        decay.before_step(step, 1e-4)
        optimizer.step()
    assert torch.equal(weight, before)
    lost = lost_updates(intended_updates(optimizer, decay, 4, 1e-4))
    assert lost["lost_updates.mlp"].item() == 1


def test_large_updates_are_not_lost():
    weight = torch.full((100,), 0.01, requires_grad=True)
    optimizer = optimizer_of({"mlp": weight}, torch.optim.AdamW, lr=0.01, weight_decay=0.0, fused=True)
    decay = WeightDecay(Decay(), optimizer, 0.01, 10)
    weight.grad = torch.randn(100, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    assert lost_updates(intended_updates(optimizer, decay, 0, 0.01))["lost_updates"].item() == 0


def test_nothing_to_say_before_the_first_update():
    optimizer = optimizer_of({"mlp": torch.ones(3, requires_grad=True)}, torch.optim.AdamW, lr=0.01, weight_decay=0.0)
    decay = WeightDecay(Decay(), optimizer, 0.01, 10)
    assert lost_updates(intended_updates(optimizer, decay, 0, 0.01)) == {}
