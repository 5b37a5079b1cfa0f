"""Rounded weights against rounding by hand."""

import pytest
import torch

from decaylab.errors import InputError
from decaylab.models import build_model
from decaylab.probes.quantisation import rounded
from decaylab.spec import GPT

MODEL = GPT(layers=1, heads=2, width=48, context_length=8, vocabulary=32)


def nearest(weight: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """Each group of a row to the nearest of 2^bits levels around 0."""
    parts = weight.view(weight.shape[0], -1, group)
    scale = parts.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 0.5)
    return ((parts / scale).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale).view_as(weight)


@pytest.mark.parametrize(("bits", "group"), [(8, 16), (4, 16), (4, 32)])
def test_weights_are_rounded_to_the_nearest_level(bits, group):
    model = build_model(MODEL, classes=32, seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantised = rounded(model, bits, group)
    # 48 inputs are divided by groups of 16, but not of 32; int8 has whole rows
    size = group if bits == 4 and group == 16 else 48
    layer, other = model.blocks[0].mlp.input, quantised.blocks[0].mlp.input
    expected = nearest(layer.weight, bits, size)
    found = other(torch.eye(48)).T - layer.bias[:, None]
    torch.testing.assert_close(found, expected, rtol=0.02, atol=2e-4)
    assert (found - layer.weight).abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(quantised.token_embedding.weight, model.token_embedding.weight)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)
    with pytest.raises(InputError, match="torchao is missing"):
        rounded(build_model(MODEL, classes=32, seed=0), 4, 16)
