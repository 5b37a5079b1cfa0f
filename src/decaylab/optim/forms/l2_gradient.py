"""g <- g + c w, after clipping: torch.optim.SGD and torch.optim.Adam."""

from decaylab.optim.form import DecayForm, Rate
from decaylab.spec import Group


class Form(DecayForm):
    """The gradient of an L2 penalty, added to the gradient of the loss."""

    acts_on = "gradient"

    def rate(self, group: Group, coefficient: float, learning_rate: float) -> Rate:
        return coefficient
