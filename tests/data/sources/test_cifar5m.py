"""CIFAR-5m's files, made small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decaylab.data import load, prepare
from decaylab.data.images import statistics
from decaylab.data.sources import cifar5m
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.spec import ImageData

TEST, EACH = 6, 14


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The six files with 14 images each, of which the last 6 are for testing; gives all images and labels."""
    monkeypatch.setenv("DECAYLAB_DATA", str(tmp_path))
    monkeypatch.setattr(cifar5m, "_TEST", TEST)
    monkeypatch.setattr(cifar5m, "_CHUNK", 5)
    (tmp_path / "cifar5m").mkdir()
    draws = np.random.default_rng(0)
    images = draws.integers(0, 200, (6 * EACH, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(6 * EACH) % 10
    for part in range(6):
        rows = slice(part * EACH, (part + 1) * EACH)
        np.savez(tmp_path / "cifar5m" / f"part{part}.npz", X=images[rows], Y=labels[rows])
    return tmp_path / "cifar5m", images, labels


def test_every_byte_is_where_it_belongs(published, tmp_path):
    _, images, labels = published
    data = ImageData(source="cifar5m", image_size=32)
    folder = prepare(data, Layout(tmp_path / "results"))
    train = len(labels) - TEST
    for split, rows in (("train", slice(None, train)), ("test", slice(train, None))):
        assert np.array_equal(np.load(folder / f"{split}_images.npy"), images[rows])
        assert np.array_equal(np.load(folder / f"{split}_labels.npy"), labels[rows])
    meta = read_json(folder / "meta.json")
    assert meta["examples"] == {"train": train, "test": TEST}
    expected = statistics(images[:train])
    assert meta["mean"] == pytest.approx(expected["mean"])
    assert meta["std"] == pytest.approx(expected["std"])


def test_a_run_draws_from_it_at_another_size(published, tmp_path):
    data = ImageData(source="cifar5m", image_size=8, train_examples=40)
    loaded = load(data, Layout(tmp_path / "results"), torch.device("cpu"), batch_size=20, seed=0)
    inputs, targets = loaded.batch(0)
    assert (inputs.shape, targets.shape, loaded.steps_per_epoch, loaded.classes) == ((20, 3, 8, 8), (20,), 2.0, 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), r"cifar5m: .*part3\.npz: not found; expected the files of https://github\.com/"),
        (lambda path: path.write_bytes(b"PK"), r"part3\.npz: expected an npz file with arrays X and Y"),
        (lambda path: np.savez(path, X=np.zeros((2, 32, 32, 3))), r"part3\.npz: expected an npz file .* X and Y"),
        (
            lambda path: np.savez(path, X=np.zeros((2, 32, 32, 3)), Y=np.zeros(2, dtype=int)),
            r"part3\.npz: X: expected uint8 \[n, 32, 32, 3\], got float64 \[2, 32, 32, 3\]",
        ),
        (
            lambda path: np.savez(path, X=np.zeros((2, 32, 32, 3), dtype=np.uint8), Y=np.array([0, 10])),
            r"part3\.npz: Y: expected classes 0 to 9, got 0 to 10",
        ),
    ],
)
def test_damage_is_one_line_and_leaves_nothing(published, tmp_path, change, words):
    folder, *_ = published
    change(folder / "part3.npz")
    layout = Layout(tmp_path / "results")
    with pytest.raises(InputError, match=words):
        prepare(ImageData(source="cifar5m", image_size=32), layout)
    assert not list((tmp_path / "results").rglob("*.npy"))
