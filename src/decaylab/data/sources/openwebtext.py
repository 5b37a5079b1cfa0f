"""OpenWebText: pages linked from Reddit with at least three upvotes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.data.sources import _hub
from decaylab.data.text import PreparedText, write
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {
    "kind": "text",
    "title": "OpenWebText: pages linked from Reddit with at least three upvotes",
    "licence": "collection: CC0-1.0; the pages belong to their authors",
    "url": "https://huggingface.co/datasets/Skylion007/openwebtext",
}

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise the stream into `folder`; returns its meta.json. Raises InputError."""
    documents = _hub.documents(data.source, "Skylion007/openwebtext", None)
    return write(data, folder, documents, streamed=True)
