"""w <- (1 - lr c r/g) w, where g is the size of gradients: the root of their mean square over all weights and a while.

The rule of AdamS (Xie et al., arXiv 2011.11152): decay rises as gradients shrink. Theirs has no reference size r; with
it, c is of the usual size.
"""

import torch
from torch import Tensor

from decaylab.optim.form import DecayForm, Rate
from decaylab.spec import Group

PARAMETERS = {"reference": {"default": 1.0, "gt": 0}, "memory": {"default": 0.99, "ge": 0, "lt": 1}}


class Form(DecayForm):
    """Decoupled decay over the size of recent gradients; at gradients of size `reference` it is plain decay."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        zero = torch.zeros_like(self.gradient_norms()[0], dtype=torch.float64)
        # running means of the squared norm and of 1; their ratio has no bias towards the zero they start from
        self.state = {"square": zero, "share": zero.clone()}
        self.count = sum(weight.numel() for weights in self.groups.values() for weight in weights)

    def observe(self, step: int, learning_rate: float, skipped: Tensor | None) -> None:
        keep = self.parameters["memory"]
        square = self.gradient_norms().double().square().sum()
        for name, value in (("square", square), ("share", torch.ones_like(square))):
            kept = self.state[name]
            mean = torch.lerp(value, kept, keep)
            kept.copy_(mean if skipped is None else torch.where(skipped, kept, mean))

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        size = (self.state["square"] / self.state["share"] / self.count).sqrt()
        # the bounds matter only where gradients vanish altogether
        return (learning_rate * coefficient * self.parameters["reference"] / size.clamp(min=1e-30)).clamp(max=1.0)
