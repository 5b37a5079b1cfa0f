"""Small files that become large: each is refused by its size in one line, and leaves nothing behind."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import ipc, parquet

from decaylab import limits
from decaylab.analysis.pack import read_pack
from decaylab.analysis.run_table import restore_table
from decaylab.data import prepare
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import choose
from decaylab.spec import ImageData, TextData

FREE = 50_000
FLAT = b"a line that repeats itself\n" * 40_000
"""a megabyte"""


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(limits, "FREE", FREE)
    monkeypatch.setattr(limits, "RATIO", 20)


def packed_tar(compress: Callable[[bytes], bytes], name: str = "a.txt", content: bytes = FLAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return compress(buffer.getvalue())


def zipped(method: int, content: bytes = FLAT) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.txt", content)
    return buffer.getvalue()


def understated(method: int) -> bytes:
    """A zip whose headers say that its member has ten bytes."""
    content = bytearray(zipped(method))
    for start, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = content.index(start) + offset
        content[at : at + 4] = (10).to_bytes(4, "little")
    return bytes(content)


def overlapping() -> bytes:
    """A zip whose entries all stand for the same few bytes."""
    content = zipped(zipfile.ZIP_DEFLATED, b"a line\n" * 1000)
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry, count = content[start:end], 500
    tail = bytearray(content[end:])
    tail[8:10] = tail[10:12] = count.to_bytes(2, "little")
    tail[12:16] = (count * len(entry)).to_bytes(4, "little")
    return content[:start] + count * entry + bytes(tail)


def sparse() -> bytes:
    """A plain tar, 1.5 kB, with a member of a terabyte, none of which is stored."""
    member = tarfile.TarInfo("a.txt")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}
    return member.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def table(form: str) -> bytes:
    rows = pa.table({"text": [FLAT.decode()[:2000]] * 5000})
    buffer = io.BytesIO()
    if form in ("parquet", "plain"):  # what a dictionary holds once shows only when it is read
        parquet.write_table(rows, buffer, use_dictionary=form == "parquet", compression="zstd")
    else:
        with ipc.new_file(buffer, rows.schema, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(rows)
    return buffer.getvalue()


TEXTS = {
    "a.tar.gz": lambda: packed_tar(gzip.compress),
    "a.tar.xz": lambda: packed_tar(lzma.compress),
    "a.tar.bz2": lambda: packed_tar(bz2.compress),
    "unread.tar.gz": lambda: packed_tar(gzip.compress, "a.bin"),
    "sparse.tar": sparse,
    "deflate.zip": lambda: zipped(zipfile.ZIP_DEFLATED),
    "bzip2.zip": lambda: zipped(zipfile.ZIP_BZIP2),
    "lzma.zip": lambda: zipped(zipfile.ZIP_LZMA),
    "overlapping.zip": overlapping,
    "a.txt.gz": lambda: gzip.compress(FLAT),
    "a.txt.xz": lambda: lzma.compress(FLAT),
    "a.jsonl.bz2": lambda: bz2.compress(FLAT),
    "nested.tar.gz": lambda: packed_tar(gzip.compress, "a.txt.gz", gzip.compress(FLAT)),
    "a.parquet": lambda: table("parquet"),
    "plain.parquet": lambda: table("plain"),
    "a.arrow": lambda: table("arrow"),
}


def refused(data, path: Path, results: Path, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        prepare(data, Layout(results), choose(data.kind, str(path)))
    line = str(refusal.value)
    assert line.startswith(str(path))
    assert words in line
    assert "\n" not in line
    assert [item for item in results.rglob("*") if item.is_file()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_text(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(TEXTS[name]())
    assert path.stat().st_size < FREE
    data = TextData(**choose("text", str(path)).fields())
    refused(data, path, tmp_path / "results", "refused, since this may be an attack")


@pytest.mark.parametrize("name", ["a.txt.zst", "a.tar.zst"])
def test_zstandard(tmp_path, name):
    path = tmp_path / name
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(FLAT if name == "a.txt.zst" else packed_tar(bytes))
    data = TextData(**choose("text", str(path)).fields())
    refused(data, path, tmp_path / "results", "refused, since this may be an attack")


def test_a_compressed_file_of_a_folder(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt.gz").write_bytes(gzip.compress(FLAT))
    data = TextData(**choose("text", str(folder)).fields())
    refused(data, folder, tmp_path / "results", "a.txt.gz: ")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_size_that_is_understated_is_damage(tmp_path, method):
    path = tmp_path / "a.zip"
    path.write_bytes(understated(method))
    data = TextData(**choose("text", str(path)).fields())
    refused(data, path, tmp_path / "results", "damaged archive")


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=np.zeros((2000, 8, 8, 3), np.uint8), y_train=np.zeros(2000, np.int64))
    data = ImageData(**choose("images", str(path)).fields())
    refused(data, path, tmp_path / "results", "refused, since this may be an attack")


def test_an_array_that_is_larger_than_memory_by_its_header_only(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)})
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    data = ImageData(**choose("images", str(path)).fields())
    refused(data, path, tmp_path / "results", "cannot be read as arrays")


def test_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    folder = tmp_path / "images" / "train" / "cat"
    folder.mkdir(parents=True)
    Image.new("1", (100, 100)).save(folder / "a.png")
    data = ImageData(**choose("images", str(tmp_path / "images")).fields())
    refused(data, tmp_path / "images", tmp_path / "results", "train/cat/a.png: more than 2,000 pixels; refused")


def test_a_pack(tmp_path):
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("pack.json", "claims.jsonl", "runs.parquet"):
            archive.writestr(name, FLAT)
    with pytest.raises(InputError, match=r"pack\.zip: not a pack, or a damaged one \(.* refused"):
        read_pack(path, Layout(tmp_path / "results"))
    with pytest.raises(InputError, match=r"runs: cannot be read as parquet \(.* refused"):
        restore_table(table("plain"), Layout(tmp_path / "results"), "runs")
    assert not (tmp_path / "results").exists()


def test_what_is_published_passes(monkeypatch):
    """ImageNet as a tar, 150 GB; text that shrinks to a tenth, 60 GB; a small file of zeros."""
    monkeypatch.undo()
    for packed, unpacked in ((150e9, 151e9), (60e9, 600e9), (1e5, 1e8)):
        limits.Allowance(int(packed)).take(int(unpacked))
