"""Weight decay as a RunSpec describes it."""

from __future__ import annotations

import functools
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, create_model, field_validator

from decaylab import plugins
from decaylab.spec.base import Fraction, NonNegative, Strict

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


@functools.cache
def form_literal(form: str, constant: str) -> dict[str, Any]:
    return plugins.literal("optim/forms", form, constant) or {}


@functools.cache
def _form_options(form: str) -> type[Strict]:
    """What `decay.parameters` may hold for a form."""
    declared = form_literal(form, "PARAMETERS").items()
    fields: dict[str, Any] = {name: (type(options["default"]), Field(**options)) for name, options in declared}
    return create_model(f"{form} parameters", __base__=Strict, **fields)


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
        known = plugins.available("optim/forms")
        if form not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {form!r}")
        return form

    @field_validator("parameters")
    @classmethod
    def _canonical(cls, parameters: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if not parameters or "form" not in info.data:
            return None
        form = info.data["form"]
        known = form_literal(form, "PARAMETERS")
        try:
            checked = _form_options(form).model_validate(parameters).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                raise ValueError(f"form {form} has no {name}; expected {', '.join(known) or 'no parameters'}") from None
            raise ValueError(f"{name}: {first['msg']}, got {first['input']!r:.80}") from None
        return {name: value for name, value in checked.items() if value != known[name]["default"]} or None

    @property
    def form_parameters(self) -> dict[str, Any]:
        """All parameters of the form, with defaults filled in."""
        return _form_options(self.form)(**(self.parameters or {})).model_dump()
