"""Each decay form written out for single weights in Python floats: one file per form, named as the form."""


class Reference:
    """Decoupled decay. A form's file subclasses it as `Reference` and overrides what differs."""

    acts_on = "weights"

    def __init__(self, parameters: dict, peak: float) -> None:
        """`parameters` of the form, all of them, and the peak learning rate."""
        self.parameters, self.peak = parameters, peak

    def observe(self, gradients: dict[str, list[float]]) -> None:
        """The gradients of a step, by group, before decay."""

    def rate(self, group: str, coefficient: float, learning_rate: float) -> float:
        """The fraction of a weight that decays, or the coefficient of the weight in the gradient."""
        return learning_rate * coefficient

    def factor(self, weight: float, update: float) -> float:
        """Factor on the rate of one weight, from which the optimizer will subtract a multiple of `update`."""
        return 1.0
