"""w <- (1 - lr c) w where u w >= 0; u is what the optimizer's update will subtract from w (arXiv 2510.12402)."""

import torch
from torch import Tensor

from decaylab.optim.form import DecayForm, Rate
from decaylab.optim.optimizers import next_directions


class Form(DecayForm):
    """Decoupled decay of those elements that the update moves towards zero as well, or not at all."""

    selective = True

    def decay(self, weights: list[Tensor], rate: Rate, skipped: Tensor | None) -> list[Tensor]:
        # signs, because a product of two small numbers underflows
        chosen = torch._foreach_sign(next_directions(self.optimizer, weights))
        torch._foreach_mul_(chosen, torch._foreach_sign(weights))
        torch._foreach_add_(chosen, 1)
        torch._foreach_clamp_max_(chosen, 1)
        if skipped is not None:
            torch._foreach_mul_(chosen, (~skipped).to(chosen[0].dtype))
        torch._foreach_addcmul_(weights, weights, chosen, value=-rate)
        return list(chosen)

    def intended(self, weight: Tensor, rate: Rate, update: Tensor) -> Tensor:
        shrunk = rate * weight
        return shrunk * (update.sign() * shrunk.sign() >= 0)
