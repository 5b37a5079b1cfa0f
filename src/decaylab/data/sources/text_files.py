"""The user's own text: archives, folders and files; plain, in tables, or tokenised (docs/data.md)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data import checks, compression, encodings, tables, token_files
from decaylab.data.archives import FORMS, contents, is_archive
from decaylab.data.inventory import Inventory
from decaylab.data.store import source_paths
from decaylab.data.text import PreparedText, write
from decaylab.data.tokenizers import tokenizer
from decaylab.errors import InputError
from decaylab.files import printable
from decaylab.limits import Allowance, TooLarge
from decaylab.sources import Choice
from decaylab.spec import TextData

ABOUT = {"kind": "text", "title": "your own text", "reader_version": 2}

PLAIN = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex", ".py")
ROWS = (".jsonl", ".ndjson", ".parquet", ".arrow")
SUFFIXES = (*PLAIN, *ROWS)

_COMPANION = re.compile(r"(readme|licen[cs]e|copying|notice|citation|changelog|authors|prepare)\b.*", re.IGNORECASE)
"""names of files that describe a data set"""
_MARKER = "<|endoftext|>"

Prepared = PreparedText


def prepare(data: TextData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Tokenise all documents into `folder`; returns its meta.json. Raises InputError."""
    paths = source_paths(data, choice)
    inventory = Inventory()
    counted = checks.Texts()
    about = write(data, folder, counted.watch(_documents(paths, inventory)))
    counted.note(about["tokens"], inventory)
    return about | {"found": inventory.to_json()}


def _documents(paths: Iterable[Path], inventory: Inventory) -> Iterator[str]:
    """Documents of the user's archives, folders and files, in this order. Raises InputError if there are none."""
    paths = tuple(paths)
    found = False
    for path in paths:
        try:
            whole = path.is_dir() or is_archive(path)
            for text in _members(path, inventory) if whole else _alone(path, inventory):
                found = True
                yield text
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
    if not found:
        skipped = f"; left out: {', '.join(inventory.skipped)}" if inventory.skipped else ""
        raise InputError(f"{' + '.join(map(str, paths))}: no files ending in {' '.join(SUFFIXES)}{skipped}")


def _members(path: Path, inventory: Inventory) -> Iterator[str]:
    """Documents of a folder or archive. What only describes tables or tokens is left out.

    Raises:
        ValueError: it holds plain documents as well as tables or tokens; which are meant cannot be told.
    """
    first: dict[bool, str] = {}
    companions: dict[str, bytes] = {}
    # of all compressed files in an archive; in a folder, each has its own
    within = () if path.is_dir() else (Allowance(path.stat().st_size),)

    def wanted(name: str) -> bool | str:
        if tables.is_cache(name):
            return "caches of the datasets library"
        return _plain_name(name).endswith(SUFFIXES) or token_files.is_tokens(name)

    for name, content in contents(path, wanted, inventory):
        plain = _plain_name(name).endswith(PLAIN)
        if plain and _COMPANION.fullmatch(posixpath.basename(name)):
            companions[name] = content
            continue
        first.setdefault(plain, name)
        if len(first) == 2:
            raise ValueError(
                f"documents ({printable(first[True])}) beside tables or tokens ({printable(first[False])}): give those "
                "that you mean, by their paths or a pattern"
            )
        yield from _texts(name, content, inventory, *within)
    for name, content in companions.items():
        if False in first:
            inventory.drop(name, "files that describe a table")
        else:
            yield from _texts(name, content, inventory, *within)


def _alone(path: Path, inventory: Inventory) -> Iterator[str]:
    """Documents of a file that was named directly, whatever it ends in. Raises InputError, ValueError."""
    inventory.take(path.name)
    try:
        if path.suffix.lower() == ".bin":
            data = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
            yield from token_files.documents(path.name, data, tokenizer("gpt2").decode)
            return
        content = _unpacked(path.name, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if _plain_name(path.name).endswith((*ROWS, ".json")):
        yield from _rows(path.name, content, inventory)
        return
    try:
        yield from _plain(path.name, content, inventory, marked=True)
    except ValueError as error:
        raise InputError(f"{path}: expected text, or an archive ({FORMS}): {error}") from None


def _texts(name: str, content: bytes, inventory: Inventory, *within: Allowance) -> Iterator[str]:
    """Documents of a file of an archive or folder."""
    if token_files.is_tokens(name):
        yield from token_files.documents(name, content, tokenizer("gpt2").decode)
        return
    content = _unpacked(name, content, *within)
    if _plain_name(name).endswith(ROWS):
        yield from _rows(name, content, inventory)
        return
    try:
        yield from _plain(name, content, inventory, marked=_plain_name(name).endswith((".txt", ".text")))
    except ValueError as error:
        inventory.drop(name, f"files that cannot be read as text ({error})")


def _plain(name: str, content: bytes, inventory: Inventory, *, marked: bool) -> Iterator[str]:
    """The text of a file, or the documents that are joined in it by end-of-text marks."""
    text, remark = encodings.decode(content)
    if remark:
        inventory.remarks[remark] += 1
    if marked and text.startswith("{") and tables.is_json_lines(text):
        inventory.remarks["files of JSON lines that are not named so: their rows were read"] += 1
        yield from _rows(f"{name}.jsonl", text.encode(errors="replace"), inventory)
    elif marked and _MARKER in text:
        parts = [part.strip("\r\n") for part in text.split(_MARKER)]
        parts = [part + "\n" for part in parts if part]
        inventory.remarks[f"documents that {_MARKER} separates"] += len(parts)
        yield from parts
    else:
        yield text


def _rows(name: str, content: bytes, inventory: Inventory) -> Iterator[str]:
    count = 0
    for count, text in enumerate(tables.texts(_plain_name(name, keep_case=True), content), start=1):  # noqa: B007
        yield text
    inventory.rows(_plain_name(name), count)


def _plain_name(name: str, *, keep_case: bool = False) -> str:
    """A file's name without what compression added to it."""
    base, suffix = posixpath.splitext(name)
    plain = base if suffix.lower() in compression.SUFFIXES else name
    return plain if keep_case else plain.lower()


def _unpacked(name: str, content: bytes, *within: Allowance) -> bytes:
    try:
        return compression.unpacked(content, *within)
    except TooLarge as error:
        raise ValueError(f"{printable(name)}: {error}") from None
    except (*compression.DAMAGE, OSError) as error:
        raise ValueError(f"{printable(name)}: damaged ({error})") from None
