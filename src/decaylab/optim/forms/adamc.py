"""w <- (1 - lr c lr/lr_max) w for normalised weights, decoupled decay for the rest (Defazio, arXiv 2506.02285).

Every weight matrix but embedding and head counts as normalised.
"""

from collections.abc import Hashable

from decaylab.optim.form import DecayForm, Rate
from decaylab.spec import Group

REQUIRES = {"optimizer.name": ["adamw"]}

NORMALISED = ("attention", "mlp", "convolution")


class Form(DecayForm):
    """Decoupled decay that follows the square of the learning rate for normalised weights."""

    def shared(self, group: Group) -> Hashable:
        return group in NORMALISED

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        if group in NORMALISED:
            coefficient *= learning_rate / self.peak_learning_rate
        return learning_rate * coefficient
