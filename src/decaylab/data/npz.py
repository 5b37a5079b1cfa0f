"""Images and labels as arrays in one .npz file, under the names that Keras or MedMNIST give them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from decaylab.data.layouts import TEST, TRAIN, canonical
from decaylab.limits import Allowance, TooLarge

_IMAGES = ("x", "images", "image", "data")
_LABELS = ("y", "labels", "label", "targets")


def read(path: Path) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Images [n, ...] and class names [n] of each split; integer labels are named by their number.

    Raises:
        ValueError: no such arrays, other types, another number of labels than of images, or more in it than its size
            allows.
    """
    try:
        allowance = Allowance(path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                allowance.take(member.file_size)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except TooLarge:
        raise
    except (OSError, EOFError, zipfile.BadZipFile, ValueError, MemoryError) as error:
        raise ValueError(f"cannot be read as arrays ({error})") from None
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        words = re.split(r"[^a-z]+", name.lower())
        split = next((canonical(word) for word in words if word in (*TRAIN, *TEST)), None)
        part = next((part for part in (_IMAGES, _LABELS) if set(part) & set(words)), None)
        if split and part:
            found.setdefault(split, {})["images" if part is _IMAGES else "labels"] = array
    whole = {split: parts for split, parts in found.items() if len(parts) == 2}
    if not whole:
        raise ValueError(
            f"expected arrays named like x_train, y_train, x_test, y_test or train_images, train_labels, ...; "
            f"found {', '.join(arrays) or 'none'}"
        )
    return {split: (parts["images"], _names(split, parts)) for split, parts in whole.items()}


def _names(split: str, parts: dict[str, np.ndarray]) -> list[str]:
    labels = parts["labels"]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(parts["images"]):
        raise ValueError(
            f"{split} labels: expected {len(parts['images'])} integers, "
            f"got {labels.dtype} of shape {list(labels.shape)}"
        )
    return [str(label) for label in labels.tolist()]
