"""Runs the probes of a spec at their moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from decaylab import plugins
from decaylab.data import Dataset
from decaylab.data.draws import generator
from decaylab.optim.schedules import learning_rate_at
from decaylab.probes._mode import undisturbed
from decaylab.probes._protocol import BaseProbe, Moment, View
from decaylab.spec import RunSpec

if TYPE_CHECKING:
    from decaylab.training.learner import Learner


def build_probes(spec: RunSpec) -> list[tuple[str, int | None, BaseProbe]]:
    """(name, own cadence, probe) of everything that a spec measures."""
    return [
        (request.name, request.every, plugins.load("probes", request.name).Probe(**request.parameters))
        for request in spec.evaluation.requests
    ]


def example_passes(spec: RunSpec) -> float:
    """Forward passes of single examples that all probes of a run cost together."""
    total = 0.0
    for _, every, probe in build_probes(spec):
        calls = 1 if probe.moment == "end" else 1 + spec.steps // (every or spec.evaluation.every)
        total += calls * probe.example_passes(spec)
    return total


class Probing:
    """The probes of one run.

    Args:
        seed: with a probe's name and the step, it decides the probe's own random numbers.
    """

    def __init__(self, spec: RunSpec, learner: Learner, data: Dataset, seed: int) -> None:
        self.spec, self.learner, self.data, self.seed = spec, learner, data, seed
        self.probes = build_probes(spec)

    def due(self, moment: Moment, step: int) -> list[tuple[str, BaseProbe]]:
        """Probes of a moment that measure after `step` finished updates; the last step is always measured."""
        return [
            (name, probe)
            for name, every, probe in self.probes
            if probe.moment == moment
            and (moment == "end" or step % (every or self.spec.evaluation.every) == 0 or step == self.spec.steps)
        ]

    def around_update(self, step: int, values: dict[str, Any]) -> Callable[[float], None] | None:
        """What to call right after the update that finishes `step` with its learning rate, if any probe is due."""
        due = self.due("update", step)
        return (lambda learning_rate: values.update(self._measure(due, step, learning_rate))) if due else None

    def measure(self, moment: Moment, step: int) -> dict[str, Tensor | float | str]:
        """What the probes of a moment say after `step` finished updates."""
        due = self.due(moment, step)
        if not due:
            return {}
        spec = self.spec
        peak = spec.optimizer.learning_rate
        rate = learning_rate_at(spec.schedule, peak, spec.steps, step - 1) if step else 0.0
        return self._measure(due, step, rate)

    def _measure(
        self, due: list[tuple[str, BaseProbe]], step: int, learning_rate: float
    ) -> dict[str, Tensor | float | str]:
        learner = self.learner
        values: dict[str, Tensor | float | str] = {}
        for name, probe in due:
            view = View(
                spec=self.spec,
                model=learner.model,
                step=step,
                learning_rate=learning_rate,
                optimizer=learner.optimizer,
                decay=learner.decay,
                grouped=learner.grouped,
                loss=learner.functional_loss(),
                batches=self.data.evaluation,
                autocast=learner.autocast,
                generator=generator("probe", self.seed, name, step),
            )
            with undisturbed(learner.model, learner.device):
                values |= probe.measure(view)
        return values
