"""Rounded weights against rounding by hand."""

import sys

import pytest
import torch

from decaylab.errors import InputError
from decaylab.models import build_model
from decaylab.probes.quantisation import rounded
from decaylab.spec import GPT

MODEL = GPT(layers=1, heads=2, width=48, context_length=8, vocabulary=32)


@pytest.mark.parametrize(("bits", "group"), [(8, 16), (4, 16), (4, 32)])
def test_weights_are_rounded_to_the_nearest_level(bits, group):
    """Multiples of a scale, which the largest weight of each group decides, at most half a level away."""
    model = build_model(MODEL, classes=32, seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantised = rounded(model, bits, group)
    # 48 inputs are divided by groups of 16, but not of 32; int8 has whole rows
    size = group if bits == 4 and group == 16 else 48
    layer, other = model.blocks[0].mlp.input, quantised.blocks[0].mlp.input
    found = (other(torch.eye(48)).T - layer.bias[:, None]).view(192, -1, size)
    weight = layer.weight.view_as(found)
    scale = weight.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 0.5)
    assert ((found - weight).abs() / scale).max().item() == pytest.approx(0.5, abs=0.01)
    levels = found / scale
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=0.01)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(quantised.token_embedding.weight, model.token_embedding.weight)


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(InputError, match="torchao is missing"):
        rounded(build_model(MODEL, classes=32, seed=0), 4, 16)
