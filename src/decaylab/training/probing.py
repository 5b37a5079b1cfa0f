"""Runs the probes of a spec at their moments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from decaylab import plugins
from decaylab.data import Dataset
from decaylab.data.draws import generator
from decaylab.errors import InputError
from decaylab.optim.schedules import learning_rate_at
from decaylab.probes._mode import undisturbed
from decaylab.probes._protocol import BaseProbe, Moment, View
from decaylab.spec import RunSpec
from decaylab.spec.base import declared
from decaylab.training.evaluation import refresh_batch_norm

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
        rounds = math.ceil(spec.steps / (every or spec.evaluation.every))
        calls = {"evaluation": 1 + rounds, "update": rounds, "end": 1}[probe.moment]
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
        """Call the due probes before the update that finishes `step`.

        Returns:
            What to call right after the update, with its learning rate, to fill `values`; None if no probe is due.
        """
        due = self.due("update", step)
        if not due:
            return None
        coming = self._learning_rate(step)
        for name, probe in due:
            with undisturbed(self.learner.model, self.learner.device):
                probe.before(self._view(name, step - 1, coming))
        return lambda learning_rate: values.update(self._measure(due, step, learning_rate))

    def measure(self, moment: Moment, step: int) -> dict[str, Tensor | float | str]:
        """What the probes of a moment say after `step` finished updates."""
        due = self.due(moment, step)
        return self._measure(due, step, self._learning_rate(step)) if due else {}

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """What probes remember, by their names, for a checkpoint."""
        return {name: probe.state for name, _, probe in self.probes}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        for name, _, probe in self.probes:
            probe.state = {key: value.to(self.learner.device) for key, value in state.get(name, {}).items()}

    def _learning_rate(self, step: int) -> float:
        """Of the update that finishes `step`; 0 before the first."""
        spec = self.spec
        return learning_rate_at(spec.schedule, spec.optimizer.learning_rate, spec.steps, step - 1) if step else 0.0

    def _measure(
        self, due: list[tuple[str, BaseProbe]], step: int, learning_rate: float
    ) -> dict[str, Tensor | float | str]:
        values: dict[str, Tensor | float | str] = {}
        for name, probe in due:
            with undisturbed(self.learner.model, self.learner.device):
                found = probe.measure(self._view(name, step, learning_rate))
            _check(name, probe, found)
            values |= found
        return values

    def _view(self, name: str, step: int, learning_rate: float) -> View:
        learner = self.learner
        return View(
            spec=self.spec,
            model=learner.model,
            step=step,
            learning_rate=learning_rate,
            optimizer=learner.optimizer,
            decay=learner.decay,
            grouped=learner.grouped,
            loss=_twice_differentiable(learner.functional_loss(wide=True)),
            average=self._average,
            batches=self.data.evaluation,
            autocast=learner.computing,
            generator=generator("probe", self.seed, name, step),
        )

    def _average(self) -> nn.Module:
        average = self.learner.ema
        if average is None:
            raise InputError("evaluation.probes: a probe asks for averaged weights; expected `ema` in the run's spec")
        examples = self.data.evaluation("train", self.spec.evaluation.train_examples)
        refresh_batch_norm(average, examples, self.learner.model)
        return average


def _twice_differentiable(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same loss without fused attention, which has no second derivative."""

    def differentiable(*arguments: Any) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return loss(*arguments)

    return differentiable


def _check(name: str, probe: BaseProbe, found: dict[str, Tensor | float | str]) -> None:
    """Raises TypeError if a probe writes a column that its file does not declare, or text before the end."""
    columns = declared("probes", name, "COLUMNS")
    for column, value in found.items():
        if isinstance(value, str):
            if probe.moment != "end":
                raise TypeError(f"probes/{name}.py: {column}: expected a number before the end of a run, got text")
        elif column.partition(".")[0] not in columns:
            raise TypeError(f"probes/{name}.py writes {column}; expected the columns in COLUMNS: {', '.join(columns)}")
