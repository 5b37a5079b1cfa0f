"""Plug-ins: one file each, found by its name in the folder of its kind.

A new file is a new name that specs can use. No list names it, so it is part of the code digest of the runs that use it,
and of no others. A plug-in is imported only when it is loaded, because most of them import torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from decaylab.errors import InputError

PACKAGE = Path(__file__).parent

Kind = Literal["models", "probes", "optim/forms", "data/sources"]
"""a folder of the package whose files are plug-ins"""
KINDS: tuple[Kind, ...] = ("models", "probes", "optim/forms", "data/sources")


def available(kind: Kind) -> tuple[str, ...]:
    """Names of all plug-ins of a kind, sorted. Files that begin with an underscore are helpers."""
    return tuple(sorted(path.stem for path in (PACKAGE / kind).glob("[!_]*.py")))


def path_of(kind: Kind, name: str) -> Path:
    """Path of a plug-in, which need not exist."""
    return PACKAGE / kind / f"{name}.py"


def check(kind: Kind, name: str, where: str) -> None:
    """Raises InputError, with a line that starts with `where`, if there is no plug-in of that name."""
    if name not in available(kind):
        raise InputError(f"{where}: expected one of {', '.join(available(kind))}, got {name!r}")


def load(kind: Kind, name: str) -> ModuleType:
    """The module of a plug-in. Raises InputError if there is none of that name."""
    check(kind, name, kind.rpartition("/")[2].removesuffix("s"))
    return importlib.import_module(f"decaylab.{kind.replace('/', '.')}.{name}")


def literal(kind: Kind, name: str, constant: str) -> Any:
    """The value of a top-level literal in a plug-in, read without importing the file.

    None if the file has no such constant. Raises ValueError if it is not a literal.
    """
    for node in ast.parse(path_of(kind, name).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            return ast.literal_eval(node.value)
    return None
