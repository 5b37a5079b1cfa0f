"""Size of the activations: root mean square of the residual stream after each block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from decaylab.probes._mode import evaluation_mode
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "text"
COLUMNS = {"activation_rms": ("RMS of the residual stream", "")}
PARAMETERS = {"examples": {"default": 64, "ge": 1}}


class Probe(BaseProbe):
    """`activation_rms.block1` and so on, and the largest as `activation_rms`, over the first training examples."""

    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        inputs, _ = next(view.batches("train", view.spec.evaluation.train_examples))
        with view.autocast():
            streams = residual_stream(view.model, inputs[: self.examples])
        sizes = torch.stack([stream.square().mean().sqrt() for stream in streams])
        blocks = {f"activation_rms.block{number}": size for number, size in enumerate(sizes, 1)}
        return {"activation_rms": sizes.amax()} | blocks

    def example_passes(self, spec: RunSpec) -> float:
        return float(min(self.examples, spec.evaluation.train_examples))


def residual_stream(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What each block of a transformer hands on: float32 [positions, width] for each; modes do not change.

    Args:
        model: with a list of modules `blocks`, as decaylab.models.gpt.
        inputs: a batch that it takes.
    """
    streams: list[Tensor] = []

    def keep(module: Any, arguments: Any, output: Tensor) -> None:
        streams.append(output.float())

    handles = [block.register_forward_hook(keep) for block in model.blocks]
    try:
        with evaluation_mode(model):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return streams
