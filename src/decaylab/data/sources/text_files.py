"""The user's own text: archives, folders and files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from decaylab.data.archives import contents, is_archive
from decaylab.data.store import source_paths
from decaylab.data.text import PreparedText, write
from decaylab.errors import InputError
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {"kind": "text", "title": "your own text"}

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex", ".py")

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise all documents into `folder`; returns its meta.json. Raises InputError."""
    return write(data, folder, _documents(source_paths(data, choice)))


def _documents(paths: Iterable[Path]) -> Iterator[str]:
    """Documents of the user's archives, folders and files, in this order. Raises InputError if there are none."""
    paths = tuple(paths)
    found = False
    for path in paths:
        if path.is_dir() or is_archive(path):
            documents = (content for _, content in contents(path, lambda name: name.lower().endswith(SUFFIXES)))
        else:
            documents = iter([_read(path)])
        for content in documents:
            found = True
            yield content.decode("utf-8", errors="replace")
    if not found:
        raise InputError(f"{' + '.join(map(str, paths))}: no files ending in {' '.join(SUFFIXES)}")


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if b"\0" in content[:8192]:
        raise InputError(f"{path}: expected text, or an archive (.tar, .tar.gz, .tar.xz, .tar.bz2, .zip)")
    return content
