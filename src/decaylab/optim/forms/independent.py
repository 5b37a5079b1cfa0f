"""w <- (1 - c) w, then the optimizer's update (Loshchilov and Hutter, arXiv 1711.05101)."""

from decaylab.optim.form import DecayForm, Rate
from decaylab.spec import Group


class Form(DecayForm):
    """Decoupled decay that does not depend on the learning rate."""

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        return coefficient
