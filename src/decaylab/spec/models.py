"""Networks as a RunSpec describes them: one class for each file of `models/`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from decaylab.spec.base import Fraction, Strict


class MLP(Strict):
    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 256
    depth: PositiveInt = 2
    """number of hidden layers"""
    bias: bool = True


class VGG(Strict):
    """VGG for small images: stages of 3x3 convolutions, 2x2 max pooling after each, then a classifier."""

    kind: Literal["vgg"] = "vgg"
    width: PositiveInt = 64
    """channels of the first stage; doubled by each later stage up to eightfold"""
    stages: tuple[PositiveInt, ...] = (2, 2, 3, 3, 3)
    """convolutions in each stage; the default is VGG16"""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """fully connected layers before the last one"""
    batch_norm: bool = False
    bias: bool = True


class PreActResNet(Strict):
    kind: Literal["preact_resnet"] = "preact_resnet"
    width: PositiveInt = 64
    """channels of the first stage; doubled by each later stage"""
    blocks: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    """blocks in each stage: (2, 2, 2, 2) is PreActResNet18, (3, 4, 6, 3) is 34, (1, 1, 1) is 8"""
    norm_affine: bool = True
    """learnable scale and shift in batch norm; False makes the network scale-invariant up to its head"""
    shortcut_norm: bool = False
    """batch norm on shortcut convolutions as well"""
    frozen_head: bool | None = None
    """the last layer keeps its initial values; with the two above, the network is scale-invariant"""


class ViT(Strict):
    """Vision transformer. Defaults: ViT-Tiny for small images."""

    kind: Literal["vit"] = "vit"
    patch_size: PositiveInt = 4
    """height and width of a patch in pixels"""
    layers: PositiveInt = 12
    heads: PositiveInt = 3
    width: PositiveInt = 192

    @model_validator(mode="after")
    def _check(self) -> ViT:
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads} and by 4")
        return self


class GPT(Strict):
    """GPT-2 (pre-norm, learned positions, GELU). Defaults: GPT-2 small."""

    kind: Literal["gpt"] = "gpt"
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    width: PositiveInt = 768
    context_length: PositiveInt = 1024
    """tokens in one training sequence"""
    vocabulary: PositiveInt | None = None
    """size of the embedding; None takes the tokenizer's"""
    tied: bool = True
    """the head shares the token embedding's weights"""
    bias: bool = True
    """biases in linear layers and layer norms"""
    qkv_bias: bool = True
    """bias of the query, key and value projection (only where `bias` is on)"""
    dropout: Fraction = 0.0
    qk_norm: bool = False
    """RMS norm of queries and keys"""

    @model_validator(mode="after")
    def _check(self) -> GPT:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self


Model = Annotated[MLP | VGG | PreActResNet | ViT | GPT, Field(discriminator="kind")]
