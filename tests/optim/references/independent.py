from tests.optim import references


class Reference(references.Reference):
    def rate(self, group, coefficient, learning_rate):
        return coefficient
