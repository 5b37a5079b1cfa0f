"""Data sources: what each one is, and which files the user means.

A source is one file, `data/sources/<name>.py`. What can be known before it is read stands there as the literal `ABOUT`,
which is read without importing the file: nothing here needs torch. `decaylab.data` reads the content.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from decaylab import plugins
from decaylab.errors import InputError
from decaylab.files import printable, read_json, sha256_file, sha256_json, write_json

Kind = Literal["images", "text"]

_NAMED = re.compile(r"(.+)@([0-9a-f]{64})")
_READERS = {"images": "image_files", "text": "text_files"}
"""plug-ins that read the user's own files"""


@dataclass(frozen=True)
class DataSource:
    """What is known of a source before it is read: the literal `ABOUT` of its file."""

    name: str
    kind: Kind
    title: str
    licence: str | None = None
    """None where only the user can know"""
    url: str | None = None
    """where its files, or a description of them, are published"""
    classes: int | None = None
    """of images; None where the spec (`generated`) or the content decides"""
    examples: Mapping[str, int] | None = None
    """images in each split, or documents in all; None where it is not fixed"""
    tokens: int | None = None
    """bytes of text, roughly; None for images or where it is not fixed"""
    download_bytes: int = 0
    """what has to be fetched before the first use"""
    generated: bool = False
    """made on demand: the spec gives the number of examples and of classes, and may ask for fresh ones in each step"""
    reader_version: int = 1
    """raised when the same files are prepared into other bytes, so that old folders are not reused"""
    key_fields: tuple[str, ...] = ()
    """what decides the prepared content besides the fields common to its kind: fields of the spec, or `python`"""


@functools.cache
def about(name: str) -> DataSource:
    """The facts of a plug-in of `data/sources`. Raises InputError for a name that is none, or without `ABOUT`."""
    plugins.check("data/sources", name, "data source")
    facts = plugins.literal("data/sources", name, "ABOUT")
    try:
        return DataSource(name, **facts)
    except TypeError as error:
        path = plugins.path_of("data/sources", name)
        raise InputError(f"{path}: ABOUT: expected the fields of decaylab.sources.DataSource ({error})") from None


@functools.cache
def names(kind: Kind) -> tuple[str, ...]:
    """Names that `--config images=` or `text=` takes in place of a path."""
    found = (name for name in plugins.available("data/sources") if name not in _READERS.values())
    return tuple(name for name in found if about(name).kind == kind)


def is_named(source: str) -> bool:
    """Whether a source of a spec is a plug-in's name rather than the name of the user's files."""
    return source in names("images") or source in names("text")


def source_of(kind: Kind, source: str) -> DataSource:
    """The facts of the plug-in that reads a spec's source: the one of that name, or the reader of the user's files."""
    return about(source if source in names(kind) else _READERS[kind])


def classes_of(data: Any) -> int:
    """Number of classes of a spec's images, for prices; what the user's own files hold is known once they are read."""
    facts = source_of("images", data.source)
    return facts.classes or data.classes


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


def choose(kind: Kind, value: str) -> Choice:
    """Resolve `--config images=VALUE` or `text=VALUE`.

    VALUE is a built-in name, or a path, or several joined by commas, or a pattern such as `books-*.tar.xz`;
    paths are looked up as given, then below DECAYLAB_DATA. NAME@SHA256 names files that need not be here: enough
    to plan, to judge and to show runs on them.

    Raises:
        InputError: nothing of that name exists.
    """
    if value in names(kind):
        return Choice(value)
    if named := _NAMED.fullmatch(value):
        return Choice(*named.groups())
    paths: list[Path] = []
    for part in _parts(value):
        found = _find(part)
        if not found:
            raise InputError(
                f"{kind}={value}: no data set, file or folder {part!r} here or in {data_home()}; "
                f"expected one of {', '.join(names(kind))}, or the path of an archive, folder or file"
            )
        paths += found
    if kind == "images" and len(paths) > 1:
        raise InputError(f"images={value}: expected one archive or folder, found {len(paths)}")
    if taken := next((path for path in paths if path.resolve().name in names(kind)), None):
        raise InputError(f"{kind}={value}: {taken.name!r} is the name of a built-in source; rename {taken}")
    if strange := next((path for path in paths if not _is_utf8(path.resolve().name)), None):
        raise InputError(f"{kind}: {printable(str(strange))}: its name is not UTF-8; rename it")
    digests = [_remembered_digest(path) for path in paths]
    return Choice(
        source="+".join(path.name for path in paths),
        sha256=digests[0] if len(digests) == 1 else sha256_json(digests),
        paths=tuple(path.resolve() for path in paths),
    )


def locate(kind: Kind, source: str, choice: Choice | None = None) -> tuple[Path, ...]:
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


def found_lines(found: Mapping[str, Any]) -> list[str]:
    """What was read, left out and noted, as sentences for a terminal or a page: the `found` of a meta.json."""
    said = [f"read {', '.join(f'{count:,} {kind}' for kind, count in found['read'].items())}"] if found["read"] else []
    said += [
        f"left out {item['count']:,} {reason}, for example {item['for_example']}"
        for reason, item in found["skipped"].items()
    ]
    return said + found["notes"]


def _parts(value: str) -> Iterator[str]:
    """What commas separate; a comma may also be part of a path that is there."""
    words = value.split(",")
    while words:
        joined = (count for count in range(len(words), 1, -1) if _find(",".join(words[:count])))
        count = next(joined, 1)
        yield ",".join(words[:count])
        words = words[count:]


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
    key = f"{printable(str(path.resolve()))}:{status.st_size}:{status.st_mtime_ns}"
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
            return sha256_json(
                [[printable(item.relative_to(path).as_posix()), sha256_file(item)] for item in files(path)]
            )
        return sha256_file(path)
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read ({error.strerror})") from None


def _is_utf8(name: str) -> bool:
    return printable(name) == name


def files(
    folder: Path, *, follow_links: bool = True, unusable: Callable[[Path], None] = lambda path: None
) -> list[Path]:
    """All files below a folder, in the order of their paths. Raises OSError where a folder cannot be listed.

    Args:
        follow_links: also enter linked folders.
        unusable: called with links that lead nowhere, or back to a folder above them.
    """
    found: list[Path] = []

    def walk(here: Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(here)
        for entry in os.scandir(here):
            path = here / entry.name
            if entry.is_dir():
                if not entry.is_symlink():
                    walk(path, (*above, real))
                elif os.path.realpath(path) in (*above, real):
                    unusable(path)
                elif follow_links:
                    walk(path, (*above, real))
            elif entry.is_file():
                found.append(path)
            elif entry.is_symlink():
                unusable(path)

    walk(folder, ())
    return sorted(found)
