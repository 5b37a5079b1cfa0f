"""Pre-activation ResNet (He et al. 2016) as in the EPFL experiments, with batch norm on the input.

Without `norm_affine`, the logits do not change when all convolutions are multiplied by one factor (up to the eps of
the norms), and with `frozen_head` nothing else is trained. Convolutions then have biases, which the next norm removes;
they are kept because the source has them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from decaylab import spec
from decaylab.models import CHANNELS, BatchNorm2d


class Block(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, added to the input or to a 1x1 convolution of the first ReLU's output."""

    def __init__(self, before: int, after: int, stride: int, affine: bool, shortcut_norm: bool):
        super().__init__()
        self.norm1 = BatchNorm2d(before, affine=affine)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=not affine)
        self.norm2 = BatchNorm2d(after, affine=affine)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=not affine)
        self.shortcut: nn.Module | None = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=not affine)
            if shortcut_norm:
                # before the convolution; after it, the two branches would not scale together
                self.shortcut = nn.Sequential(BatchNorm2d(before, affine=affine), self.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        # in place, since no gradient needs the overwritten values
        activated = F.relu_(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(activated)
        return self.conv2(F.relu_(self.norm2(self.conv1(activated)))).add_(x)


class FrozenLinear(nn.Linear):
    """A linear layer that is not trained: its weight and bias are buffers."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        for name, initial in list(self.named_parameters()):
            delattr(self, name)
            self.register_buffer(name, initial.detach())


class PreActResNet(nn.Module):
    def __init__(self, model: spec.PreActResNet, classes: int):
        super().__init__()
        affine, width = model.norm_affine, model.width
        self.input_norm = BatchNorm2d(CHANNELS, affine=affine)
        self.stem = nn.Conv2d(CHANNELS, width, 3, padding=1, bias=not affine)
        blocks: list[nn.Module] = []
        for stage, count in enumerate(model.blocks):
            for block in range(count):
                after = model.width * 2**stage
                stride = 2 if stage and not block else 1
                blocks.append(Block(width, after, stride, affine, model.shortcut_norm))
                width = after
        self.blocks = nn.Sequential(*blocks)
        self.norm = BatchNorm2d(width, affine=affine)
        self.head = (FrozenLinear if model.frozen_head else nn.Linear)(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] of any size -> logits [B, classes]."""
        x = self.blocks(self.stem(self.input_norm(images)))
        return self.head(F.relu_(self.norm(x)).mean((2, 3)))


def build(model: spec.PreActResNet, classes: int, image_size: int) -> PreActResNet:
    return PreActResNet(model, classes)
