"""One clear line, and exit code 2, for a configuration that cannot work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from decaylab.errors import InputError

Result = TypeVar("Result")


def keyed(key: str, read: Callable[[], Result]) -> Result:
    """What `read` returns. An InputError gets the configuration's key in front of its message."""
    try:
        return read()
    except InputError as error:
        raise InputError(f"config: {key}: {error}") from None


def explain_config(error: BaseException) -> str:
    """One line that names the key, from what `snakemake.utils.validate` raised."""
    cause = error.__context__  # the jsonschema.ValidationError
    if not hasattr(cause, "validator"):
        return f"config: {' '.join(str(error).split())}"
    where = ".".join(map(str, cause.absolute_path))
    if cause.validator == "additionalProperties":
        known = cause.schema["properties"]
        unknown = sorted(set(cause.instance) - set(known))
        prefix = f"{where}." if where else ""
        return f"config: {prefix}{unknown[0]}: unknown key, expected one of {', '.join(known)}"
    expected = cause.schema.get("description", cause.message)
    if cause.validator == "enum":
        expected = ", ".join(map(str, cause.validator_value))
    return f"config: {where}: expected {expected}, got {cause.instance!r}"


def stop(message: str) -> NoReturn:
    """End snakemake with one line and exit code 2, because the user's input is wrong."""
    sys.stderr.write(f"decaylab: {' '.join(message.split())}\n")
    raise SystemExit(2)
