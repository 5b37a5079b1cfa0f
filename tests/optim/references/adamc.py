from tests.optim import references


class Reference(references.Reference):
    def rate(self, group, coefficient, learning_rate):
        if group in ("attention", "mlp", "convolution"):
            return learning_rate * coefficient * learning_rate / self.peak
        return learning_rate * coefficient
