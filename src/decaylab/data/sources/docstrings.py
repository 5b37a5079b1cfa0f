"""The documentation strings of Python's standard library: English text that every machine has."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decaylab.data.sources.stdlib import documents
from decaylab.data.text import PreparedText, write
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {
    "kind": "text",
    "title": "documentation strings of Python's standard library, without its tests",
    "licence": "Python Software Foundation License 2",
    "url": "https://docs.python.org/3/license.html",
    "tokens": 1_500_000,
    "key_fields": ("python",),
}

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise the strings into `folder`, a document for each module; returns its meta.json. Raises InputError."""
    return write(data, folder, ("\n\n".join(docstrings(source)) for source in documents()))


def docstrings(source: str) -> Iterator[str]:
    """Documentation strings of a module, its classes and functions, without indentation; none if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old sources
            tree = ast.parse(source)
    except SyntaxError:
        return
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text
