"""CIFAR-10.1's two files, made small, beside CIFAR-10 as torchvision gives it."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from decaylab.data import prepare
from decaylab.data.sources import _torchvision, cifar10_1
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.spec import ImageData

CLASSES = ["airplane", "automobile"]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The files with four images, their ids as git gives them, and a CIFAR-10 of six and three images."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DECAYLAB_DATA", str(home))
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (13, 32, 32, 3), dtype=np.uint8)
    np.save(home / "cifar10.1_v6_data.npy", pixels[:4])
    np.save(home / "cifar10.1_v6_labels.npy", np.array([1, 0, 0, 1], dtype=np.int32))
    for name in cifar10_1.BLOBS:
        found = subprocess.run(["git", "hash-object", home / name], capture_output=True, text=True, check=True)
        monkeypatch.setitem(cifar10_1.BLOBS, name, found.stdout.strip())
    cifar = {"train": (pixels[4:10], np.arange(6) % 2), "test": (pixels[10:], np.arange(3) % 2)}
    monkeypatch.setattr(_torchvision, "read", lambda *_: (cifar, CLASSES))
    return home, cifar["train"], pixels[:4]


def test_trained_on_cifar10_and_tested_on_the_new_images(published, tmp_path):
    _, train, test = published
    folder = prepare(ImageData(source="cifar10_1", image_size=32), Layout(tmp_path / "results"))
    for split, (images, labels) in {"train": train, "test": (test, [1, 0, 0, 1])}.items():
        np.testing.assert_array_equal(np.load(folder / f"{split}_images.npy"), images)
        np.testing.assert_array_equal(np.load(folder / f"{split}_labels.npy"), labels)
    meta = read_json(folder / "meta.json")
    assert (meta["classes"], meta["examples"]) == (CLASSES, {"train": 6, "test": 4})


def test_other_files_than_the_published_are_one_line(published, tmp_path):
    home, *_ = published
    path = home / "cifar10.1_v6_labels.npy"
    np.save(path, np.zeros(4, dtype=np.int32))
    with pytest.raises(InputError, match=r"v6_labels\.npy: expected the published file \(git blob \w+\), got \w+$"):
        prepare(ImageData(source="cifar10_1"), Layout(tmp_path / "results"))
    path.unlink()
    with pytest.raises(InputError, match=r"v6_labels\.npy: No such file .*; expected the file of https://github\.com/"):
        prepare(ImageData(source="cifar10_1"), Layout(tmp_path / "results"))
