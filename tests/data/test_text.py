"""Text: documents, tokens, splits, windows."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decaylab.data import load, prepare
from decaylab.data.sources import stdlib
from decaylab.data.store import meta
from decaylab.data.text import SPLITS, _as_documents
from decaylab.data.tokenizers import tokenizer
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import Choice, choose
from decaylab.spec import TextData

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path) -> Path:
    """40 documents of 200 to 239 bytes, each of its own words, and things that are no documents."""
    root = tmp_path / "library"
    for number in range(40):
        path = root / f"author{number % 3}" / f"{number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        letters = np.random.default_rng(number).integers(97, 123, 199 + number, dtype=np.uint8)
        path.write_bytes(letters.tobytes() + b"\n")
    (root / "empty.txt").write_text("")
    (root / "picture.jpg").write_bytes(b"\xff\xd8")
    return root


def given_by_user(path: Path, **fields) -> tuple[TextData, Choice]:
    choice = choose("text", str(path))
    return TextData(**choice.fields(), **fields), choice


def opened(path: Path, tmp_path: Path, batch_size: int = 4, seed: int = 0, context_length: int = 16, **fields):
    data, choice = given_by_user(path, **fields)
    layout = Layout(tmp_path / "results")
    return load(data, layout, CPU, batch_size=batch_size, seed=seed, context_length=context_length, choice=choice)


def split_documents(prepared: Path) -> dict[str, list[bytes]]:
    return {split: (prepared / f"{split}.bin").read_bytes().split(b"\0")[:-1] for split in SPLITS}


def test_prepared_splits_are_disjoint_and_complete(folder, tmp_path):
    data, choice = given_by_user(folder)
    prepared = prepare(data, Layout(tmp_path / "results"), choice)
    assert sorted(path.name for path in prepared.iterdir()) == [
        "meta.json",
        "sha256.json",
        "test.bin",
        "train.bin",
        "validation.bin",
    ]
    about = meta(prepared)
    found = split_documents(prepared)
    assert {split: len(items) for split, items in found.items()} == about["documents"]
    assert about["documents"] == {"train": 36, "validation": 2, "test": 2}
    assert {split: sum(map(len, items)) + len(items) for split, items in found.items()} == about["tokens"]
    everything = [item for items in found.values() for item in items]
    assert sorted(everything) == sorted(path.read_bytes() for path in folder.rglob("*.md"))


def test_held_out_text_that_stands_in_the_training_text_is_left_out_and_reported(folder, tmp_path):
    """Fails on commit bd71bb5, which kept every such line."""
    licence = b"Permission is hereby granted, free of charge, to any person obtaining a copy of this\n"
    for path in folder.rglob("*.md"):
        path.write_bytes(licence + path.read_bytes())
    data, choice = given_by_user(folder)
    prepared = prepare(data, Layout(tmp_path / "results"), choice)
    found = split_documents(prepared)
    assert all(item.startswith(licence) for item in found["train"])
    assert [licence in item for split in ("validation", "test") for item in found[split]] == [False] * 4
    overlap = meta(prepared)["overlap"]
    assert overlap["window_tokens"] == 64
    training = (prepared / "train.bin").read_bytes()
    for split in ("validation", "test"):
        before = b"".join(licence + item + b"\0" for item in found[split])
        shared = [before[start : start + 64] in training for start in range(len(before) - 63)]
        assert overlap["windows_found"][split] == pytest.approx(sum(shared) / len(shared))
        assert overlap["tokens_left_out"][split] == pytest.approx(2 * len(licence) / len(before))


def test_a_text_whose_held_out_lines_all_stand_in_training_is_refused(tmp_path):
    for number in range(40):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(f"{'the same line again and again ' * 9}\n{number}\n")
    data, choice = given_by_user(tmp_path / "texts")
    with pytest.raises(InputError, match="nothing is left of the validation split without what stands in the training"):
        prepare(data, Layout(tmp_path / "results"), choice)


def test_documents_that_differ_in_line_ends_or_byte_order_mark_are_kept_once(folder, tmp_path):
    data, choice = given_by_user(folder)
    counts = meta(prepare(data, Layout(tmp_path / "once"), choice))["documents"]
    for number, path in enumerate(sorted(folder.rglob("*.md"))):
        copy = path.read_bytes().replace(b"\n", b"\r\n") if number % 2 else b"\xef\xbb\xbf" + path.read_bytes()
        path.with_name(f"copy-{path.name}").write_bytes(copy)
    data, choice = given_by_user(folder)
    about = meta(prepare(data, Layout(tmp_path / "twice"), choice))
    assert about["documents"] == counts
    assert about["found"]["notes"] == ["40 of 81 documents repeat an earlier one: left out"]  # one is empty


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=3),
    repeats=st.integers(1, 3),
)
def test_splits_never_share_a_document_whatever_the_documents(tmp_path_factory, texts, repeats):
    root = tmp_path_factory.mktemp("texts")
    for number, text in enumerate([*texts, "x", "y", "z"] * max(repeats, 7)):
        (root / f"{number}.txt").write_bytes(text.encode())
    data, choice = given_by_user(root)
    found = split_documents(prepare(data, Layout(tmp_path_factory.mktemp("results")), choice))
    sets = [set(items) for items in found.values()]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets)) == len({*texts, "x", "y", "z"})


def test_the_order_of_files_does_not_matter(folder, tmp_path):
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(sorted(folder.rglob("*.md"), reverse=True)):
        (renamed / f"{number}.txt").write_bytes(path.read_bytes())
    digests = []
    for root in (folder, renamed):
        data, choice = given_by_user(root)
        digests.append(meta(prepare(data, Layout(tmp_path / "results"), choice))["data_sha256"])
    assert digests[0] == digests[1]


@given(st.lists(st.text(min_size=1, max_size=30_000), max_size=19))
@settings(max_examples=20)
def test_few_documents_are_cut_into_blocks_that_lose_nothing(texts):
    blocks = list(_as_documents(texts))
    assert "".join(blocks) == "".join(texts)
    assert all(blocks)
    assert len(blocks) <= 100 + len(texts)


def test_a_single_file_is_cut_after_lines(tmp_path):
    path = tmp_path / "play.txt"
    path.write_text("".join(f"line {number} of the play\n" for number in range(2000)))
    data, choice = given_by_user(path)
    found = split_documents(prepare(data, Layout(tmp_path / "results"), choice))
    everything = [item for items in found.values() for item in items]
    assert len(everything) > 15
    assert all(item.endswith(b"play\n") for item in everything)


def test_several_sources_are_joined(folder, tmp_path):
    (tmp_path / "extra.txt").write_bytes(b"more \xff text")
    data, choice = given_by_user(f"{folder},{tmp_path / 'extra.txt'}")
    assert data.source == "library+extra.txt"
    found = split_documents(prepare(data, Layout(tmp_path / "results"), choice))
    everything = [item for items in found.values() for item in items]
    assert len(everything) == 41
    assert "more ÿ text".encode() in everything, "no UTF-8, so it is read as Windows-1252"


def test_standard_library_has_no_tests_and_no_installed_packages():
    names = [name for name in ("os.py", "json/decoder.py") if stdlib._is_library(name)]
    assert len(names) == 2
    for name in ("test/test_os.py", "site-packages/torch/x.py", "_sysconfigdata__linux.py", "os.pyc"):
        assert not stdlib._is_library(name)
    texts = list(stdlib.documents())
    assert len(texts) > 300
    assert sum(map(len, texts)) > 3_000_000


def test_targets_are_the_inputs_one_token_later(folder, tmp_path):
    data = opened(folder, tmp_path)
    train = np.fromfile(next((tmp_path / "results" / "data").glob("text-*")) / "train.bin", dtype=np.uint8).tobytes()
    for step in (0, 255, 256, 1000):
        inputs, targets = data.batch(step)
        assert inputs.shape == targets.shape == (4, 16)
        assert inputs.dtype == targets.dtype == torch.int64
        for left, right in zip(inputs, targets, strict=True):
            window = bytes([*left.tolist(), right[-1].item()])
            assert bytes(right.tolist()) == window[1:]
            assert window in train
    assert data.classes == 256
    assert data.steps_per_epoch == (len(train) - 1) // 16 / 4


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 3),
    steps=st.lists(st.integers(0, 100), min_size=1, max_size=5),
    order=st.sampled_from(["random_offsets", "one_pass"]),
)
def test_a_batch_is_a_pure_function_of_seed_and_step(folder, tmp_path, seed, steps, order):
    data = opened(folder, tmp_path, seed=seed, order=order)
    forward = {step: data.batch(step) for step in steps}
    for step in reversed(steps):
        again = opened(folder, tmp_path, seed=seed, order=order).batch(step)
        assert all(torch.equal(a, b) for a, b in zip(forward[step], again, strict=True))
    assert not torch.equal(opened(folder, tmp_path, seed=seed + 1, order=order).batch(0)[0], data.batch(0)[0])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 5), batch_size=st.integers(1, 20), length=st.integers(1, 100))
def test_one_pass_never_repeats_a_window_and_then_refuses(folder, tmp_path, seed, batch_size, length):
    data = opened(folder, tmp_path, batch_size=batch_size, seed=seed, context_length=length, order="one_pass")
    steps = int(data.steps_per_epoch)
    starts = data._draw_starts(0)
    assert starts.shape == (steps, batch_size)
    assert len(starts.unique()) == starts.numel()
    assert (starts % length == 0).all()
    data.check_steps(steps)
    train = len(data._tokens["train"])
    expected = rf"data\.order one_pass: {steps + 1} steps of {batch_size} windows .* library has {train} for training"
    with pytest.raises(InputError, match=expected):
        data.check_steps(steps + 1)
    with pytest.raises(InputError):
        data.batch(steps)


def test_random_offsets_reach_both_ends(folder, tmp_path):
    data = opened(folder, tmp_path, batch_size=200, context_length=100)
    starts = torch.cat([data._draw_starts(block) for block in range(2)])
    assert starts.min() == 0
    assert starts.max() == len(data._tokens["train"]) - 101
    data.check_steps(10**9)


def test_train_tokens_are_the_first_ones(folder, tmp_path):
    everything = opened(folder, tmp_path)
    part = opened(folder, tmp_path, train_tokens=1000)
    assert torch.equal(part._tokens["train"], everything._tokens["train"][:1000])
    assert part.steps_per_epoch == 999 // 16 / 4
    assert len(list((tmp_path / "results" / "data").iterdir())) == 1
    with pytest.raises(InputError, match=r"data\.train_tokens 1000000: library has \d+ for training"):
        opened(folder, tmp_path, train_tokens=1_000_000)


def test_evaluation_windows_are_fixed_disjoint_and_spread(folder, tmp_path):
    one, two = opened(folder, tmp_path, seed=0), opened(folder, tmp_path, seed=1)
    for split in SPLITS:
        available = (len(one._tokens[split]) - 1) // 16
        for count in (None, 3, 10**6):
            a, b = (torch.cat([inputs for inputs, _ in data.evaluation(split, count)]) for data in (one, two))
            assert torch.equal(a, b)
            assert len(a) == min(count or available, available)
        assert a.flatten().equal(one._tokens[split][: available * 16].long())
    few = torch.cat([inputs for inputs, _ in one.evaluation("train", 2)])
    half = (len(one._tokens["train"]) - 1) // 16 // 2 * 16
    assert few[1].equal(one._tokens["train"][half : half + 16].long())
    with pytest.raises(ValueError, match="split 'val'"):
        next(one.evaluation("val", None))


def test_evaluation_batches_are_limited_by_their_logits(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("decaylab.data.text._LOGITS", {"cpu": 256 * 16 * 5})
    sizes = [len(inputs) for inputs, _ in opened(folder, tmp_path).evaluation("train", 12)]
    assert sizes == [5, 5, 2]


def test_a_context_longer_than_a_split_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"library: validation has \d+ tokens, expected more than context_length 1000"):
        opened(folder, tmp_path, context_length=1000)


def fake_tiktoken(monkeypatch) -> None:
    """Words as tokens; larger numbers than a signed 16-bit integer holds."""
    encoding = types.SimpleNamespace(
        n_vocab=50257,
        eot_token=50256,
        decode=str,
        decode_single_token_bytes=lambda token: b"\n" if token == 198 else b"word",
        encode_ordinary_batch=lambda texts, num_threads: [[40_000 + len(w) for w in t.split()] for t in texts],
    )
    monkeypatch.setitem(sys.modules, "tiktoken", types.SimpleNamespace(get_encoding=lambda name: encoding))


def test_gpt2_tokens_are_sixteen_bits_wide(folder, tmp_path, monkeypatch):
    fake_tiktoken(monkeypatch)
    data = opened(folder, tmp_path, context_length=2, tokenizer="gpt2")
    assert data.classes == 50257
    prepared = next((tmp_path / "results" / "data").glob("text-*"))
    train = np.fromfile(prepared / "train.bin", dtype="<u2")
    assert (train[1::2] == 50256).all()
    assert meta(prepared)["tokens"]["train"] == len(train) == 72
    assert data.batch(0)[0].max() > 40_000


def test_missing_tiktoken_or_vocabulary_is_one_line(monkeypatch):
    def offline(name):
        raise ConnectionError("no network\nand more lines")

    monkeypatch.setitem(sys.modules, "tiktoken", types.SimpleNamespace(get_encoding=offline))
    with pytest.raises(InputError, match=r"^tokenizer gpt2: .*TIKTOKEN_CACHE_DIR.*: no network$"):
        tokenizer("gpt2")
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(InputError, match=r"pip install decaylab\[text\]"):
        tokenizer("gpt2")


@pytest.mark.parametrize(
    ("source", "repository", "name"),
    [("fineweb", "HuggingFaceFW/fineweb", "sample-10BT"), ("openwebtext", "Skylion007/openwebtext", None)],
)
def test_hub_documents_are_streamed_and_split_by_their_own_digest(tmp_path, monkeypatch, source, repository, name):
    asked = []

    def load_dataset(path, **options):
        asked.append((path, options))
        return ({"text": f"document {number}" if number % 10 else ""} for number in range(1000))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    prepared = prepare(TextData(source=source), Layout(tmp_path))
    assert asked == [(repository, {"name": name, "split": "train", "streaming": True})]
    about, found = meta(prepared), split_documents(prepared)
    assert sum(about["documents"].values()) == 900
    assert 20 < about["documents"]["validation"] < 80
    assert len({item for items in found.values() for item in items}) == 900
    numbers = [int(item.split()[1]) for item in found["train"]]
    assert numbers == sorted(numbers)
    assert "ODC-By" in about["licence"] or "CC0" in about["licence"]


def test_hub_problems_are_one_line_and_leave_nothing(tmp_path, monkeypatch):
    layout = Layout(tmp_path)

    def offline(path, **options):
        raise ConnectionError("cannot reach the hub\ntraceback")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(InputError, match=r"^data source fineweb: .*HuggingFaceFW/fineweb: cannot reach the hub$"):
        prepare(TextData(source="fineweb"), layout)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"openwebtext needs Hugging Face datasets: pip install decaylab\[hub\]"):
        prepare(TextData(source="openwebtext"), layout)
    assert list((tmp_path / "data").iterdir()) == []


def test_bad_sources_are_one_line_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DECAYLAB_DATA", str(tmp_path))
    layout = Layout(tmp_path / "results")
    (tmp_path / "bad.tar.xz").write_bytes(b"no archive")
    (tmp_path / "binary.dat").write_bytes(b"\0\1\2")
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "none").mkdir()
    (tmp_path / "gone.txt").write_text("x" * 10)
    gone = Choice("gone.txt", None, (tmp_path / "gone.txt",))
    (tmp_path / "gone.txt").unlink()
    cases = {
        "unknown-data": r"'unknown-data': not found in",
        "bad.tar.xz": r"bad\.tar\.xz: damaged archive",
        "binary.dat": r"binary\.dat: expected text, or an archive",
        "short.txt": r"short\.txt: too little text: nothing is left for train and test",
        "none": r"none: no files ending in \.txt",
        "gone.txt": r"gone\.txt: cannot be read \(No such file",
    }
    for source, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            prepare(TextData(source=source), layout, gone)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"short\.txt: expected sha256 00, got [0-9a-f]{64}$"):
        prepare(TextData(source="short.txt", sha256="00"), layout)
    assert list((tmp_path / "results" / "data").iterdir()) == []


def test_keys_need_no_torch():
    program = "import sys; from decaylab.data import prepared_key; from decaylab.spec import TextData\n"
    program += "print(prepared_key(TextData())); sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("text-stdlib-bytes-")


HOME = Path(os.environ.get("DECAYLAB_DATA", "data"))


@pytest.mark.skipif(not (HOME / "tinyshakespeare.txt").is_file(), reason="needs tinyshakespeare.txt in DECAYLAB_DATA")
def test_real_play(tmp_path):
    data = opened(HOME / "tinyshakespeare.txt", tmp_path, context_length=256)
    counts = [len(data._tokens[split]) for split in SPLITS]
    assert sum(counts) == 1_115_394 + 100
    assert 0.88 < counts[0] / sum(counts) < 0.92


@pytest.mark.slow
@pytest.mark.skipif(not (HOME / "books-1.tar.xz").is_file(), reason="needs books-1.tar.xz in DECAYLAB_DATA")
def test_real_books(tmp_path):
    data, choice = given_by_user(HOME / "books-1.tar.xz")
    about = meta(prepare(data, Layout(tmp_path), choice))
    assert about["documents"] == {"train": 287, "validation": 16, "test": 16}
    assert sum(about["tokens"].values()) > 130_000_000
