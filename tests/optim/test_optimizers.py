import pytest
import torch
from torch import nn

from decaylab.optim.flat import FlatParameters
from decaylab.optim.optimizers import build_optimizer, grouped_parameters, last_update, next_directions
from decaylab.optim.optimizers import set_learning_rate as set_rate
from decaylab.spec import SGD, AdamW, parse_spec

GROUPS_OF = {"0.weight": "mlp", "0.bias": "bias", "1.weight": "head", "1.bias": "bias"}
OPTIMIZERS = [
    SGD(learning_rate=0.1),
    SGD(learning_rate=0.1, momentum=0.9),
    SGD(learning_rate=0.1, momentum=0.9, dampening=0.3),
    SGD(learning_rate=0.1, momentum=0.8, nesterov=True),
    AdamW(learning_rate=0.01),
]
NAMES = ["plain", "momentum", "dampening", "nesterov", "adamw"]


def spec_with(optimizer):
    return parse_spec(
        {
            "data": {"kind": "images", "train_examples": 10, "test_examples": 10},
            "model": {"kind": "mlp"},
            "optimizer": optimizer.model_dump(),
            "steps": 10,
            "batch_size": 2,
            "evaluation": {"every": 5, "log_every": 5},
            "seed": 0,
        },
        "test",
    )


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))


def groups_of(model):
    return FlatParameters(model, GROUPS_OF).groups


@pytest.mark.parametrize("chosen", OPTIMIZERS, ids=NAMES)
def test_groups_and_hyperparameters(chosen):
    vectors = groups_of(small_model())
    optimizer = build_optimizer(spec_with(chosen), vectors)
    assert list(grouped_parameters(optimizer)) == ["mlp", "bias", "head"]
    assert all(grouped_parameters(optimizer)[group][0] is vector for group, vector in vectors.items())
    for group in optimizer.param_groups:
        assert group["weight_decay"] == 0
        assert group["lr"] == chosen.learning_rate
        if chosen.name == "adamw":
            assert (group["betas"], group["eps"]) == ((chosen.beta1, chosen.beta2), chosen.eps)
        else:
            assert (group["momentum"], group["dampening"], group["nesterov"]) == (
                chosen.momentum,
                chosen.dampening,
                chosen.nesterov,
            )
    set_rate(optimizer, 0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


@pytest.mark.parametrize("chosen", OPTIMIZERS, ids=NAMES)
@pytest.mark.filterwarnings("error")
def test_directions_and_updates_equal_what_the_weights_did(chosen):
    vectors = groups_of(small_model().double())
    optimizer = build_optimizer(spec_with(chosen), vectors)
    parameters = list(vectors.values())
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        before = [parameter.detach().clone() for parameter in parameters]
        directions = next_directions(optimizer, parameters)
        signs = [direction.sign() for direction in directions]
        optimizer.step()
        for parameter, old, sign in zip(parameters, before, signs, strict=True):
            moved = old - parameter.detach()
            assert torch.equal(moved.sign(), sign)
            update = last_update(optimizer, parameter)
            assert update.dtype == torch.float32
            torch.testing.assert_close(update.double() * chosen.learning_rate, moved, rtol=1e-5, atol=1e-7)


def test_directions_where_one_parameter_joins_late():
    vectors = groups_of(small_model())
    optimizer = build_optimizer(spec_with(AdamW(learning_rate=0.01)), vectors)
    first, second = vectors["mlp"], vectors["head"]
    for vector in vectors.values():
        vector.grad = None
    first.grad = torch.ones_like(first)
    optimizer.step()
    first.grad, second.grad = torch.full_like(first, -0.5), torch.full_like(second, -0.5)
    # 0.9 * 0.1 of momentum outweighs 0.1 * 0.5 of gradient
    assert [d.sign().unique().item() for d in next_directions(optimizer, [first, second])] == [1, -1]


def test_no_update_before_the_first_step():
    for chosen in (OPTIMIZERS[0], OPTIMIZERS[-1]):
        vectors = groups_of(small_model())
        optimizer = build_optimizer(spec_with(chosen), vectors)
        vectors["mlp"].grad = None
        assert last_update(optimizer, vectors["mlp"]) is None
