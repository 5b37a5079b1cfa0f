"""Where data come from: built-in names, or archives, folders and files that the user points to.

Only names and digests are decided here (cheaply, without torch); `decaylab.data` reads the content.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from decaylab.errors import InputError
from decaylab.files import read_json, sha256_file, sha256_json, write_json

BUILTIN: dict[str, tuple[str, ...]] = {
    "images": ("procedural", "cifar10", "cifar100"),
    "text": ("stdlib", "openwebtext", "fineweb"),
}

_NAMED = re.compile(r"(.+)@([0-9a-f]{64})")


def data_home() -> Path:
    """The folder of archives and downloads: DECAYLAB_DATA, or `data`."""
    return Path(os.environ.get("DECAYLAB_DATA", "data"))


@dataclass(frozen=True)
class Choice:
    """A data source that the user chose in place of a replication's own."""

    source: str
    """goes into RunSpec.data.source: a built-in name, or file names joined by +"""
    sha256: str | None = None
    """digest of the content; None for built-in names"""
    paths: tuple[Path, ...] = ()

    def fields(self) -> dict[str, str | None]:
        return {"source": self.source, "sha256": self.sha256}

    @property
    def text(self) -> str:
        """What `choose` reads as this choice, whether or not its files are here."""
        return f"{self.source}@{self.sha256}" if self.sha256 else self.source

    @classmethod
    def from_text(cls, text: str) -> Choice:
        """A choice from its `text`; its files need not be here."""
        named = _NAMED.fullmatch(text)
        return cls(*named.groups()) if named else cls(text)


def choose(kind: Literal["images", "text"], value: str) -> Choice:
    """Resolve `--config images=VALUE` or `text=VALUE`.

    VALUE is a built-in name, or a path, or several joined by commas, or a pattern such as `books-*.tar.xz`;
    paths are looked up as given, then below DECAYLAB_DATA. NAME@SHA256 names files that need not be here: enough
    to plan, to judge and to show runs on them.

    Raises:
        InputError: nothing of that name exists.
    """
    if value in BUILTIN[kind]:
        return Choice(value)
    if named := _NAMED.fullmatch(value):
        return Choice(*named.groups())
    paths: list[Path] = []
    for part in value.split(","):
        found = _find(part)
        if not found:
            raise InputError(
                f"{kind}={value}: no data set, file or folder {part!r} here or in {data_home()}; "
                f"expected one of {', '.join(BUILTIN[kind])}, or the path of an archive, folder or file"
            )
        paths += found
    if kind == "images" and len(paths) > 1:
        raise InputError(f"images={value}: expected one archive or folder, found {len(paths)}")
    digests = [_remembered_digest(path) for path in paths]
    return Choice(
        source="+".join(path.name for path in paths),
        sha256=digests[0] if len(digests) == 1 else sha256_json(digests),
        paths=tuple(path.resolve() for path in paths),
    )


def locate(kind: Literal["images", "text"], source: str, choice: Choice | None = None) -> tuple[Path, ...]:
    """Paths of a source by its name in a RunSpec: those of `choice` if it is that one, else below DECAYLAB_DATA.

    Raises:
        InputError: a part of the source cannot be found.
    """
    if choice is not None and choice.source == source and choice.paths:
        return choice.paths
    paths = []
    # a + may also be part of a single file's name
    for name in [source] if (data_home() / source).exists() or Path(source).exists() else source.split("+"):
        path = next((base / name for base in (data_home(), Path()) if (base / name).exists()), None)
        if path is None:
            raise InputError(
                f"data source {name!r}: not found in {data_home()} (set DECAYLAB_DATA, or give its path with --{kind})"
            )
        paths.append(path)
    return tuple(paths)


def _find(part: str) -> list[Path]:
    """What a name or pattern stands for: here, or else below the data home."""
    for base in (Path(), data_home()):
        if part and (base / part).exists():
            return [base / part]
        if part and (found := sorted(glob.glob(str(base / part)))):
            return [Path(path) for path in found]
    return []


def _remembered_digest(path: Path) -> str:
    """The digest of a file, kept by its path, size and time: the workflow asks for it each time it is read.

    What is unpacked is always checked against the content itself, so a wrong memory is found out.
    """
    if path.is_dir():
        return digest(path)
    memory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "decaylab" / "digests.json"
    status = path.stat()
    key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    try:
        known = read_json(memory)
    except InputError:
        known = {}
    if key not in known:
        known[key] = digest(path)
        with contextlib.suppress(OSError):
            write_json(memory, known)
    return known[key]


def digest(path: Path) -> str:
    """sha256 of a file, or of a folder's relative names and their digests.

    Raises:
        InputError: something in it cannot be read.
    """
    try:
        if path.is_dir():
            return sha256_json([[item.relative_to(path).as_posix(), sha256_file(item)] for item in files(path)])
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read ({error.strerror})") from None


def files(folder: Path) -> list[Path]:
    """All files below a folder, in the order of their paths. Raises OSError where a folder cannot be listed."""
    found: list[Path] = []
    for root, _, names in os.walk(folder, onerror=_raise):
        found += [path for name in names if (path := Path(root, name)).is_file()]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error
