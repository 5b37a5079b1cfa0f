"""Files of an archive or folder, read one by one and never unpacked to the disk.

Archives are read to their end, so that damage anywhere is found. Members are refused as if they were unpacked: a path
that leads out is a sign of a bad archive.
"""

from __future__ import annotations

import posixpath
import re
import stat
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from decaylab.data import compression
from decaylab.data.inventory import Inventory, kind_of_file
from decaylab.errors import InputError
from decaylab.files import printable
from decaylab.limits import Allowance, TooLarge
from decaylab.sources import files

_TAR = re.compile(r"\.(tar|tar\.(gz|xz|lzma|bz2|zst)|tgz|txz|tlz|tbz2?|tzst)$", re.IGNORECASE)
_ZIP = re.compile(r"\.zip$", re.IGNORECASE)
FORMS = ".tar, .tar.gz, .tar.xz, .tar.bz2, .tar.zst, .zip"
_OTHER = re.compile(r"\.(7z|rar|cab|iso|dmg|lz4?|Z|cpio)$", re.IGNORECASE)
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, *compression.DAMAGE, ValueError)
_DEFLATE64 = 9
# bytes taken from a zip at a time; zipfile unpacks all that bzip2 and LZMA make of each piece of 4096
_ZIP_BLOCKS = {zipfile.ZIP_STORED: 1 << 20, zipfile.ZIP_DEFLATED: 1 << 20}
_SMALL_BLOCK = 1 << 12
_MOST_LINKS = 40
_MOST_ALIASES = 1_000_000
"""links to folders with links multiply: more is an attack"""

Wanted = Callable[[str], bool | str]
"""whether to read the file of that name; or the reason why it is left out, where its extension does not tell"""


def is_archive(path: Path) -> bool:
    """Whether the name is one of a tar (plain, gz, xz, bz2, zst) or zip archive."""
    return bool(_TAR.search(path.name) or _ZIP.search(path.name))


def contents(
    path: Path, wanted: Wanted, inventory: Inventory | None = None, *, follow_links: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Name (with /) and bytes of each file in an archive or folder for which `wanted(name)`; hidden ones left out.

    Folders are read in the order of names, archives in their own order, links after the files that they lead to.

    Args:
        inventory: told what was left out.
        follow_links: also read what links inside lead to; in a folder they may lead anywhere.

    Raises:
        InputError: unreadable, damaged, encrypted, a member whose path or link leads out of the archive, or more in it
            than its size allows.
    """
    inventory = inventory if inventory is not None else Inventory()

    def keep(name: str) -> bool:
        verdict = "hidden files" if _is_hidden(name) else wanted(name)
        if verdict is True:
            inventory.take(name)
            return True
        inventory.skip(name, verdict or kind_of_file(name))
        return False

    if path.is_dir():
        read = _folder(path, keep, inventory, follow_links)
    elif _TAR.search(path.name):
        read = _tar(path, keep, inventory)
    elif _ZIP.search(path.name):
        read = _zip(path, keep, inventory)
    else:
        what = "unpack it, and give the folder" if _OTHER.search(path.name) else f"expected a folder or {FORMS}"
        raise InputError(f"{path}: cannot be read: {what}")
    try:
        yield from read
    except TooLarge as error:
        raise InputError(f"{path}: {error}") from None
    except _BROKEN as error:
        raise InputError(f"{path}: damaged archive ({error})") from None
    except OSError as error:
        # decompressors raise OSError without a number for bad data
        reason = f"cannot be read ({error.strerror})" if error.errno else f"damaged archive ({error})"
        raise InputError(f"{error.filename or path}: {reason}") from None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".")


def _folder(
    path: Path, keep: Callable[[str], bool], inventory: Inventory, follow_links: bool
) -> Iterator[tuple[str, bytes]]:
    def broken(item: Path) -> None:
        inventory.skip(item.relative_to(path).as_posix(), "links that lead nowhere or in a circle")

    for item in files(path, follow_links=follow_links, unusable=broken):
        name = item.relative_to(path).as_posix()
        if keep(name):
            yield name, item.read_bytes()


class _Member(tarfile.TarInfo):
    """A header that is damaged is an error: tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.EmptyHeaderError:
            raise tarfile.ReadError("it ends without an end mark, so it may be cut off") from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Every member with a way to read it; what follows the end mark is checked as well."""
    with (
        compression.opened(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive,
    ):
        for member in archive:
            yield member, lambda member=member: archive.extractfile(member).read()
        while block := archive.fileobj.read(1 << 20):
            if block.strip(b"\0"):
                raise tarfile.ReadError("data follow its end mark: joined archives, or a damaged header")


def _tar(path: Path, keep: Callable[[str], bool], inventory: Inventory) -> Iterator[tuple[str, bytes]]:
    links: dict[str, str] = {}
    allowance = Allowance(path.stat().st_size)  # sparse members are large without any compression
    for member, content in _members(path):
        name = _inside(path, member.name)
        if member.issym():
            links[name] = _inside(path, member.name, posixpath.join(posixpath.dirname(member.name), member.linkname))
        elif member.islnk():
            links[name] = _inside(path, member.name, member.linkname)
        elif member.isfile() and keep(name):
            allowance.take(member.size)
            yield name, content()
    if links:
        # a stream cannot go back, so what links lead to is read in a second pass
        aliases = _Aliases(path, links)
        for member, content in _members(path):
            if member.isfile():
                names = list(filter(keep, aliases.of(_inside(path, member.name))))
                allowance.take(len(names) * member.size)
                data = content() if names else b""
                yield from ((name, data) for name in names)
        aliases.report(inventory)


def _zip(path: Path, keep: Callable[[str], bool], inventory: Inventory) -> Iterator[tuple[str, bytes]]:
    allowance = Allowance(path.stat().st_size)

    def content(member: zipfile.ZipInfo) -> bytes:
        allowance.take(member.file_size)
        return _zip_content(path, archive, member)

    with zipfile.ZipFile(path) as archive:
        links: dict[str, str] = {}
        plain: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = _inside(path, _zip_name(member))
            if stat.S_ISLNK(member.external_attr >> 16):
                target = content(member).decode("utf-8", "surrogateescape")
                links[name] = _inside(path, name, posixpath.join(posixpath.dirname(name), target))
            elif not member.is_dir():
                plain[name] = member
                if keep(name):
                    yield name, content(member)
        aliases = _Aliases(path, links)
        for target, member in plain.items():
            for name in filter(keep, aliases.of(target)):
                yield name, content(member)
        aliases.report(inventory)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """A name without the flag for UTF-8 is read as cp437, though many programs write UTF-8 all the same."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _zip_content(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.flag_bits & 1:
        raise InputError(f"{path}: encrypted; unpack it with its password, and give the folder")
    try:
        with archive.open(member) as file:
            size = _ZIP_BLOCKS.get(member.compress_type, _SMALL_BLOCK)
            return b"".join(iter(lambda: file.read(size), b""))
    except NotImplementedError:  # zipfile's error for a compression that it does not know
        method = "Deflate64" if member.compress_type == _DEFLATE64 else f"method {member.compress_type}"
        raise InputError(
            f"{path}: compressed by {method}, which Python cannot read; unpack it, and give the folder"
        ) from None


class _Aliases:
    """Further names of files, through the links of an archive to files and folders."""

    def __init__(self, path: Path, links: dict[str, str]) -> None:
        self._path = path
        self._links = links
        self._to: dict[str, list[str]] = defaultdict(list)
        self._used: set[str] = set()
        self._count = 0
        for name in links:
            end = self._end(name)
            if end != "." and not f"{name}/".startswith(f"{end}/"):
                self._to[end].append(name)

    def _end(self, name: str) -> str:
        """Where a link leads in the end; a circle leads anywhere within itself."""
        for _ in range(_MOST_LINKS):
            prefix = next((part for part in _prefixes(name) if part in self._links), None)
            if prefix is None:
                break
            name = posixpath.normpath(self._links[prefix] + name[len(prefix) :])
        return name

    def of(self, name: str) -> list[str]:
        """Names of links that lead to this file or to a folder above it. Raises InputError for too many."""
        found = []
        waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
        while waiting:
            here, used = waiting.pop()
            for prefix in _prefixes(here):
                for link in self._to.get(prefix, ()):
                    if link not in used:
                        self._used.add(link)
                        self._count += 1
                        if self._count > _MOST_ALIASES:
                            raise InputError(f"{self._path}: its links give more than {_MOST_ALIASES:,} names; refused")
                        found.append(link + here[len(prefix) :])
                        waiting.append((found[-1], used | {link}))
        return found

    def report(self, inventory: Inventory) -> None:
        for link in self._links.keys() - self._used:
            inventory.skip(link, "links that lead nowhere or in a circle")


def _prefixes(name: str) -> Iterator[str]:
    """`a/b/c`, `a/b`, `a`."""
    while name and name != ".":
        yield name
        name = posixpath.dirname(name)


def _inside(path: Path, name: str, target: str | None = None) -> str:
    """The normalised path of a member, or of what it links to. Raises InputError if that leads out of the archive."""
    slashed = (name if target is None else target).replace("\\", "/")
    plain = posixpath.normpath(slashed)
    if re.match(r"/|[A-Za-z]:/", slashed) or plain.split("/")[0] == "..":
        raise InputError(f"{path}: member {printable(name)!r} leads out of the archive; refused")
    return plain
