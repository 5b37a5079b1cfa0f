"""Outliers in weights and activations: what makes few bits too few."""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.probes._protocol import BaseProbe, View
from decaylab.probes.activation_rms import residual_stream
from decaylab.spec import RunSpec

NEEDS = "text"
COLUMNS = {
    "kurtosis": ("kurtosis (3 for a Gaussian)", ""),
    "dynamic_range": ("largest value over RMS", ""),
}
PARAMETERS = {"examples": {"default": 64, "ge": 1}}


class Probe(BaseProbe):
    """`kurtosis` and `dynamic_range`: `.weights` is the mean over weight matrices, `.activations` over blocks.

    Activations are those of the residual stream over the first training examples.
    """

    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        inputs, _ = next(view.batches("train", view.spec.evaluation.train_examples))
        with view.autocast():
            streams = residual_stream(view.model, inputs[: self.examples])
        matrices = [weight.detach().float() for weight in view.weights.values() if weight.dim() > 1]
        return {
            f"{name}.{kind}": torch.stack([measure(part) for part in parts]).mean()
            for kind, parts in (("weights", matrices), ("activations", streams))
            for name, measure in (("kurtosis", kurtosis), ("dynamic_range", dynamic_range))
        }

    def example_passes(self, spec: RunSpec) -> float:
        return float(min(self.examples, spec.evaluation.train_examples))


def kurtosis(values: Tensor) -> Tensor:
    """Fourth central moment over the squared variance, of all elements: 0-d."""
    centred = values - values.mean()
    return centred.pow(4).mean() / centred.square().mean().square()


def dynamic_range(values: Tensor) -> Tensor:
    """Largest absolute value over the root mean square, of all elements: 0-d."""
    return values.abs().amax() / values.square().mean().sqrt()
