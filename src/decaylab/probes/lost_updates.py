"""Updates that bfloat16 cannot represent: the mechanism by which storing weights in bfloat16 stops learning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from decaylab.optim.decay import WeightDecay
from decaylab.optim.optimizers import grouped_parameters, last_update
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {"lost_updates": ("share of updates lost to rounding", "share")}


class Probe(BaseProbe):
    """Share of an update's elements that rounding to bfloat16 would undo, overall and per group."""

    moment = "update"

    def measure(self, view: View) -> dict[str, Tensor]:
        return lost_updates(intended_updates(view.optimizer, view.decay, view.step - 1, view.learning_rate))

    def example_passes(self, spec: RunSpec) -> float:
        return 1.0  # about twenty operations for each weight


def intended_updates(
    optimizer: torch.optim.Optimizer, decay: WeightDecay, step: int, learning_rate: float
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(group, weight, change) of every parameter: the change that update `step` meant to make, in float32.

    Call it after that update and before gradients are cleared. The change is that of optimizer and decay together. It
    comes from the optimizer's state, not from the stored weights, which are already rounded; decay is taken of the
    weights as they are now.
    """
    for group, parameters in grouped_parameters(optimizer).items():
        for parameter in parameters:
            update = last_update(optimizer, parameter)
            if update is None:
                continue
            decayed = decay.intended(group, parameter, update, step, learning_rate)
            yield group, parameter.detach(), -learning_rate * update - decayed


@torch.no_grad()
def lost_updates(changes: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Share of updates that rounding to bfloat16 undoes: `lost_updates` and `lost_updates.<group>`, 0-d on the device.

    An update is an element with a change other than 0; it is lost if the weight w, stored in bfloat16, is the same
    after it: the change is smaller than about half the spacing of bfloat16 numbers at w, which is |w| 2^-8 to
    |w| 2^-7. For float32 weights this says what storing them in bfloat16 would lose.
    NaN where there are no updates (a learning rate of 0).

    Args:
        changes: (group, weight, change), such as `intended_updates` yields; or (group, before, after - before).
    """
    counts: dict[str, Tensor] = {}
    for group, weight, change in changes:
        stored = weight.to(torch.bfloat16)
        moving = change != 0
        lost = moving & ((stored.float() + change.float()).to(torch.bfloat16) == stored)
        count = torch.stack([lost.sum(), moving.sum()]).double()
        counts[group] = counts[group] + count if group in counts else count
    if not counts:
        return {}
    counts = {"lost_updates": torch.stack(list(counts.values())).sum(0)} | {
        f"lost_updates.{group}": count for group, count in counts.items()
    }
    return {name: lost / moving for name, (lost, moving) in counts.items()}
