"""FineWeb, its sample of 10 billion GPT-2 tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.data.sources import _hub
from decaylab.data.text import PreparedText, write
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {
    "kind": "text",
    "title": "FineWeb, its sample of 10 billion GPT-2 tokens",
    "licence": "collection: ODC-By-1.0; the pages belong to their authors",
    "url": "https://huggingface.co/datasets/HuggingFaceFW/fineweb",
}

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise the stream into `folder`; returns its meta.json. Raises InputError."""
    documents = _hub.documents(data.source, "HuggingFaceFW/fineweb", "sample-10BT")
    return write(data, folder, documents, streamed=True)
