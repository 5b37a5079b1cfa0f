"""Prepared folders: whole or absent, and built by one process at a time."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import check_digest, read_json, sha256_json, write_digests, write_json
from decaylab.locks import exclusive
from decaylab.sources import Choice, digest, locate
from decaylab.spec import Data

Maker = Callable[[Data, Path, Choice | None], dict[str, Any]]
"""Fills an empty folder from a source and returns the content of its meta.json."""


def build(folder: Path, data: Data, choice: Choice | None, make: Maker) -> Path:
    """Return `folder`, made by `make` if it is not there, else checked. An error leaves nothing behind."""
    if _is_ready(folder):
        verify(folder)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as alone:
        if _is_ready(folder):
            return folder
        if alone:
            for left in folder.parent.glob(f".{folder.name}.*.building"):
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".building"))
        try:
            write_json(temporary / "meta.json", make(data, temporary, choice))
            write_digests(temporary, [path.name for path in temporary.iterdir() if path.is_file()])
            temporary.chmod(0o755)
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@functools.cache
def verify(folder: Path) -> None:
    """Compare what was prepared with its digests, once in a process. Raises InputError if a file is damaged."""
    for path in sorted(folder.iterdir()):
        check_digest(path, f"delete {folder}, and the data are prepared again")


def _is_ready(folder: Path) -> bool:
    return (folder / "meta.json").is_file()


def _publish(temporary: Path, folder: Path) -> None:
    if folder.exists() and not _is_ready(folder):
        shutil.rmtree(folder)  # a workflow manager deletes single outputs and makes empty folders
    try:
        temporary.rename(folder)
    except OSError:
        # without working locks another process may have been faster; its content is the same
        if not _is_ready(folder):
            raise


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold the folder's lock file; yields whether the file system supports it."""
    path = folder.parent / f".{folder.name}.lock"
    with exclusive(path) as alone:
        try:
            yield alone
        finally:
            path.unlink(missing_ok=True)


def meta(folder: Path) -> dict[str, Any]:
    """The content of a prepared folder's meta.json."""
    return read_json(folder / "meta.json")


def source_paths(data: Data, choice: Choice | None) -> tuple[Path, ...]:
    """Paths of a source that is no built-in name, once they match `data.sha256` (where that is given).

    Raises:
        InputError: not found, not readable, or other content than expected.
    """
    paths = locate(data.kind, data.source, choice)
    if data.sha256 is not None:
        digests = [digest(path) for path in paths]
        got = digests[0] if len(digests) == 1 else sha256_json(digests)
        if got != data.sha256:
            raise InputError(f"{' + '.join(map(str, paths))}: expected sha256 {data.sha256}, got {got}")
    return paths
