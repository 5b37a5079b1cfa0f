"""The configuration as people write it, before it is checked: `~`, variables, `null`, and numbers given as text."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.workspace import find_root

_CHOICES = ("images", "text")
_FOLDERS = ("results", "reports")
_TEXTS = (*_CHOICES, *_FOLDERS, "replications")


def tidy(config: dict[str, Any]) -> None:
    """Change values in place into what their writer meant. The schema checks them afterwards.

    Raises:
        InputError: a name that was read as a number, a variable that is not set, or a folder that cannot be a path.
    """
    for key in _TEXTS:
        value = config.get(key)
        if isinstance(value, int | float):
            raise InputError(
                f"config: {key}: expected text, got the number {value}; "
                f"for a file or folder of that name write {key}=./{_as_typed(key, value)}"
            )
    for key in _CHOICES:
        if config.get(key) == "null":  # the command line has no other way to say it
            config[key] = None
        elif isinstance(config.get(key), str):
            config[key] = ",".join(_expanded(key, part) for part in config[key].split(","))
    for key in _FOLDERS:
        if isinstance(config.get(key), str):
            config[key] = _expanded(key, config[key])
            if set("{}") & set(config[key]):
                raise InputError(f"config: {key}: expected a folder without braces, got {config[key]!r}")
    limits = config.get("runs_per_process")
    if isinstance(limits, dict):  # snakemake reads numbers inside a mapping as text
        config["runs_per_process"] = {
            scale: int(limit) if isinstance(limit, str) and limit.isdecimal() else limit
            for scale, limit in limits.items()
        }


def _expanded(key: str, value: str) -> str:
    """A path with `~` and variables replaced."""
    path = os.path.expandvars(os.path.expanduser(value))
    if unset := re.search(r"\$\{(\w+)\}", path):
        raise InputError(f"config: {key}: {value}: the variable {unset[1]} is not set")
    return path


def _as_typed(key: str, value: object) -> str:
    """The value as it stands on the command line: 2023_11 where Python read 202311."""
    typed = [word.partition("=")[2] for word in sys.argv if word.startswith(f"{key}=")]
    return typed[-1] if typed else str(value)


def find_clone(rules: str | Path) -> Path:
    """The clone whose replications run: the one around the working directory, else the one that has the workflow.

    The latter serves `snakemake -s CLONE/workflow/Snakefile`, `--directory`, and other workflows that use this one as
    a module. The programs that jobs start learn it from the environment.

    Args:
        rules: the workflow's folder `workflow/rules`.

    Raises:
        InputError: the workflow is no part of a clone either, for example because it was given as an address.
    """
    try:
        return find_root()
    except InputError:
        root = Path(rules).resolve().parents[1]
        if not (root / "replications").is_dir():
            raise InputError(
                f"{root}: no folder `replications`; the workflow needs a clone on this machine: "
                "give the path of its workflow/Snakefile"
            ) from None
        os.environ["DECAYLAB_ROOT"] = str(root)
        return root
