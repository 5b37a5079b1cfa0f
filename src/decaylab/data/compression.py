"""Compressed streams, recognised by their first bytes and read to their end, so that their checksums are verified."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO

from decaylab.limits import Allowance

SUFFIXES = (".gz", ".xz", ".lzma", ".bz2", ".zst")
DAMAGE = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
"""what the readers raise for bad data; besides them an OSError without a number"""

_START = 10
_BLOCK = 1 << 20
# "BZh" alone may begin a text
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")


def opened(path: Path) -> BinaryIO:
    """The unpacked content of a file, or the file itself if it is not compressed.

    Raises:
        OSError: it cannot be read.
        TooLarge: while it is read.
    """
    with open(path, "rb") as file:
        start = file.read(_START)
    reader = _reader(start, path)
    return _Counted(reader, Allowance(path.stat().st_size)) if reader else open(path, "rb")


def unpacked(content: bytes, *further: Allowance) -> bytes:
    """The same for bytes. Raises one of `DAMAGE`, OSError or TooLarge.

    Args:
        further: what else the unpacked bytes count for.
    """
    reader = _reader(content[:_START], io.BytesIO(content))
    if reader is None:
        return content
    with _Counted(reader, Allowance(len(content)), *further) as counted:
        return b"".join(iter(lambda: counted.read(_BLOCK), b""))


class _Counted(io.RawIOBase):
    """A stream of which no more is read than is allowed."""

    def __init__(self, stream: BinaryIO, *allowances: Allowance) -> None:
        self._stream, self._allowances = stream, allowances

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        for allowance in self._allowances:
            allowance.take(len(data))
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


def _reader(start: bytes, file: Path | BinaryIO) -> BinaryIO | None:
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if start.startswith((b"\xfd7zXZ\0", b"]\0\0")):
        return lzma.open(file)
    if start.startswith(b"BZh") and start[4:] in _BZIP2_BLOCKS:
        return bz2.open(file)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        # Python has zstd from 3.14 on only
        source = pyarrow.OSFile(str(file)) if isinstance(file, Path) else pyarrow.PythonFile(file, mode="r")
        return pyarrow.CompressedInputStream(source, "zstd")
    return None
