from tests.optim import references


class Reference(references.Reference):
    def factor(self, weight, update):
        return 1.0 if update * weight >= 0 else 0.0
