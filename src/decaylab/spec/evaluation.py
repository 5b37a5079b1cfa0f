"""What a run measures, and how often."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pydantic import PositiveInt, field_validator

from decaylab.spec.base import Strict, check_plugin, declared, plugin_parameters, without_defaults

_TRAINING_COLUMNS = re.compile(
    r"step|batch_loss|learning_rate|weight_decay|weight_norm|gradient_norm|effective_learning_rate"
    r"|(ema_)?(train|validation|test)_(loss|error)"
)
"""what every training writes"""


class ProbeRequest(NamedTuple):
    """A probe that a spec asks for."""

    name: str
    """a file of probes/"""
    every: int | None
    """its own cadence in steps; None measures at evaluations"""
    parameters: dict[str, Any]
    """of the probe, with defaults filled in"""


class Evaluation(Strict):
    """What is measured and how often. Evaluation sets are fixed for a run, so curves are comparable."""

    every: PositiveInt
    """steps between evaluations; the last step is always evaluated"""
    log_every: PositiveInt
    """steps between rows of the running training loss, norms and effective learning rate"""
    train_examples: PositiveInt = 1000
    """training examples (windows of context_length for text) in the fixed evaluation of the training loss"""
    examples: PositiveInt | None = None
    """test images, or validation windows; None takes all"""
    probes: tuple[str | dict[str, dict[str, Any]], ...] = ()
    """files of probes/ by name, or `{name: {every: 700, parameter: value}}`"""

    @field_validator("probes")
    @classmethod
    def _canonical(cls, probes: tuple[str | dict[str, Any], ...]) -> tuple[str | dict[str, Any], ...]:
        """Checked, and without what equals a default: a plain name then has the id that it always had."""
        writers: dict[str, str] = {}
        canonical: list[str | dict[str, Any]] = []
        for item in probes:
            request = _request(item)
            for column in declared("probes", request.name, "COLUMNS"):
                if _TRAINING_COLUMNS.fullmatch(column):
                    raise ValueError(f"{request.name} writes the column {column}, which the training itself writes")
                if column in writers:
                    raise ValueError(f"{writers[column]} and {request.name} both write the column {column}")
                writers[column] = request.name
            rest: dict[str, Any] = {} if request.every is None else {"every": request.every}
            rest |= without_defaults("probes", request.name, request.parameters)
            canonical.append({request.name: rest} if rest else request.name)
        return tuple(canonical)

    @property
    def requests(self) -> list[ProbeRequest]:
        """The probes in their order, with all parameters filled in."""
        return [_request(item) for item in self.probes]


def _request(item: str | dict[str, Any]) -> ProbeRequest:
    if isinstance(item, str):
        item = {item: {}}
    if len(item) != 1:
        raise ValueError(f"expected the name of one probe and its parameters, got {item!r:.80}")
    ((name, given),) = item.items()
    check_plugin("probes", name)
    rest = dict(given)
    every = rest.pop("every", None)
    if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
        raise ValueError(f"{name}.every: expected a number of steps, got {every!r}")
    return ProbeRequest(name, every, plugin_parameters("probes", name, rest))
