import math

import pytest
import torch
from torch import nn

from decaylab import spec
from decaylab.errors import InputError
from decaylab.models import build_model


def test_widths_double_up_to_eightfold():
    with torch.device("meta"):
        module = build_model(spec.VGG(width=4), classes=10, image_size=32, seed=0)
    widths = [layer.out_channels for layer in module.features if isinstance(layer, nn.Conv2d)]
    assert widths == [4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]


def test_convolutions_start_with_variance_two_over_fan_out():
    module = build_model(spec.VGG(width=32, stages=(1, 1)), classes=10, image_size=8, seed=0)
    for layer in module.features:
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / (9 * layer.out_channels))
            # four standard errors of a standard deviation
            weight = layer.weight.detach()
            assert float(weight.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel()))
            assert not layer.bias.any()


def test_images_too_small_for_the_stages_are_refused():
    with pytest.raises(InputError, match=r"model\.stages: 5 stages need data\.image_size of at least 32, got 16"):
        build_model(spec.VGG(), classes=10, image_size=16, seed=0)


def test_larger_images_widen_the_first_layer_of_the_classifier():
    module = build_model(spec.VGG(width=4, stages=(1, 1), hidden_layers=1), classes=3, image_size=9, seed=0)
    assert module.hidden[0].in_features == 8 * 2 * 2
    assert module(torch.randn(2, 3, 9, 9)).shape == (2, 3)
