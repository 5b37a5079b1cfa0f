"""VGG for small images, as in the EPFL experiments: no dropout, and a classifier of one width.

The classifier reads every position that is left after the last pooling (one for 32x32 images and five stages), so its
first layer grows with the images. Images too small for the stages are refused.
"""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from decaylab import spec
from decaylab.errors import InputError
from decaylab.models import CHANNELS, BatchNorm2d


class VGG(nn.Module):
    def __init__(self, model: spec.VGG, classes: int, image_size: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels = CHANNELS
        for stage, convolutions in enumerate(model.stages):
            width = model.width * min(2**stage, 8)
            for _ in range(convolutions):
                layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=model.bias))
                if model.batch_norm:
                    layers.append(BatchNorm2d(width))
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        widths = [channels * (image_size >> len(model.stages)) ** 2] + [channels] * model.hidden_layers
        self.hidden = nn.ModuleList(
            nn.Linear(before, after, bias=model.bias) for before, after in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], classes, bias=model.bias)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                # He et al. 2015, fan-out; linear layers keep torch's default
                nn.init.normal_(layer.weight, std=math.sqrt(2 / (9 * layer.out_channels)))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        x = self.features(images).flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


def build(model: spec.VGG, classes: int, image_size: int) -> VGG:
    """Raises InputError if pooling after each stage would leave no pixel."""
    smallest = 2 ** len(model.stages)
    if image_size < smallest:
        raise InputError(
            f"model.stages: {len(model.stages)} stages need data.image_size of at least {smallest}, got {image_size}"
        )
    return VGG(model, classes, image_size)
