"""Files of an archive or folder, read one by one and never unpacked to the disk.

Members are refused as if they were unpacked: a path that climbs out is a sign of a bad archive.
"""

from __future__ import annotations

import lzma
import posixpath
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from decaylab.errors import InputError
from decaylab.sources import files

_TAR = re.compile(r"\.(tar|tar\.(gz|xz|bz2)|tgz|txz|tbz2?)$", re.IGNORECASE)
_ZIP = re.compile(r"\.zip$", re.IGNORECASE)
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, RuntimeError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether the name is one of a tar (plain, gz, xz, bz2) or zip archive."""
    return bool(_TAR.search(path.name) or _ZIP.search(path.name))


def contents(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name (with /) and bytes of each file in an archive or folder for which `wanted(name)`; hidden ones left out.

    Folders are read in the order of names, archives in their own order.

    Raises:
        InputError: unreadable, corrupt, or a member whose path or link leads out of the archive.
    """
    if path.is_dir():
        read = _folder
    elif _TAR.search(path.name):
        read = _tar
    elif _ZIP.search(path.name):
        read = _zip
    else:
        raise InputError(f"{path}: expected a folder or an archive (.tar, .tar.gz, .tar.xz, .tar.bz2, .zip)")
    try:
        yield from read(path, lambda name: not _is_hidden(name) and wanted(name))
    except _BROKEN as error:
        raise InputError(f"{path}: corrupt archive ({error})") from None
    except OSError as error:
        # decompressors raise OSError without a number for bad data
        reason = f"cannot be read ({error.strerror})" if error.errno else f"corrupt archive ({error})"
        raise InputError(f"{error.filename or path}: {reason}") from None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")


def _folder(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for item in files(path):
        name = item.relative_to(path).as_posix()
        if wanted(name):
            yield name, item.read_bytes()


def _tar(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.issym():
                _check(path, member.name, posixpath.join(posixpath.dirname(member.name), member.linkname))
            else:
                _check(path, member.name, member.linkname if member.islnk() else "")
            if member.isfile() and wanted(member.name):
                yield member.name, archive.extractfile(member).read()


def _zip(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            target = posixpath.join(posixpath.dirname(name), archive.read(member).decode()) if is_link else ""
            _check(path, name, target)
            if not member.is_dir() and not is_link and wanted(name):
                yield name, archive.read(member)


def _check(path: Path, name: str, target: str) -> None:
    for place in (name, target):
        slashed = place.replace("\\", "/")
        if re.match(r"/|[A-Za-z]:/", slashed) or posixpath.normpath(slashed).split("/")[0] == "..":
            raise InputError(f"{path}: member {name!r} leads out of the archive; refused")
