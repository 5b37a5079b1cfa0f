"""Generated sums, one a line: a task rather than a text, and nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data.text import PreparedText, write
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {
    "kind": "text",
    "title": "generated sums of two numbers",
    "licence": "generated; no rights reserved",
    "tokens": 900_000,
}

_DOCUMENTS = 200
_SUMS = 400
"""in a document"""
_LARGEST = 1000

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise the sums into `folder`; returns its meta.json."""
    return write(data, folder, documents())


def documents() -> Iterator[str]:
    """Lines such as `17+305=322`, with numbers below 1,000 drawn evenly; the same on every machine."""
    # raw draws of a generator, whose stream numpy keeps for good
    draws = np.random.PCG64(0).random_raw(2 * _DOCUMENTS * _SUMS) % _LARGEST
    for numbers in draws.astype(int).reshape(_DOCUMENTS, _SUMS, 2):
        yield "".join(f"{left}+{right}={left + right}\n" for left, right in numbers.tolist())
