"""The sources of Python's standard library: text that every machine has."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decaylab.data.archives import contents
from decaylab.data.text import PreparedText, write
from decaylab.errors import InputError
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {
    "kind": "text",
    "title": "sources of Python's standard library, without its tests",
    "licence": "Python Software Foundation License 2",
    "url": "https://docs.python.org/3/license.html",
    "tokens": 11_000_000,
    "key_fields": ("python",),
}

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"}

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise the library's sources into `folder`; returns its meta.json. Raises InputError."""
    return write(data, folder, documents())


def documents() -> Iterator[str]:
    """Python sources of the standard library: no tests, no installed packages, no file that names this machine."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = False
    for _, content in contents(root, _is_library, follow_links=False):
        found = True
        yield content.decode("utf-8", errors="replace")
    if not found:
        raise InputError(f"data source stdlib: no Python sources in {root}; give a text of your own with --text")


def _is_library(name: str) -> bool:
    return name.endswith(".py") and _NOT_LIBRARY.isdisjoint(name.split("/")) and not name.startswith("_sysconfigdata")
