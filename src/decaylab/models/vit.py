"""A plain vision transformer (Dosovitskiy et al. 2021, in the small form of Beyer et al., arXiv 2205.01580).

Patches, fixed sine-cosine positions, pre-norm blocks with GELU, the mean over patches, one linear layer. It has neither
overlapping convolutions nor batch norm. Initialised as torch does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decaylab import spec
from decaylab.errors import InputError
from decaylab.models import CHANNELS


class Attention(nn.Module):
    """Multi-head self-attention of all patches: [B, patches, width] -> the same."""

    role = "attention"
    """for parameter groups and probes"""
    causal = False

    def __init__(self, model: spec.ViT):
        super().__init__()
        self.heads = model.heads
        self.qkv = nn.Linear(model.width, 3 * model.width)
        self.output = nn.Linear(model.width, model.width)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors [B, heads, patches, width / heads]."""
        parts = self.qkv(x).unflatten(2, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        return query, key, value

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.query_key_value(x))
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, model: spec.ViT):
        super().__init__()
        self.norm1 = nn.LayerNorm(model.width)
        self.attention = Attention(model)
        self.norm2 = nn.LayerNorm(model.width)
        self.mlp = nn.Sequential(
            nn.Linear(model.width, 4 * model.width), nn.GELU(), nn.Linear(4 * model.width, model.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, model: spec.ViT, classes: int, side: int):
        super().__init__()
        self.patches = nn.Conv2d(CHANNELS, model.width, model.patch_size, stride=model.patch_size)
        self.register_buffer("positions", sine_cosine(side, model.width), persistent=False)
        self.blocks = nn.Sequential(*(Block(model) for _ in range(model.layers)))
        self.norm = nn.LayerNorm(model.width)
        self.head = nn.Linear(model.width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, classes]."""
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


def sine_cosine(side: int, width: int) -> Tensor:
    """Positions of side x side patches, [side * side, width]: sines and cosines of column and row, a quarter each.

    Frequencies fall from 1 to 1 / 10,000, geometrically.
    """
    count = width // 4
    frequencies = 10_000.0 ** -(torch.arange(count) / max(count - 1, 1))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)


def build(model: spec.ViT, classes: int, image_size: int) -> ViT:
    """Raises InputError if patches do not tile the images."""
    if image_size % model.patch_size:
        raise InputError(f"model.patch_size: expected a divisor of {image_size} (pixels), got {model.patch_size}")
    return ViT(model, classes, image_size // model.patch_size)
