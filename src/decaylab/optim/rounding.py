"""Weights stored in bfloat16: rounding to its numbers, to nearest or at random.

Random rounding keeps the mean: a number goes to one of its two neighbours with a probability in proportion to how near
it is, so that many updates far below the spacing still add up (Gupta et al., arXiv 1502.02551; for bfloat16 Zamirai et
al., arXiv 2010.06192).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def round_to_nearest(values: Tensor) -> Tensor:
    """Round float32 numbers of any shape to those of bfloat16, in place; ties go to even, as in torch's cast."""
    return values.copy_(values.bfloat16())


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """Round float32 numbers of any shape up or down to those of bfloat16, in place, without changing their mean.

    Numbers of bfloat16, infinities and NaN stay as they are.

    Args:
        generator: on the device of the numbers.
    """
    # A bfloat16 is the upper half of a float32. A random lower half carries into it as often as it should.
    noise = torch.randint(1 << 16, values.shape, generator=generator, dtype=torch.int32, device=values.device)
    rounded = noise.add_(values.view(torch.int32)).bitwise_and_(-(1 << 16)).view(torch.float32)
    return values.copy_(torch.where(values.isfinite(), rounded, values))  # a carry would turn some NaN into zeros


class StoredWeights:
    """Float32 weights that hold numbers of bfloat16 only, and likewise their gradients and the optimizer's moments.

    To nearest, weights are rounded after decay and again after the step, as they are where torch writes bfloat16. At
    random, they are rounded once, after both. Gradients and moments are always rounded to nearest.

    Args:
        weights: of the optimizer; their present values are rounded to nearest.
    """

    def __init__(self, weights: Iterable[Tensor], optimizer: torch.optim.Optimizer, stochastic: bool) -> None:
        self.weights, self.optimizer, self.stochastic = list(weights), optimizer, stochastic
        for weight in self.weights:
            round_to_nearest(weight.data)

    def round_gradients(self) -> None:
        for weight in self.weights:
            round_to_nearest(weight.grad)

    def after_decay(self) -> None:
        if not self.stochastic:
            for weight in self.weights:
                round_to_nearest(weight.data)

    def after_step(self, generator: torch.Generator) -> None:
        """Round what a step has changed. `generator` is on the device of the weights."""
        for weight in self.weights:
            if self.stochastic:
                round_stochastically(weight.data, generator)
            else:
                round_to_nearest(weight.data)
            for value in self.optimizer.state[weight].values():
                if torch.is_tensor(value) and value.shape == weight.shape:  # a moment, not the number of steps
                    round_to_nearest(value)
