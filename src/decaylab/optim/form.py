"""What a decay form is. Each form is one file in `optim/forms/`, which specs name without its suffix."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from decaylab.optim.norms import vector_norm, wide
from decaylab.optim.optimizers import grouped_parameters
from decaylab.spec import Decay, Group

Rate = float | Tensor
"""a number, or a 0-d tensor on the weights' device where it depends on what was observed"""


class DecayForm:
    """A rule by which weights decay. The file of a form defines a subclass of this class named `Form`.

    A subclass overrides only what differs from decoupled decay: `acts_on`, `rate`, and `decay` or `penalty`. Nothing
    in it may wait for the device.

    A file may also declare two literals. They are read without importing the file, when a spec is validated:

        PARAMETERS = {"beta": {"default": 0.99, "ge": 0, "lt": 1}}   # keys and bounds of `decay.parameters`, as
                                                                    # keyword arguments of pydantic.Field
        REQUIRES = {"optimizer.name": ["adamw"]}                    # values that the form needs elsewhere in the spec

    Args:
        optimizer: from `build_optimizer`.
        peak_learning_rate: largest learning rate of the schedule.
        steps: updates in the run.
    """

    acts_on: ClassVar[Literal["weights", "gradient", "loss"]] = "weights"
    """what decay changes: the weights just before an update, the clipped gradient, or the loss"""
    selective: ClassVar[bool] = False
    """whether elements of one weight decay differently; `decay` then returns the factor of each"""

    def __init__(self, spec: Decay, optimizer: torch.optim.Optimizer, peak_learning_rate: float, steps: int) -> None:
        self.parameters = spec.form_parameters
        """`decay.parameters`, with defaults filled in"""
        self.optimizer = optimizer
        self.groups = grouped_parameters(optimizer)
        """group -> its weights"""
        self.peak_learning_rate = peak_learning_rate
        self.steps = steps
        self.state: dict[str, Tensor] = {}
        """what an adaptive form remembers; saved in checkpoints and restored in place"""

    def observe(self, step: int, learning_rate: float, skipped: Tensor | None) -> None:
        """See each step just before weights or gradients decay: `groups` then hold clipped gradients (or None).

        Args:
            skipped: 0-d bool on the device, or None. If true, gradients overflowed and the step will not be taken.
        """

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        """What the spec demands of a group in this step.

        The fraction of a weight that decay subtracts from it; for decay in gradient or loss, the coefficient of the
        weight in the gradient.

        Args:
            coefficient: weight_decay * multiplier of the group * multiplier of the schedule.
        """
        return learning_rate * coefficient

    def gradient_norms(self) -> Tensor:
        """L2 norm of each group's gradient, [groups] in the order of `groups`; 0 for weights without a gradient."""
        norms = []
        for weights in self.groups.values():
            parts = [vector_norm(weight.grad) for weight in weights if weight.grad is not None]
            zero = torch.zeros((), dtype=wide(weights[0]), device=weights[0].device)
            norms.append(vector_norm(torch.stack(parts)) if parts else zero)
        return torch.stack(norms)

    def shared(self, group: Group) -> Hashable:
        """Groups with equal multipliers and equal values here have equal rates in every step; they decay together."""
        return None

    def decay(self, weights: list[Tensor], rate: Rate, skipped: Tensor | None) -> list[Tensor] | None:
        """Decay these weights (or their gradients) in place.

        Args:
            weights: all with a gradient, on one device.
            skipped: 0-d bool on the device: if true, no weight may change.

        Returns:
            For a selective form, the factor by which each element's rate was multiplied (1 or 0, say), as tensors
            like `weights`. None for other forms.
        """
        if self.acts_on == "gradient":
            gradients = [weight.grad for weight in weights]
            if isinstance(rate, Tensor):
                torch._foreach_add_(gradients, torch._foreach_mul(weights, rate))
            else:
                torch._foreach_add_(gradients, weights, alpha=rate)
        elif skipped is None:
            torch._foreach_mul_(weights, 1 - rate)
        else:
            torch._foreach_mul_(weights, torch.where(skipped, 1.0, 1 - rate))
        return None

    def penalty(self, weights: Sequence[Tensor], rate: Rate) -> Tensor:
        """What a form that acts on the loss adds to it, 0-d; called once per step."""
        raise TypeError(f"decay on the {self.acts_on} has no penalty")

    def intended(self, weight: Tensor, rate: Rate, update: Tensor) -> Tensor:
        """What decay itself means to subtract from a weight, before any rounding.

        Args:
            weight: float32.
            update: what the optimizer subtracts per unit of learning rate, float32.
        """
        # inside the gradient, decay is part of the update
        return (rate if self.acts_on == "weights" else 0.0) * weight
