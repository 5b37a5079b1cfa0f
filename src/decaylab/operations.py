"""Counts the weights and floating-point operations of a run from its spec, without torch.

The workflow orders its jobs by these numbers and `decaylab plan` prices runs with them. As is usual, only
convolutions, linear layers and attention are counted, a multiply-add as two operations; torch.utils.flop_counter gives
the same numbers (tests/test_operations.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from decaylab.sources import classes_of
from decaylab.spec import GPT, MLP, VGG, PreActResNet, RunSpec, ViT

CHANNELS = 3
VOCABULARY = {"bytes": 256, "gpt2": 50257}
"""tokens of each tokenizer"""


@dataclass(frozen=True)
class Operations:
    """Of a network, and of one example (an image, or a window of tokens) that passes through it."""

    parameters: int
    forward: float
    """FLOPs"""
    backward: float

    @property
    def step(self) -> float:
        """FLOPs of training on one example."""
        return self.forward + self.backward


def operations_of(spec: RunSpec, classes: int | None = None) -> Operations:
    """Operations of a spec's network.

    Args:
        classes: of the images, or tokens of the tokenizer, where they are known better than from the spec.
    """
    image_size = spec.data.image_size if spec.data.kind == "images" else 0
    return _COUNTERS[spec.model.kind](spec.model, classes or outputs_of(spec), image_size)


def outputs_of(spec: RunSpec) -> int:
    """Classes of the images, or tokens of the tokenizer, as far as the spec tells."""
    return VOCABULARY[spec.data.tokenizer] if spec.data.kind == "text" else classes_of(spec.data)


def evaluated_examples(spec: RunSpec) -> float:
    """Forward passes of single examples in all evaluations of a run; sets of unknown size count as 10,000."""
    rounds = 2 + (spec.steps - 1) // spec.evaluation.every
    held_out = spec.evaluation.examples or (spec.data.test_examples if spec.data.kind == "images" else None) or 10_000
    per_round = spec.evaluation.train_examples + held_out
    return rounds * per_round * (2 if spec.ema else 1)


def run_flops(spec: RunSpec, classes: int | None = None) -> float:
    """FLOPs of a whole run, evaluations included."""
    operations = operations_of(spec, classes)
    return spec.steps * (operations.step * spec.batch_size) + evaluated_examples(spec) * operations.forward


class _Layers:
    """Adds up layers in their order. A backward pass needs two matmuls for each of the forward pass."""

    def __init__(self) -> None:
        self.parameters = 0
        self.forward = self.backward = 0.0

    def linear(self, inputs: int, outputs: int, positions: int = 1, *, bias: bool = True, first: bool = False) -> None:
        """A matrix applied at some positions; the `first` layer of a network needs no gradient of its input."""
        self.parameters += inputs * outputs + bias * outputs
        self._matmul(2.0 * inputs * outputs * positions, 1 if first else 2)

    def attention(self, length: int, width: int) -> None:
        """Logits and weighted sums of all pairs of positions; what a fused kernel recomputes is not counted."""
        self._matmul(2 * 2.0 * length**2 * width, 2)

    def _matmul(self, flops: float, backward: float) -> None:
        self.forward += flops
        self.backward += backward * flops

    def result(self) -> Operations:
        return Operations(self.parameters, self.forward, self.backward)


def _mlp(model: MLP, classes: int, image_size: int) -> Operations:
    layers = _Layers()
    widths = [CHANNELS * image_size**2] + [model.width] * model.depth + [classes]
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers.linear(inputs, outputs, bias=model.bias, first=number == 0)
    return layers.result()


def _vgg(model: VGG, classes: int, image_size: int) -> Operations:
    layers = _Layers()
    channels, side = CHANNELS, image_size
    for stage, convolutions in enumerate(model.stages):
        width = model.width * min(2**stage, 8)
        for number in range(convolutions):
            layers.linear(9 * channels, width, side**2, bias=model.bias, first=stage == number == 0)
            layers.parameters += 2 * width * model.batch_norm
            channels = width
        side //= 2
    widths = [channels * side**2] + [channels] * model.hidden_layers + [classes]
    for inputs, outputs in itertools.pairwise(widths):
        layers.linear(inputs, outputs, bias=model.bias)
    return layers.result()


def _preact_resnet(model: PreActResNet, classes: int, image_size: int) -> Operations:
    layers = _Layers()
    affine, bias, width, side = model.norm_affine, not model.norm_affine, model.width, image_size

    def norm(channels: int) -> None:
        layers.parameters += 2 * channels * affine

    norm(CHANNELS)
    # the norm of the input learns only if it is affine
    layers.linear(9 * CHANNELS, width, side**2, bias=bias, first=not affine)
    for stage, count in enumerate(model.blocks):
        for block in range(count):
            before, after = width, model.width * 2**stage
            stride = 2 if stage and not block else 1
            side = (side - 1) // stride + 1
            norm(before)
            layers.linear(9 * before, after, side**2, bias=bias)
            norm(after)
            layers.linear(9 * after, after, side**2, bias=bias)
            if stride != 1 or before != after:
                if model.shortcut_norm:
                    norm(before)
                layers.linear(before, after, side**2, bias=bias)
            width = after
    norm(width)
    # a frozen head has the gradient of its input only
    layers.linear(width, classes, first=bool(model.frozen_head))
    if model.frozen_head:
        layers.parameters -= (width + 1) * classes
    return layers.result()


def _vit(model: ViT, classes: int, image_size: int) -> Operations:
    layers = _Layers()
    width, length = model.width, (image_size // model.patch_size) ** 2
    layers.linear(CHANNELS * model.patch_size**2, width, length, first=True)
    layers.parameters += 2 * width
    for _ in range(model.layers):
        layers.parameters += 4 * width
        layers.linear(width, 3 * width, length)
        layers.attention(length, width)
        layers.linear(width, width, length)
        layers.linear(width, 4 * width, length)
        layers.linear(4 * width, width, length)
    layers.linear(width, classes)
    return layers.result()


def _gpt(model: GPT, tokens: int, _: int) -> Operations:
    layers = _Layers()
    vocabulary, width, length = model.vocabulary or tokens, model.width, model.context_length
    norm = width * (1 + model.bias)
    layers.parameters += (vocabulary + length) * width + norm
    for _ in range(model.layers):
        layers.parameters += 2 * norm + 2 * (width // model.heads) * model.qk_norm
        layers.linear(width, 3 * width, length, bias=model.bias and model.qkv_bias)
        layers.attention(length, width)
        layers.linear(width, width, length, bias=model.bias)
        layers.linear(width, 4 * width, length, bias=model.bias)
        layers.linear(4 * width, width, length, bias=model.bias)
    layers.linear(width, vocabulary, length, bias=False)
    if model.tied:
        layers.parameters -= vocabulary * width
    return layers.result()


_COUNTERS: dict[str, Callable[[Any, int, int], Operations]] = {
    "mlp": _mlp,
    "vgg": _vgg,
    "preact_resnet": _preact_resnet,
    "vit": _vit,
    "gpt": _gpt,
}
"""kind of network -> count of its operations"""
