"""Regimes: the dimensionless numbers that claims about weight decay hang on, computed from a RunSpec.

They are what has to be comparable between a source and a smaller scale. No torch here: plans and pages ask for them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from decaylab.optim.schedules import decay_multiplier_at, learning_rate_at
from decaylab.spec import RunSpec

LABELS = {
    "decay_exponent": "learning rate x decay x steps",
    "epochs": "epochs",
    "examples_per_weight": "examples per weight",
    "noise_scale": "learning rate / batch size",
}
"""what pages and plans call them"""


@dataclass(frozen=True)
class Regime:
    """Of one run, up to a fraction of its steps."""

    decay_exponent: float
    """sum over steps of learning rate x weight decay: decay alone multiplies a weight by exp(-decay_exponent)"""
    epochs: float | None
    """passes over the training set; None where its size is not in the spec or data never end"""
    examples_per_weight: float | None
    """images or tokens seen, per trained weight; None where the size of the network is not known"""
    noise_scale: float
    """peak learning rate over batch size (in examples, or tokens for text)"""

    def numbers(self) -> dict[str, float]:
        """Those that are known, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def regime_of(
    spec: RunSpec, until: float = 1.0, weights: float | None = None, train_examples: int | None = None
) -> Regime:
    """The regime of a run.

    Args:
        until: fraction of the run up to which steps count, for claims about a first phase.
        weights: trained parameters of its network, where they are known.
        train_examples: images or tokens of the training set, where the spec does not say.
    """
    steps = round(until * spec.steps)
    per_step = spec.batch_size * (spec.model.context_length if spec.model.kind == "gpt" else 1)
    seen = steps * per_step
    size = spec.data.train_tokens if spec.data.kind == "text" else spec.data.train_examples
    endless = spec.data.kind == "images" and spec.data.fresh
    known = size or train_examples
    return Regime(
        decay_exponent=decay_exponent(spec, steps),
        epochs=seen / known if known and not endless else None,
        examples_per_weight=seen / weights if weights else None,
        noise_scale=spec.optimizer.learning_rate / per_step,
    )


def decay_exponent(spec: RunSpec, steps: int | None = None) -> float:
    """Sum over the first `steps` updates of learning rate x weight decay x the multiplier of its schedule.

    For decay that is not multiplied by the learning rate (`independent`) the learning rate counts as 1.
    """
    peak, total = spec.optimizer.learning_rate, 0.0
    for step in _sample(spec.steps if steps is None else steps):
        rate = learning_rate_at(spec.schedule, peak, spec.steps, step.position)
        factor = decay_multiplier_at(spec.decay.schedule, spec.steps, step.position, rate / peak)
        total += step.weight * factor * (1.0 if spec.decay.form == "independent" else rate)
    return total * spec.decay.weight_decay


@dataclass(frozen=True)
class _Step:
    position: int
    weight: float


def _sample(steps: int, most: int = 2000) -> list[_Step]:
    """All steps, or `most` of them evenly spaced: a run of 390,000 steps need not be walked through."""
    if steps <= most:
        return [_Step(step, 1.0) for step in range(steps)]
    width = steps / most
    return [_Step(int((part + 0.5) * width), width) for part in range(most)]
