"""Weight decay against torch's own, bit for bit, and what is measured of it; test_forms.py has what holds for all."""

import math

import pytest
import torch

from decaylab import plugins
from decaylab.optim.decay import WeightDecay
from decaylab.spec import GROUPS, Decay, DecaySchedule
from tests.optim.cases import LARGE, SGDS, SIZES, optimizer_of, set_gradients, weights


def rates(step):
    return 0.03 * (1 + step % 7)


def trajectory(make, decay, steps=60, dtype=torch.float32, sizes=SIZES, **options):
    """Weights after `steps` updates with our decay."""
    parameters = weights(dtype, sizes=sizes)
    optimizer = optimizer_of(parameters, make, lr=1.0, weight_decay=0.0, **options)
    mine = WeightDecay(decay, optimizer, 1.0, steps)
    for step in range(steps):
        set_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = rates(step)
        mine.before_step(step, rates(step))
        optimizer.step()
    return parameters, mine


def torch_trajectory(make, weight_decay, steps=60, dtype=torch.float32, sizes=SIZES, multipliers=None, **options):
    """Weights after `steps` updates with torch's decay."""
    parameters = weights(dtype, sizes=sizes)
    factors = multipliers or {}
    decays = {group: weight_decay * factors.get(group, 1.0) for group in parameters}
    rules = [{"params": [weight], "weight_decay": decays[group]} for group, weight in parameters.items()]
    optimizer = make(rules, lr=1.0, **options)
    for step in range(steps):
        set_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = rates(step)
        optimizer.step()
    return parameters


MULTIPLIERS = {"embedding": 0.0, "norm": 0.25, "head": 3.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("multipliers", [{}, MULTIPLIERS], ids=["uniform", "multipliers"])
def test_decoupled_is_torch_adamw_to_the_last_bit(dtype, multipliers):
    decay = Decay(weight_decay=0.37, multipliers=multipliers)
    mine, _ = trajectory(torch.optim.AdamW, decay, dtype=dtype, sizes=LARGE, foreach=True)
    theirs = torch_trajectory(torch.optim.AdamW, 0.37, dtype=dtype, sizes=LARGE, multipliers=multipliers, foreach=True)
    for group in GROUPS:
        assert torch.equal(mine[group], theirs[group]), group


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("multipliers", [{}, MULTIPLIERS], ids=["uniform", "multipliers"])
@pytest.mark.parametrize("options", SGDS.values(), ids=SGDS)
def test_l2_gradient_is_torch_sgd_to_the_last_bit(options, multipliers, dtype):
    decay = Decay(weight_decay=0.037, form="l2_gradient", multipliers=multipliers)
    mine, _ = trajectory(torch.optim.SGD, decay, dtype=dtype, sizes=LARGE, foreach=True, **options)
    theirs = torch_trajectory(
        torch.optim.SGD, 0.037, dtype=dtype, sizes=LARGE, multipliers=multipliers, foreach=True, **options
    )
    for group in GROUPS:
        assert torch.equal(mine[group], theirs[group]), group


def test_l2_gradient_is_torch_adam_to_the_last_bit():
    decay = Decay(weight_decay=0.37, form="l2_gradient")
    mine, _ = trajectory(torch.optim.AdamW, decay, sizes=LARGE, foreach=True)
    theirs = torch_trajectory(torch.optim.Adam, 0.37, sizes=LARGE, foreach=True)
    assert all(torch.equal(mine[group], theirs[group]) for group in GROUPS)


@pytest.mark.parametrize(
    ("form", "make", "options"),
    [("decoupled", torch.optim.AdamW, {})] + [("l2_gradient", torch.optim.SGD, options) for options in SGDS.values()],
)
def test_fused_kernels_agree_up_to_their_rounding(form, make, options):
    """A fused kernel holds decay and update in registers and, where the processor has one instruction for multiply
    and add, may leave out the rounding between them. So a few units in the last place a step are allowed here."""
    decay = Decay(weight_decay=0.037, form=form)
    mine, _ = trajectory(make, decay, steps=20, sizes=LARGE, fused=True, **options)
    theirs = torch_trajectory(make, 0.037, steps=20, sizes=LARGE, fused=True, **options)
    for group in GROUPS:
        torch.testing.assert_close(mine[group], theirs[group], rtol=2e-5, atol=2e-5)


def with_zero_gradients(parameters):
    for weight in parameters.values():
        weight.grad = torch.zeros_like(weight)


def test_loss_penalty_is_half_the_sum_of_squares():
    parameters = weights(torch.float64)
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    decay = Decay(weight_decay=0.3, form="l2_loss", multipliers={"bias": 0.0, "head": 2.0})
    penalty = WeightDecay(decay, optimizer, 0.1, 10).loss_penalty(0)
    squares = {group: weight.detach().square().sum().item() for group, weight in parameters.items()}
    factors = {group: {"bias": 0, "head": 2}.get(group, 1) for group in squares}
    expected = 0.15 * sum(factors[group] * squares[group] for group in squares)
    assert penalty.item() == pytest.approx(expected)
    for form in plugins.available("optim/forms"):
        if form != "l2_loss":
            other = WeightDecay(Decay(weight_decay=0.3, form=form), optimizer, 0.1, 10)
            assert other.loss_penalty(0) is None


def test_loss_penalty_keeps_its_coefficient_for_bfloat16_weights():
    parameters = weights(torch.bfloat16, sizes={"mlp": 1000})
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.123456, form="l2_loss"), optimizer, 0.1, 10)
    mine.loss_penalty(1).backward()
    expected = (0.123456 * parameters["mlp"].detach().float()).to(torch.bfloat16)
    assert torch.equal(parameters["mlp"].grad, expected)


def test_applied_decay_shows_what_bfloat16_loses():
    """A shrink of 1e-4 is below half the spacing of bfloat16 numbers (2^-9 to 2^-8 of the weight): none survives."""
    decay = Decay(weight_decay=0.1)
    for rate, dtype, expected in [
        (1e-3, torch.float32, pytest.approx(1e-4, rel=1e-3)),
        (1e-3, torch.bfloat16, 0.0),
        (0.2, torch.bfloat16, pytest.approx(0.02, rel=0.02)),
    ]:
        parameters = weights(dtype, sizes={"mlp": 5000})
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=rate, weight_decay=0.0)
        mine = WeightDecay(decay, optimizer, rate, 10)
        set_gradients(parameters, 0)
        mine.before_step(0, rate)
        assert mine.applied()["mlp"]["measured"] == expected
        assert mine.applied()["mlp"]["configured"] == pytest.approx(rate * 0.1)


@pytest.mark.parametrize(("shrink", "acts"), [(0.999 * 2**-9, False), (1.001 * 2**-8, True)])
def test_bounds_between_which_bfloat16_loses_some_decay(shrink, acts):
    weight = (torch.arange(128, 256) / 128).to(torch.bfloat16).requires_grad_()  # every bfloat16 number in [1, 2)
    before = weight.detach().clone()
    optimizer = optimizer_of({"mlp": weight}, torch.optim.SGD, lr=1.0, weight_decay=0.0)
    weight.grad = torch.zeros_like(weight)
    WeightDecay(Decay(weight_decay=shrink, form="independent"), optimizer, 1.0, 100).before_step(0, 1.0)
    assert (weight < before).tolist() == [acts] * 128


def test_share_of_cautious_decay():
    weight = torch.tensor([1.0, -1.0, 2.0, -2.0, 3.0], requires_grad=True)
    weight.grad = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0])
    optimizer = optimizer_of({"mlp": weight}, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5, form="cautious"), optimizer, 0.1, 10)
    mine.before_step(0, 0.1)
    # same sign, or no update at all: u w >= 0
    torch.testing.assert_close(weight.detach(), torch.tensor([0.95, -1.0, 2.0, -1.9, 2.85]))
    applied = mine.applied()["mlp"]
    assert applied["share"] == pytest.approx(0.6)
    assert applied["measured"] == pytest.approx(0.05, rel=1e-6)


def test_zero_weights_and_infinite_weights_say_nothing():
    parameters = {"mlp": torch.zeros(3, requires_grad=True), "head": torch.ones(3, requires_grad=True)}
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5), optimizer, 0.1, 2)
    with_zero_gradients(parameters)
    mine.before_step(0, 0.1)
    parameters["head"].data.fill_(math.inf)
    mine.before_step(1, 0.1)
    applied = mine.applied()
    assert math.isnan(applied["mlp"]["measured"])
    assert applied["mlp"]["steps"] == []
    assert applied["head"]["steps"] == [1]
    assert applied["head"]["measured"] == pytest.approx(0.05, rel=1e-6)


def test_refuses_an_optimizer_that_decays_by_itself():
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.01)
    with pytest.raises(ValueError, match="own decay must be off"):
        WeightDecay(Decay(), optimizer, 0.1, 10)


def test_logged_coefficient_follows_the_schedule():
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    decay = Decay(weight_decay=0.4, schedule=DecaySchedule(kind="follow_learning_rate"))
    mine = WeightDecay(decay, optimizer, 0.1, 10)
    assert mine.coefficient(3, 0.025) == pytest.approx(0.1)
    assert mine.rate("mlp", 3, 0.025) == pytest.approx(0.0025)


def test_what_decay_means_to_subtract():
    weight, update = torch.tensor([2.0, -2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0])
    expected = {"decoupled": [0.04, -0.04, 0.06], "cautious": [0.04, 0.0, 0.06], "l2_gradient": [0.0, 0.0, 0.0]}
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    for form, values in expected.items():
        mine = WeightDecay(Decay(weight_decay=0.2, form=form), optimizer, 0.1, 10)
        found = mine.intended("mlp", weight.to(torch.bfloat16), update, 3, 0.1)
        torch.testing.assert_close(found.abs(), torch.tensor(values).abs(), rtol=1e-6, atol=0)
        assert torch.equal(found.sign()[found != 0], weight.sign()[found != 0])
