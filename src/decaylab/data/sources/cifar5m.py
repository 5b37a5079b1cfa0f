"""CIFAR-5m: six million images like CIFAR-10's, from a generative model (Nakkiran, Neyshabur and Sedghi, 2021).

The published files `part0.npz` ... `part5.npz` (18 GB), in a folder `cifar5m` below DECAYLAB_DATA; they are not
downloaded. The last 10,000 images of the last file are the test split, all others are for training.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from decaylab.data.images import PreparedImages
from decaylab.data.pixels import pillow, resize
from decaylab.errors import InputError
from decaylab.files import sha256_file, sha256_json
from decaylab.sources import Choice, data_home
from decaylab.spec import ImageData

ABOUT = {
    "kind": "images",
    "title": "CIFAR-5m",
    "licence": "published without a licence, for research; made by a model of CIFAR-10",
    "url": "https://github.com/preetum/cifar5m",
    "classes": 10,
    "examples": {"train": 5_992_688, "test": 10_000},
    "download_bytes": 18_400_000_000,
}
PARTS = 6
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_TEST = 10_000
_CHUNK = 10_000

Prepared = PreparedImages


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Write all images, resized, into `folder`, a chunk at a time; returns its meta.json. Raises InputError."""
    paths = [_find(part) for part in range(PARTS)]
    counts = [len(_array(path, "Y")) for path in paths]
    train = sum(counts) - _TEST
    if counts[-1] <= _TEST or train <= 0:
        raise InputError(f"{paths[-1]}: expected more than {_TEST} images, got {counts[-1]}")
    size = data.image_size
    files: dict[str, Any] = {}
    for split, count in (("train", train), ("test", _TEST)):
        images = open_memmap(folder / f"{split}_images.npy", "w+", np.uint8, (count, size, size, 3))
        labels = open_memmap(folder / f"{split}_labels.npy", "w+", np.int64, (count,))
        files[split] = (images, labels)
    levels = np.zeros((3, 256), dtype=np.int64)
    done = 0
    for images, labels in _chunks(paths, size):
        for split, start in (("train", 0), ("test", train)):
            held, kept = files[split]
            low, high = max(done, start), min(done + len(labels), start + len(kept))
            if low < high:
                held[low - start : high - start] = images[low - done : high - done]
                kept[low - start : high - start] = labels[low - done : high - done]
        seen = images[: max(0, train - done)]
        for channel in range(3):
            levels[channel] += np.bincount(seen[..., channel].ravel(), minlength=256)
        done += len(labels)
    for arrays in files.values():
        for array in arrays:
            array.flush()
    names = [f"{split}_{name}.npy" for split in files for name in ("images", "labels")]
    return {
        "kind": "images",
        "source": data.source,
        "source_sha256": None,
        "examples": {"train": train, "test": _TEST},
        "classes": CLASSES,
        "image_size": size,
        **_statistics(levels),
        "licence": ABOUT["licence"],
        "data_sha256": sha256_json([sha256_file(folder / name) for name in names]),
    }


def _find(part: int) -> Path:
    path = data_home() / "cifar5m" / f"part{part}.npz"
    if not path.is_file():
        raise InputError(f"data source cifar5m: {path}: not found; expected the files of {ABOUT['url']}")
    return path


def _array(path: Path, name: str) -> np.ndarray:
    """An array of a published file. Raises InputError if the file is damaged or has no such array."""
    try:
        with np.load(path) as archive:
            return archive[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected an npz file with arrays X and Y, cannot be read ({error})") from None


def _chunks(paths: list[Path], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """uint8 images [n, size, size, 3] and labels [n] of all files in their order; one file is in memory at a time."""
    for path in paths:
        images, labels = _array(path, "X"), _array(path, "Y")
        if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
            raise InputError(f"{path}: X: expected uint8 [n, 32, 32, 3], got {images.dtype} {list(images.shape)}")
        if not np.isin(labels, range(len(CLASSES))).all():
            raise InputError(f"{path}: Y: expected classes 0 to 9, got {labels.min()} to {labels.max()}")
        for start in range(0, len(labels), _CHUNK):
            part = images[start : start + _CHUNK]
            if size != 32:
                picture = pillow().fromarray
                part = np.stack([resize(picture(pixels), size) for pixels in part])
            yield part, labels[start : start + _CHUNK]


def _statistics(levels: np.ndarray) -> dict[str, list[float]]:
    """Mean and deviation of each channel from counts of grey levels [3, 256], as `images.statistics` takes them."""
    grey = np.arange(256)
    mean = [float(np.average(grey, weights=count)) for count in levels]
    variance = [float(np.average((grey - m) ** 2, weights=count)) for m, count in zip(mean, levels, strict=True)]
    return {"mean": mean, "std": [value**0.5 or 1.0 for value in variance]}
