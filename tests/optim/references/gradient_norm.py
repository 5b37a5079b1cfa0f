import math

from tests.optim import references


class Reference(references.Reference):
    square = share = 0.0

    def observe(self, gradients):
        keep = self.parameters["memory"]
        squares = [g * g for values in gradients.values() for g in values]
        self.square = keep * self.square + (1 - keep) * math.fsum(squares) / len(squares)
        self.share = keep * self.share + (1 - keep)

    def rate(self, group, coefficient, learning_rate):
        return min(
            1.0, learning_rate * coefficient * self.parameters["reference"] * math.sqrt(self.share / self.square)
        )
