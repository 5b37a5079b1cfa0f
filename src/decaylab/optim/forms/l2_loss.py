"""loss <- loss + c/2 sum w^2, so its gradient is clipped with the rest.

The `l2_reg` in the code of arXiv 2310.04415 adds l2_reg sum w^2 without the half: weight_decay = 2 l2_reg.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from decaylab.optim.form import DecayForm, Rate
from decaylab.spec import Group

REQUIRES = {"decay.schedule.kind": ["constant"]}


class Form(DecayForm):
    """An L2 penalty in the loss."""

    acts_on = "loss"

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        return coefficient

    def penalty(self, weights: Sequence[Tensor], rate: Rate) -> Tensor:
        # a sum of squares in bfloat16 would round the coefficient as well
        wide = [weight.to(torch.promote_types(weight.dtype, torch.float32)) for weight in weights]
        return 0.5 * rate * sum(weight.square().sum() for weight in wide)
