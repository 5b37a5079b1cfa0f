"""What all parts of a RunSpec share."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from decaylab import plugins

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
WebAddress = Annotated[str, Field(pattern=r"^https?://[^\s<>\"']+$")]
"""what pages link to; other schemes, such as javascript:, would run on a click"""


class Strict(BaseModel):
    """Unknown keys, wrong types, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@functools.cache
def declared(kind: plugins.Kind, name: str, constant: str) -> Any:
    """A literal that a plug-in's file declares, such as its PARAMETERS; an empty mapping if it has none."""
    return plugins.literal(kind, name, constant) or {}


def check_plugin(kind: plugins.Kind, name: str) -> None:
    """Raises ValueError if there is no plug-in of that name."""
    known = plugins.available(kind)
    if name not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {name!r}")


@functools.cache
def _options(kind: plugins.Kind, name: str) -> type[Strict]:
    fields: dict[str, Any] = {
        key: (type(options["default"]), Field(**options)) for key, options in declared(kind, name, "PARAMETERS").items()
    }
    return create_model(f"{name} parameters", __base__=Strict, **fields)


def plugin_parameters(kind: plugins.Kind, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """All parameters of a plug-in as its file declares them, with defaults filled in.

    Raises:
        ValueError: naming the parameter and what was expected.
    """
    known = declared(kind, name, "PARAMETERS")
    try:
        return _options(kind, name).model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise ValueError(f"{name} has no {key}; expected {', '.join(known) or 'no parameters'}") from None
        raise ValueError(f"{key}: {first['msg']}, got {first['input']!r:.80}") from None


def without_defaults(kind: plugins.Kind, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Only the parameters that differ from their defaults, so that a default written out changes no id."""
    known = declared(kind, name, "PARAMETERS")
    return {key: value for key, value in parameters.items() if value != known[key]["default"]}
