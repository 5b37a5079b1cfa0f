"""Weight decay as a RunSpec describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ValidationInfo, field_validator

from decaylab.spec.base import Fraction, NonNegative, Strict, check_plugin, plugin_parameters, without_defaults

Group = Literal["embedding", "attention", "mlp", "convolution", "norm", "bias", "head"]
GROUPS: tuple[Group, ...] = ("embedding", "attention", "mlp", "convolution", "norm", "bias", "head")


class DecaySchedule(Strict):
    """Multiplier of weight_decay over the steps of the run."""

    kind: Literal["constant", "linear", "cosine", "follow_learning_rate", "window"] = "constant"
    final_fraction: NonNegative = 0.0
    """linear and cosine: multiplier at the last step"""
    start: Fraction = 0.0
    """window: decay is on from this fraction of the run ..."""
    end: Fraction = 1.0
    """... to this one"""


class Decay(Strict):
    """Weight decay: how much, in which form, of which groups, on which schedule."""

    weight_decay: NonNegative = 0.0
    form: str = "decoupled"
    """what decay does to a weight: a file of `optim/forms/`"""
    parameters: dict[str, Any] | None = None
    """of the form, as its file declares them; those equal to their default are left out"""
    multipliers: dict[Group, NonNegative] = {}
    """factor on weight_decay for each parameter group; absent groups have 1"""
    schedule: DecaySchedule = DecaySchedule()

    @field_validator("form")
    @classmethod
    def _exists(cls, form: str) -> str:
        check_plugin("optim/forms", form)
        return form

    @field_validator("parameters")
    @classmethod
    def _canonical(cls, parameters: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if not parameters or "form" not in info.data:
            return None
        form = info.data["form"]
        checked = plugin_parameters("optim/forms", form, parameters)
        return without_defaults("optim/forms", form, checked) or None

    @property
    def form_parameters(self) -> dict[str, Any]:
        """All parameters of the form, with defaults filled in."""
        return plugin_parameters("optim/forms", self.form, self.parameters or {})
