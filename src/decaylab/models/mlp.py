"""Fully connected network with ReLU, all hidden layers of one width, torch's default initialisation."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from decaylab import spec
from decaylab.models import CHANNELS


class MLP(nn.Module):
    def __init__(self, model: spec.MLP, classes: int, image_size: int):
        super().__init__()
        widths = [CHANNELS * image_size**2] + [model.width] * model.depth
        self.hidden = nn.ModuleList(
            nn.Linear(before, after, bias=model.bias) for before, after in itertools.pairwise(widths)
        )
        self.head = nn.Linear(model.width, classes, bias=model.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        x = images.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.head(x)


def build(model: spec.MLP, classes: int, image_size: int) -> MLP:
    return MLP(model, classes, image_size)
