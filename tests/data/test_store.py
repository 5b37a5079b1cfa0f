"""Prepared folders: whole or absent, built once, and found by what decides their content."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from decaylab.data import prepared_key, store
from decaylab.errors import InputError
from decaylab.files import sha256_json
from decaylab.sources import choose, digest
from decaylab.spec import ImageData, TextData


def slow_maker(data, folder, choice):
    time.sleep(0.2)
    (folder / "content").write_text("x")
    return {"builder": os.getpid()}


def build_one(folder):
    return store.meta(store.build(folder, TextData(), None, slow_maker))["builder"]


def test_processes_at_once_build_one_folder(tmp_path):
    folder = tmp_path / "data" / "key"
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        builders = set(pool.map(build_one, [folder] * 3))
    assert len(builders) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["key"]
    assert sorted(path.name for path in folder.iterdir()) == ["content", "meta.json", "sha256.json"]


def test_an_error_leaves_nothing(tmp_path):
    def fail(data, folder, choice):
        (folder / "half").write_text("x")
        raise InputError("no")

    with pytest.raises(InputError):
        store.build(tmp_path / "key", TextData(), None, fail)
    assert list(tmp_path.iterdir()) == []


def test_remains_of_killed_processes_and_incomplete_folders_are_replaced(tmp_path):
    left = tmp_path / ".key.abc.building"
    left.mkdir()
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "orphan").write_text("without meta.json")
    folder = store.build(tmp_path / "key", TextData(), None, slow_maker)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert sorted(path.name for path in folder.iterdir()) == ["content", "meta.json", "sha256.json"]


def test_a_slower_process_without_locks_keeps_the_winner(tmp_path):
    def overtaken(data, folder, choice):
        winner = tmp_path / "key"
        winner.mkdir()
        (winner / "meta.json").write_text('{"winner": true}')
        return {"winner": False}

    assert store.meta(store.build(tmp_path / "key", TextData(), None, overtaken)) == {"winner": True}
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    "change", [{"train_examples": 5}, {"subset_seed": 1}, {"augmentation": "flip_translate"}, {"test_examples": 7}]
)
def test_key_ignores_what_is_decided_later(change):
    data = ImageData(source="my-images.zip")
    assert prepared_key(data) == prepared_key(data.model_copy(update=change))
    assert prepared_key(data).startswith("images-my-images-zip-16px-")


def test_key_follows_what_decides_the_content():
    text = TextData()
    assert prepared_key(text) == prepared_key(TextData(train_tokens=10, order="one_pass"))
    images = ImageData(source="a.zip")
    procedural = ImageData(train_examples=10, test_examples=10)
    assert prepared_key(procedural) == prepared_key(procedural.model_copy(update={"fresh": True}))
    different = [
        text,
        TextData(tokenizer="gpt2"),
        TextData(source="a.txt"),
        TextData(source="a.txt", sha256="0"),
        images,
        ImageData(source="a.zip", sha256="0"),
        ImageData(source="a.zip", image_size=32),
        procedural,
        ImageData(train_examples=20, test_examples=10),
        ImageData(train_examples=10, test_examples=10, subset_seed=1),
        ImageData(train_examples=10, test_examples=10, noise=0.1),
    ]
    assert len({prepared_key(data) for data in different}) == len(different)


def test_digest_is_that_of_a_choice(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "a.txt").write_text("a")
    (tmp_path / "folder" / "b.txt").write_text("b")
    (tmp_path / "c.txt").write_text("c")
    choice = choose("text", f"{tmp_path}/folder,{tmp_path}/c.txt")
    assert choice.sha256 == sha256_json([digest(path) for path in choice.paths])
    data = TextData(**choice.fields())
    assert store.source_paths(data, choice) == choice.paths
    (tmp_path / "c.txt").write_text("changed")
    with pytest.raises(InputError, match=rf"c\.txt: expected sha256 {choice.sha256}, got [0-9a-f]{{64}}$"):
        store.source_paths(data, choice)


def test_digest_of_an_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    # root may read everything, so the refusal is simulated
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=rf"^{tmp_path}: cannot be read \(Permission denied\)$"):
        digest(tmp_path)
