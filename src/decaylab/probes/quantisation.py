"""What a network loses when its weights are rounded to 8 or 4 bits after training, without calibration.

torchao rounds the weights of linear layers: to int8 with one scale for each row, and to int4 with one for each group of
weights in a row.
"""

from __future__ import annotations

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decaylab.errors import InputError
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "text"
COLUMNS = {"quantisation_cost": ("loss added by rounding the weights", "nats")}
PARAMETERS = {"group": {"default": 32, "ge": 8}}


class Probe(BaseProbe):
    """`quantisation_cost.int8` and `.int4`: validation loss with rounded weights minus that without, at the end.

    `group` is the number of weights that share a scale in int4; a layer whose rows it does not divide has one scale
    for each row. Embeddings keep their precision, also where the head, whose weights they share, is rounded.
    """

    moment = "end"
    group: int

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor]:
        whole = copy.deepcopy(view.model).float()
        loss = self._loss(view, whole)
        return {
            f"quantisation_cost.int{bits}": self._loss(view, rounded(whole, bits, self.group)) - loss for bits in (8, 4)
        }

    @staticmethod
    def _loss(view: View, model: nn.Module) -> Tensor:
        """Mean loss per token over the validation examples, in float32 whatever the run computes in."""
        total, count = torch.zeros((), dtype=torch.float64), 0
        for inputs, targets in view.batches("validation", view.spec.evaluation.examples):
            losses = F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten(), reduction="sum")
            total, count = total.to(losses.device) + losses, count + targets.numel()
        return total / count

    def example_passes(self, spec: RunSpec) -> float:
        return 3.0 * (spec.evaluation.examples or 1000)


def rounded(model: nn.Module, bits: int, group: int) -> nn.Module:
    """A copy of a float32 network whose linear layers have weights of 8 or 4 bits, rounded to the nearest.

    Raises:
        InputError: torchao is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchao lists the kernels that this machine lacks
            from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_
    except ImportError:
        raise InputError("probe quantisation: torchao is missing; pip install decaylab[quantisation]") from None

    def divisible(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and bits == 4 and module.in_features % group == 0

    def whole_rows(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not divisible(module, name)

    quantised = copy.deepcopy(model)
    weight_type = {8: torch.int8, 4: torch.int4}[bits]
    for chosen, granularity in ((whole_rows, PerAxis(0)), (divisible, PerGroup(group))):
        quantize_(quantised, IntxWeightOnlyConfig(weight_type, granularity), chosen)
    return quantised
