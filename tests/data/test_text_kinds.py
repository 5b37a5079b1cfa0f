"""Encodings, tables, tokens and mixed folders of text: what is read, what is left out, what is refused."""

import bz2
import gzip
import json
import lzma
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from decaylab.data import prepare
from decaylab.data.encodings import decode
from decaylab.data.inventory import Inventory
from decaylab.data.sources import text_files
from decaylab.data.store import meta
from decaylab.data.text import SPLITS
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import choose
from decaylab.spec import TextData

STORY = "Ein Märchen.\nEs war einmal: naïve façade.\n"


@pytest.fixture
def read():
    """A function that gives the documents of a path, and what was found."""

    def documents(path: Path) -> tuple[list[str], dict]:
        inventory = Inventory()
        return list(text_files._documents(choose("text", str(path)).paths, inventory)), inventory.to_json()

    return documents


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings(encoding):
    """UTF-16 without its mark, and Windows-1252, are known by their bytes."""
    text, remark = decode(STORY.encode(encoding))
    assert text == STORY
    assert (remark is None) == encoding.startswith("utf-8")
    assert decode("naïve".encode("latin-1"))[0] == "naïve"


def test_damaged_utf8_keeps_its_place():
    text, remark = decode(STORY.encode() + b"\xff")
    assert text == STORY + "\ufffd"
    assert remark.startswith("files in damaged UTF-8")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(range(256)), "binary: it has zero bytes"),
        (b"\xf6\xc9\xcc\xc9 \xc2\xd9\xcc\xc9", "neither UTF-8 nor mostly ASCII: convert it to UTF-8"),
        (b"plain " * 20 + b"\x81", "neither UTF-8 nor Windows-1252"),
        (b"%PDF-1.7 ...", "a PDF file, no plain text"),
        (b"\xff\xfea", "damaged UTF-16"),
    ],
)
def test_what_is_no_text_says_why(content, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode(content)


def test_files_that_are_no_text_are_left_out_and_said(tmp_path, read):
    """On commit b58299d, zeros and all went into the text."""
    for name, content in {"a.txt": b"fine", "b.txt": b"\0\1\2", "c.md": "caf\xe9".encode("latin-1")}.items():
        (tmp_path / name).write_bytes(content)
    documents, found = read(tmp_path)
    assert documents == ["fine", "caf\xe9"]
    assert found == {
        "read": {".txt files": 1, ".md files": 1},
        "skipped": {
            "files that cannot be read as text (binary: it has zero bytes)": {"count": 1, "for_example": "b.txt"}
        },
        "notes": ["1 files that are not UTF-8: read as Windows-1252 or latin-1"],
    }
    with pytest.raises(InputError, match=r"b\.txt: expected text, or an archive .*: binary: it has zero bytes$"):
        read(tmp_path / "b.txt")


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress), ("zst", zstd)]
)
def test_compressed_files_alone_and_in_folders(tmp_path, read, suffix, pack):
    rows = "\n".join(json.dumps({"text": text}) for text in ("one\n", "zw\u00f6lf")).encode()
    (tmp_path / "folder").mkdir()
    for name, content in {"a.txt": STORY.encode(), "b.jsonl": rows, "c": b"any name"}.items():
        (tmp_path / "folder" / f"{name}.{suffix}").write_bytes(pack(content))
    assert read(tmp_path / "folder" / f"a.txt.{suffix}")[0] == [STORY]
    assert read(tmp_path / "folder" / f"b.jsonl.{suffix}")[0] == ["one\n", "zw\u00f6lf"]
    assert read(tmp_path / "folder" / f"c.{suffix}")[0] == ["any name"]
    (tmp_path / "folder" / f"b.jsonl.{suffix}").unlink()
    assert read(tmp_path / "folder")[0] == [STORY]
    path = tmp_path / "folder" / f"a.txt.{suffix}"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=rf"folder: a\.txt\.{suffix}: damaged \("):
        read(tmp_path / "folder")


def test_a_text_that_begins_like_a_compressed_file_is_text(tmp_path, read):
    (tmp_path / "a.txt").write_text("BZh is how bzip2 files begin")
    assert read(tmp_path / "a.txt")[0] == ["BZh is how bzip2 files begin"]


@pytest.mark.parametrize("column", ["text", "content", "the_only_one"])
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "arrow stream", "arrow file"])
def test_tables_of_texts(tmp_path, read, form, column):
    texts = ["first\nwith a second line", 'quotes " and \\ and \u00e9']
    rows = [{"id": number, column: text} for number, text in enumerate(texts)]
    path = tmp_path / f"data.{form.split()[0]}"
    table = pa.table({"id": [0, 1], column: texts})
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif form == "json":
        path.write_text(json.dumps(rows, indent=1))
    elif form == "parquet":
        parquet.write_table(table, path)
    else:
        with (ipc.new_stream if form == "arrow stream" else ipc.new_file)(str(path), table.schema) as file:
            file.write_table(table)
    documents, found = read(path)
    assert documents == texts
    assert found["read"] == {f"{path.suffix} files": 1, f"rows of {path.suffix} files": 2}


def test_a_folder_of_a_hub_is_its_tables_and_not_its_readme(tmp_path, read):
    """Fails on commit b58299d, which trained on the README."""
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "data.jsonl").write_text('{"text": "a story"}\n')
    (tmp_path / "cache-12ab.arrow").write_bytes(b"")
    documents, found = read(tmp_path)
    assert documents == ["a story"]
    assert found["skipped"]["files that describe a table"]["for_example"] == "README.md"
    assert found["skipped"]["caches of the datasets library"]["count"] == 1
    (tmp_path / "notes.txt").write_text("another")
    with pytest.raises(InputError, match=r"documents \(notes\.txt\) beside tables or tokens \(data\.jsonl\): give"):
        read(tmp_path)
    (tmp_path / "data.jsonl").unlink()
    assert read(tmp_path)[0] == ["another", "a card"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"text": \n', r"line 2: expected one JSON object a line, or one list of them \("),
        ('{"title": "a", "abstract": "b"}', r"line 1: expected a column `text` .* found columns title, abstract"),
        ('{"text": "a"}\n{"text": 5}', r"line 2: text: expected text, got int"),
        ("[1]", r"row 1: expected an object with a text, got int"),
        ("[" * 100_000, r"expected one JSON object a line, or one list of them \(too deep\)"),
    ],
)
def test_damaged_rows_are_one_line(tmp_path, read, content, message):
    (tmp_path / "data.jsonl").write_text(content)
    with pytest.raises(InputError, match=rf"data\.jsonl: data\.jsonl: {message}"):
        read(tmp_path / "data.jsonl")


def test_json_lines_in_a_text_file_and_joined_documents(tmp_path, read):
    """On commit b58299d, escapes went into the text, and stories were cut at line ends."""
    (tmp_path / "a.txt").write_text('{"text": "one\\ntwo"}\n{"text": "three"}\n')
    (tmp_path / "b.txt").write_text("A story.\nIts end.\n<|endoftext|>\nAnother.\n<|endoftext|>\n")
    (tmp_path / "c.py").write_text('MARK = "<|endoftext|>"\n')
    documents, found = read(tmp_path)
    assert documents == ["one\ntwo", "three", "A story.\nIts end.\n", "Another.\n", 'MARK = "<|endoftext|>"\n']
    assert "2 documents that <|endoftext|> separates" in found["notes"]


@pytest.fixture
def letters(monkeypatch):
    """GPT-2's tokenizer, as far as these tests need it: token 256 + n is the n-th letter."""
    fake = types.SimpleNamespace(decode=lambda tokens: "".join(chr(ord("a") + token - 256) for token in tokens))
    monkeypatch.setattr(text_files, "tokenizer", lambda name: fake)


END = 50256


def shard(tokens: list[int], version: int = 1, count: int | None = None) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, version, len(tokens) if count is None else count
    return header.tobytes() + np.array(tokens, "<u2").tobytes()


@pytest.mark.parametrize("form", ["nanogpt", "modded"])
def test_files_of_gpt2_tokens(tmp_path, read, letters, form):
    parts = {"train": [END, 256, 257, END, 258], "val": [259, 260]}
    for split, tokens in parts.items():
        content = shard(tokens) if form == "modded" else np.array(tokens, "<u2").tobytes()
        name = f"fineweb_{split}_000001.bin" if form == "modded" else f"{split}.bin"
        (tmp_path / name).write_bytes(content)
    (tmp_path / "prepare.py").write_text("import tiktoken")
    (tmp_path / "weights.bin").write_bytes(b"\0" * 7)
    documents, found = read(tmp_path)
    assert documents == ["ab", "c", "de"]
    assert found["skipped"][".bin files"]["for_example"] == "weights.bin"
    assert read(next(tmp_path.glob("*train*")))[0] == ["ab", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([60000], "<u2").tobytes(), "expected GPT-2 tokens up to 50256, found 60000"),
        (np.array([64, 1], "<u2").tobytes(), "numbers up to 64 are no GPT-2 tokens"),
        (b"abc", "expected GPT-2 tokens of 16 bits, found 3 bytes"),
        (b"", "expected GPT-2 tokens of 16 bits, found 0 bytes"),
        (shard([300], version=7), "version 7 of a token shard: expected 1"),
        (shard([300], count=5), "its header announces 5 tokens, found 1; cut off"),
    ],
)
def test_other_tokens_are_refused(tmp_path, read, letters, content, message):
    (tmp_path / "train.bin").write_bytes(content)
    for path in (tmp_path / "train.bin", tmp_path):
        with pytest.raises(InputError, match=rf"train\.bin: {message}"):
            read(path)


def letters_of(number: int, size: int = 199) -> str:
    draws = np.random.default_rng(number).integers(97, 123, size, dtype=np.uint8)
    return draws.tobytes().decode() + "\n"


def prepared(path: Path, tmp_path: Path) -> tuple[dict, dict[str, bytes]]:
    choice = choose("text", str(path))
    folder = prepare(TextData(**choice.fields()), Layout(tmp_path / "results"), choice)
    return meta(folder), {split: (folder / f"{split}.bin").read_bytes() for split in SPLITS}


def test_the_whole_is_checked_and_said(tmp_path):
    root = tmp_path / "texts"
    root.mkdir()
    for number in range(40):
        (root / f"{number}.txt").write_text(letters_of(number))
    (root / "copy.txt").write_text(letters_of(3))
    (root / "damaged.txt").write_bytes("\u00e9\u00e9\u00e9".encode() + b"\xff" + letters_of(50).encode())
    about, _ = prepared(root, tmp_path)
    assert about["found"] == {
        "read": {".txt files": 42},
        "skipped": {},
        "notes": [
            "1 files in damaged UTF-8: U+FFFD in place of bytes that are none",
            "1 of 42 documents repeat an earlier one: left out",
            "1 of 8,404 characters (0.01%) are U+FFFD",
        ],
    }


def test_a_document_that_holds_most_of_the_text_is_cut_at_line_ends(tmp_path):
    """On commit b58299d it went into one split: validation could be 300 times as large as training."""
    root = tmp_path / "texts"
    root.mkdir()
    large = "".join(letters_of(1000 + number, 50) for number in range(4000))
    (root / "large.txt").write_text(large)
    for number in range(40):
        (root / f"{number}.txt").write_text(letters_of(number))
    about, splits = prepared(root, tmp_path)
    total = sum(about["tokens"].values())
    for split in ("validation", "test"):
        assert 0.02 < about["tokens"][split] / total < 0.1
    documents = [document for content in splits.values() for document in content.split(b"\0")[:-1]]
    lines = sorted(line for document in documents for line in document.splitlines(keepends=True))
    expected = large + "".join(letters_of(number) for number in range(40))
    assert lines == sorted(expected.encode().splitlines(keepends=True))
    assert about["found"]["notes"] == []


def test_splits_far_from_their_share_are_noted(tmp_path):
    root = tmp_path / "texts"
    root.mkdir()
    for number in range(20):
        (root / f"{number}.txt").write_text(letters_of(number, 10 if number else 7000))
    about, _ = prepared(root, tmp_path)
    shares = {split: count / sum(about["tokens"].values()) for split, count in about["tokens"].items()}
    noted = [note.split()[0] for note in about["found"]["notes"]]
    assert noted
    assert noted == [split for split in ("validation", "test") if not 0.025 <= shares[split] <= 0.1]
