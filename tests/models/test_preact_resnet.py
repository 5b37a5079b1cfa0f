import pytest
import torch
import torch.nn.functional as F
from torch import nn

from decaylab import spec
from decaylab.models import build_model

SCALE_INVARIANT = spec.PreActResNet(width=4, blocks=(2, 1), norm_affine=False)


def build(model: spec.PreActResNet) -> nn.Module:
    """In float64, with every parameter away from its neutral value."""
    module = build_model(model, classes=5, image_size=8, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("shortcut_norm", [False, True])
@pytest.mark.parametrize("norm_affine", [False, True])
def test_forward_equals_the_formula(norm_affine, shortcut_norm):
    module = build(spec.PreActResNet(width=4, blocks=(2, 1), norm_affine=norm_affine, shortcut_norm=shortcut_norm))
    state = module.state_dict()

    def norm(x, name):
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        if norm_affine:
            x = x * state[f"{name}.weight"].view(1, -1, 1, 1) + state[f"{name}.bias"].view(1, -1, 1, 1)
        return x

    def convolution(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)

    x = convolution(norm(images(), "input_norm"), "stem")
    for block, stride in ((0, 1), (1, 1), (2, 2)):
        name = f"blocks.{block}"
        active = norm(x, f"{name}.norm1").clamp(min=0)
        if stride == 2:
            x = norm(active, f"{name}.shortcut.0") if shortcut_norm else active
            x = convolution(x, f"{name}.shortcut.1" if shortcut_norm else f"{name}.shortcut", stride)
        inner = norm(convolution(active, f"{name}.conv1", stride), f"{name}.norm2").clamp(min=0)
        x = x + convolution(inner, f"{name}.conv2")
    features = norm(x, "norm").clamp(min=0).mean((2, 3))
    expected = features @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(module(images()), expected)


@pytest.mark.parametrize("shortcut_norm", [False, True])
def test_logits_do_not_see_the_common_scale_of_convolutions(shortcut_norm):
    module = build(SCALE_INVARIANT.model_copy(update={"shortcut_norm": shortcut_norm}))
    expected = module(images())
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 3
    # the norms' eps leaves a trace
    torch.testing.assert_close(module(images()), expected, rtol=1e-3, atol=1e-3)


def test_a_frozen_head_has_the_same_initial_values_and_is_not_trained():
    frozen, trained = (
        build_model(spec.PreActResNet(width=4, blocks=(1, 1), frozen_head=choice), classes=5, image_size=8, seed=3)
        for choice in (True, None)
    )
    torch.testing.assert_close(frozen(images().float()), trained(images().float()), rtol=0, atol=0)
    assert frozen.state_dict().keys() == trained.state_dict().keys()
    assert set(dict(trained.named_parameters())) - set(dict(frozen.named_parameters())) == {"head.weight", "head.bias"}


def test_with_a_frozen_head_the_logits_do_not_see_the_norm_of_the_trained_weights():
    module = build(SCALE_INVARIANT.model_copy(update={"shortcut_norm": True, "frozen_head": True}))
    expected = module(images())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 3
    torch.testing.assert_close(module(images()), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_convolution_inside_a_branch_may_be_scaled_alone(block):
    module = build(SCALE_INVARIANT)
    expected = module(images())
    with torch.no_grad():
        module.blocks[block].conv1.weight *= 3
    torch.testing.assert_close(module(images()), expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        module.blocks[block].conv2.weight *= 3
    # not this one: its branch would grow beside the shortcut
    assert (module(images()) - expected).abs().max() > 0.05


def test_biases_of_convolutions_are_removed_by_norms():
    module = build(SCALE_INVARIANT)
    expected = module(images())
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.bias += 1
    torch.testing.assert_close(module(images()), expected)


def test_each_later_stage_doubles_the_width_and_halves_the_image():
    module = build_model(spec.PreActResNet(width=2, blocks=(1, 2, 1, 1, 1)), classes=5, image_size=16, seed=0)
    shapes = []
    for block in module.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape[1:])))
    module(torch.randn(2, 3, 16, 16))
    assert shapes == [(2, 16, 16), (4, 8, 8), (4, 8, 8), (8, 4, 4), (16, 2, 2), (32, 1, 1)]
