"""Image files and CIFAR: what is prepared, which subsets are taken, how batches are drawn."""

import functools
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from decaylab.data import load, prepare
from decaylab.data.images import _reflect, balanced
from decaylab.data.store import meta
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import Choice, choose
from decaylab.spec import ImageData

CPU = torch.device("cpu")


def picture(value: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    """3 classes; 4 training and 2 test images of each."""
    number = 0
    for split, count in (("train", 4), ("test", 2)):
        for label in ("cat", "ant", "bee"):
            for index in range(count):
                path = tmp_path / "zoo" / "images" / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(number))
                number += 1
    return tmp_path / "zoo"


def given_by_user(path: Path, **fields) -> tuple[ImageData, Choice]:
    choice = choose("images", str(path))
    return ImageData(**choice.fields(), **{"image_size": 8} | fields), choice


def opened(path: Path, tmp_path: Path, batch_size: int = 4, seed: int = 0, **fields):
    data, choice = given_by_user(path, **fields)
    return load(data, Layout(tmp_path / "results"), CPU, batch_size=batch_size, seed=seed, choice=choice)


def test_prepared_folder_says_what_it_holds(folder, tmp_path):
    data, choice = given_by_user(folder)
    prepared = prepare(data, Layout(tmp_path / "results"), choice)
    about = meta(prepared)
    assert about["classes"] == ["ant", "bee", "cat"]
    assert about["examples"] == {"train": 12, "test": 6}
    assert about["source_sha256"] == choice.sha256
    images = np.load(prepared / "train_images.npy", mmap_mode="r")
    assert images.shape == (12, 8, 8, 3)
    assert images.dtype == np.uint8
    expected = np.asarray(Image.open(folder / "images" / "train" / "ant" / "0.png"))
    np.testing.assert_array_equal(images[0], expected)
    np.testing.assert_allclose(about["mean"], images.mean((0, 1, 2)))
    np.testing.assert_allclose(about["std"], images.std((0, 1, 2)))


def test_archive_and_folder_give_the_same_content(folder, tmp_path):
    archive = tmp_path / "zoo.tar.xz"
    with tarfile.open(archive, "w:xz") as file:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            file.add(path, path.relative_to(folder.parent))
    layout = Layout(tmp_path / "results")
    digests = [meta(prepare(*_swap(given_by_user(path), layout)))["data_sha256"] for path in (folder, archive)]
    assert digests[0] == digests[1]


def _swap(pair, layout):
    return pair[0], layout, pair[1]


def test_resized_by_area_after_cropping_the_middle(tmp_path):
    for number, name in enumerate(("train/a", "train/b", "val/a", "val/b")):
        path = tmp_path / "wide" / name / "x.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(picture(number, size=(24, 16)))
    data, choice = given_by_user(tmp_path / "wide", image_size=4)
    images = np.load(prepare(data, Layout(tmp_path / "results"), choice) / "test_images.npy")
    full = np.asarray(Image.open(tmp_path / "wide" / "val" / "a" / "x.png")).astype(float)[:, 4:20]
    np.testing.assert_allclose(images[0], full.reshape(4, 4, 4, 4, 3).mean((1, 3)), atol=1)


def test_tiny_imagenet_annotations_give_the_validation_classes(tmp_path):
    root = tmp_path / "tiny"
    for name in ("train/n1/images/a.png", "train/n2/images/b.png", "val/images/v0.png", "test/images/t.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(len(name)))
    (root / "val" / "val_annotations.txt").write_text("v0.png\tn2\t0\t0\t1\t1\n")
    data, choice = given_by_user(root)
    prepared = prepare(data, Layout(tmp_path / "results"), choice)
    assert np.load(prepared / "test_labels.npy").tolist() == [1]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
def test_every_beginning_of_the_order_is_balanced(labels, seed):
    labels = np.array(labels)
    order = balanced(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    sizes = np.bincount(labels, minlength=5)
    for count in range(len(labels) + 1):
        taken = np.bincount(labels[order[:count]], minlength=5)
        # a class lags behind another by more than one only when it has no more
        assert all(taken[c] == sizes[c] or taken[c] >= taken.max() - 1 for c in range(5))


def test_subsets_are_nested_and_fixed(folder, tmp_path):
    small = opened(folder, tmp_path, batch_size=3, train_examples=3, test_examples=3)
    large = opened(folder, tmp_path, batch_size=3, seed=5)
    (few, labels), (many, _) = (next(data.evaluation("train", None)) for data in (small, large))
    torch.testing.assert_close(few, many[:3])
    assert sorted(labels.tolist()) == [0, 1, 2]
    other = opened(folder, tmp_path, batch_size=3, train_examples=3, subset_seed=1)
    assert not torch.equal(few, next(other.evaluation("train", None))[0])
    with pytest.raises(InputError, match=r"data\.train_examples 13: zoo has 12"):
        opened(folder, tmp_path, train_examples=13)
    with pytest.raises(InputError, match=r"batch_size 13: zoo has 12 training images"):
        opened(folder, tmp_path, batch_size=13)


def test_batches_are_normalised_and_channels_last(folder, tmp_path):
    data = opened(folder, tmp_path, batch_size=12)
    inputs, targets = data.batch(0)
    assert inputs.shape == (12, 3, 8, 8)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std((0, 2, 3), correction=0), torch.ones(3))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 3),
    steps=st.lists(st.integers(0, 200), min_size=1, max_size=5),
    augmentation=st.sampled_from(["none", "flip_translate"]),
)
def test_a_batch_is_a_pure_function_of_seed_and_step(folder, tmp_path, seed, steps, augmentation):
    fields = {"batch_size": 5, "seed": seed, "augmentation": augmentation}
    data = opened(folder, tmp_path, **fields)
    forward = {step: data.batch(step) for step in steps}
    for step in reversed(steps):
        fresh = opened(folder, tmp_path, **fields).batch(step)
        assert all(torch.equal(a, b) for a, b in zip(forward[step], fresh, strict=True))


def test_an_epoch_visits_each_image_once_in_a_new_order(folder, tmp_path):
    data = opened(folder, tmp_path, batch_size=4)
    assert data.steps_per_epoch == 3
    everything = {image.numpy().tobytes() for image in next(data.evaluation("train", None))[0]}
    assert len(everything) == 12
    orders = []
    for epoch in range(2):
        seen = [image.numpy().tobytes() for step in range(3) for image in data.batch(3 * epoch + step)[0]]
        assert set(seen) == everything
        assert len(seen) == 12
        orders.append(seen)
    assert orders[0] != orders[1]
    other = opened(folder, tmp_path, batch_size=4, seed=1)
    assert not torch.equal(other.batch(0)[0], data.batch(0)[0])


def test_an_incomplete_last_batch_is_left_out(folder, tmp_path):
    data = opened(folder, tmp_path, batch_size=5)
    assert data.steps_per_epoch == 2
    seen = [image.numpy().tobytes() for step in range(2) for image in data.batch(step)[0]]
    assert len(set(seen)) == 10


def test_flip_translate_moves_and_mirrors_by_at_most_two_pixels(folder, tmp_path):
    plain = opened(folder, tmp_path, batch_size=12)
    moved = opened(folder, tmp_path, batch_size=12, augmentation="flip_translate")
    found = set()
    for step in range(40):
        (inputs, targets), (changed, same_targets) = plain.batch(step), moved.batch(step)
        assert torch.equal(targets, same_targets)
        assert changed.is_contiguous(memory_format=torch.channels_last)
        padded = torch.nn.functional.pad(inputs, (2, 2, 2, 2), mode="reflect")
        for image, result in zip(padded, changed, strict=True):
            candidates = {
                (down, right, flip): piece.flip(2) if flip else piece
                for down in range(5)
                for right in range(5)
                for flip in (False, True)
                for piece in [image[:, down : down + 8, right : right + 8]]
            }
            matches = [place for place, piece in candidates.items() if torch.equal(piece, result)]
            assert len(matches) == 1
            found.update(matches)
    assert len(found) == 50


def test_reflection_at_the_border_leaves_out_the_border_pixel():
    assert _reflect(torch.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_evaluation_is_the_same_for_every_seed_and_never_augmented(folder, tmp_path):
    one = opened(folder, tmp_path, seed=0, augmentation="flip_translate")
    two = opened(folder, tmp_path, seed=1)
    for split, size in (("train", 12), ("test", 6)):
        for count in (None, 4, 100):
            a, b = (list(data.evaluation(split, count)) for data in (one, two))
            assert sum(len(targets) for _, targets in a) == min(count or size, size)
            assert all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right))  # noqa: B905
    with pytest.raises(ValueError, match="split 'validation'"):
        next(one.evaluation("validation", None))


def test_large_sets_stay_uint8_and_give_the_same_batches(folder, tmp_path, monkeypatch):
    held = opened(folder, tmp_path).batch(1)
    monkeypatch.setattr("decaylab.data.images._FLOAT_BYTES", {"cpu": 0})
    converted = opened(folder, tmp_path).batch(1)
    assert all(torch.equal(a, b) for a, b in zip(held, converted, strict=True))


def test_bad_sources_are_one_line_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DECAYLAB_DATA", str(tmp_path))
    layout = Layout(tmp_path / "results")
    with pytest.raises(InputError, match="'cifar11'"):
        prepare(ImageData(source="cifar11"), layout)

    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"bad\.zip: damaged archive"):
        prepare(ImageData(source="bad.zip"), layout)
    with pytest.raises(InputError, match=r"bad\.zip: expected sha256 00, got [0-9a-f]{64}$"):
        prepare(ImageData(source="bad.zip", sha256="00"), layout)

    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "x.png").write_bytes(picture(0))
    with pytest.raises(InputError, match=r"flat: no training images: expected train/<class>/<name>"):
        prepare(ImageData(source="flat"), layout)

    (tmp_path / "broken" / "train" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "train" / "a" / "x.png").write_bytes(picture(0)[:40])
    with pytest.raises(InputError, match=r"broken: train/a/x\.png: expected an image"):
        prepare(ImageData(source="broken"), layout)
    assert list((tmp_path / "results" / "data").iterdir()) == []


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """An archive in CIFAR-10's format, with torchvision's checksums set to its own; no network."""
    from torchvision.datasets import CIFAR10

    def batch(count: int, seed: int) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
        return pickle.dumps({"data": pixels, "labels": [index % 10 for index in range(count)]})

    names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    members = {name: batch(20, seed) for seed, name in enumerate(names)}
    members["batches.meta"] = pickle.dumps({"label_names": [f"class{n}" for n in range(10)]})
    archive = tmp_path / "home" / CIFAR10.filename
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))

    def sums(wanted: list[str]) -> list[list[str]]:
        return [[name, hashlib.md5(members[name]).hexdigest()] for name in wanted]

    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", sums(names[:5]))
    monkeypatch.setattr(CIFAR10, "test_list", sums(names[5:]))
    meta_sum = sums(["batches.meta"])[0]
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta_sum[1]})
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setenv("DECAYLAB_DATA", str(archive.parent))
    return archive


def test_cifar_from_an_archive_that_is_already_there(cifar, tmp_path):
    layout = Layout(tmp_path / "results")
    data = ImageData(source="cifar10", image_size=32)
    about = meta(prepare(data, layout))
    assert about["examples"] == {"train": 100, "test": 20}
    assert about["classes"][0] == "class0"
    assert os.listdir(cifar.parent) == [cifar.name]
    with tarfile.open(cifar) as file:
        file.extractall(cifar.parent, filter="data")
    cifar.unlink()
    again = meta(prepare(data, Layout(tmp_path / "unpacked")))
    assert again["data_sha256"] == about["data_sha256"]


def test_cifar_downloads_are_kept_for_the_next_time(cifar, tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    served = tmp_path / "served" / cifar.name
    served.parent.mkdir()
    cifar.rename(served)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{cifar.name}")
        prepare(ImageData(source="cifar10", image_size=32), Layout(tmp_path / "results"))
        server.shutdown()
    assert cifar.read_bytes() == served.read_bytes()
    assert os.listdir(cifar.parent) == [cifar.name]


def test_cifar_without_network_or_with_a_bad_file_is_one_line(cifar, tmp_path):
    layout = Layout(tmp_path / "results")
    content = cifar.read_bytes()
    cifar.write_bytes(content[:-10])
    with pytest.raises(InputError, match=r"cifar-10-python\.tar\.gz: not the file that torchvision expects \(md5"):
        prepare(ImageData(source="cifar10"), layout)
    assert cifar.read_bytes() == content[:-10]
    cifar.unlink()
    with pytest.raises(
        InputError, match=r"cifar10: tried .*home/cifar-10-python\.tar\.gz, then http://127\.0\.0\.1:9/"
    ):
        prepare(ImageData(source="cifar10"), layout)
    assert list(cifar.parent.iterdir()) == []
    assert list((tmp_path / "results" / "data").iterdir()) == []


REAL = Path(os.environ.get("DECAYLAB_DATA", "data")) / "cifar10-images.tar.xz"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason=f"needs {REAL.name} in DECAYLAB_DATA")
def test_real_images(tmp_path):
    data, choice = given_by_user(REAL, image_size=16, train_examples=2000, test_examples=1000)
    about = meta(prepare(data, Layout(tmp_path), choice))
    assert about["examples"] == {"train": 50_000, "test": 10_000}
    assert about["classes"][:2] == ["airplane", "automobile"]
    loaded = load(data, Layout(tmp_path), CPU, batch_size=128, seed=0, choice=choice)
    targets = torch.cat([targets for _, targets in loaded.evaluation("train", None)])
    assert torch.bincount(targets).tolist() == [200] * 10
