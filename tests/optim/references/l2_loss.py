from tests.optim import references


class Reference(references.Reference):
    acts_on = "loss"

    def rate(self, group, coefficient, learning_rate):
        return coefficient
