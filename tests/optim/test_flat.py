"""Weights laid out as one vector a group: the network must not notice."""

import copy

import pytest
import torch

from decaylab.models import build_model, parameter_groups
from decaylab.optim.flat import FlatParameters
from decaylab.spec import GPT, MLP, VGG, PreActResNet

MODELS = {
    "mlp": (MLP(width=6, depth=2), 10, 8),
    "vgg": (VGG(width=4, stages=(1, 1), batch_norm=True), 10, 8),
    "resnet": (PreActResNet(width=4, blocks=(1, 1)), 10, 8),
    "gpt": (GPT(layers=2, heads=2, width=8, context_length=6, tied=True), 11, None),
}


def built(kind):
    model, classes, size = MODELS[kind]
    return build_model(model, classes=classes, image_size=size, seed=0)


def batch(kind):
    generator = torch.Generator().manual_seed(1)
    if kind == "gpt":
        return torch.randint(11, (3, 6), generator=generator)
    return torch.randn(3, 3, 8, 8, generator=generator)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("kind", MODELS)
def test_values_names_and_memory_format_stay(kind, memory_format):
    model = built(kind).to(memory_format=memory_format)
    before = copy.deepcopy(model)
    FlatParameters(model, parameter_groups(model))
    for (name, weight), (old_name, old) in zip(model.named_parameters(), before.named_parameters(), strict=True):
        assert name == old_name
        assert torch.equal(weight, old)
        assert weight.stride() == old.stride()
    assert torch.equal(model(batch(kind)), before(batch(kind)))


@pytest.mark.parametrize("kind", MODELS)
def test_groups_are_slices_of_one_vector(kind):
    model = built(kind)
    groups = parameter_groups(model)
    flat = FlatParameters(model, groups)
    assert set(flat.groups) == set(groups.values())
    assert len(flat.weights) == sum(weight.numel() for weight in model.parameters())
    assert torch.equal(torch.cat([vector.detach() for vector in flat.groups.values()]), flat.weights)
    number_of = {group: number for number, group in enumerate(flat.groups)}
    with torch.no_grad():
        for group, vector in flat.groups.items():
            vector.fill_(number_of[group])
            vector.grad.fill_(-number_of[group])
    for name, weight in model.named_parameters():
        assert (weight == number_of[groups[name]]).all()
        assert (flat.places[name].view(flat.gradient) == -number_of[groups[name]]).all()


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_are_those_of_autograd(kind):
    model = built(kind)
    plain = copy.deepcopy(model)
    flat = FlatParameters(model, parameter_groups(model))
    plain(batch(kind)).square().sum().backward()
    gradients = torch.autograd.grad(model(batch(kind)).square().sum(), flat.parameters)
    flat.collect(gradients)
    names = dict(plain.named_parameters())
    for name in flat.names:
        torch.testing.assert_close(flat.places[name].view(flat.gradient), names[name].grad)
    once = flat.gradient.clone()
    flat.collect(gradients, add=True)
    assert torch.equal(flat.gradient, 2 * once)


def test_weights_can_be_moved_into_the_rows_of_a_matrix():
    model = built("resnet").to(memory_format=torch.channels_last)
    flat = FlatParameters(model, parameter_groups(model))
    model.eval()
    expected = model(batch("resnet"))
    rows = torch.full((3, len(flat.weights)), torch.nan)
    gradients = torch.zeros_like(rows)
    flat.move(rows[1], gradients[1])
    assert torch.equal(model(batch("resnet")), expected)
    assert rows[1].isfinite().all()
    assert rows[[0, 2]].isnan().all()
    for name, weight in model.named_parameters():
        assert torch.equal(flat.places[name].view(rows)[1], weight)
    flat.groups["head"].grad.fill_(1)
    assert gradients.sum() == len(flat.groups["head"])


def test_an_average_of_another_precision_points_to_its_own_vector():
    model = built("mlp")
    flat = FlatParameters(model, parameter_groups(model))
    other = copy.deepcopy(model).double()
    flat.point(other, flat.weights.double() * 2)
    for weight, twice in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight.double() * 2, twice)
