"""The user's own images: an archive or folder with `<split>/<class>/` inside."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data.archives import contents
from decaylab.data.images import Arrays, PreparedImages, pillow, resize, write
from decaylab.data.store import source_paths
from decaylab.errors import InputError
from decaylab.sources import Choice
from decaylab.spec import ImageData

ABOUT = {"kind": "images", "title": "your own images"}

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
_TEST_NAMES = ("test", "val", "valid", "validation")
_ANNOTATIONS = "val_annotations.txt"

Prepared = PreparedImages


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Decode and resize all images into `folder`; returns its meta.json. Raises InputError."""
    (path,) = source_paths(data, choice)
    return write(data, folder, *_read(path, data.image_size))


def _read(path: Path, size: int) -> tuple[Arrays, list[str]]:
    """Read `<split>/<class>/**/<image>`, below any top folder; classes in the order of their names.

    The test split may be called test, val, valid or validation; the first whose classes are those of train is
    taken. A `val_annotations.txt` (Tiny ImageNet) gives the classes of images that lie in no folder of their class.
    """
    image = pillow()
    found: dict[str, list[tuple[str, str, np.ndarray]]] = {}
    annotations: dict[str, str] = {}

    def wanted(name: str) -> bool:
        return name.lower().endswith(SUFFIXES) or name.endswith(_ANNOTATIONS)

    for name, content in contents(path, wanted):
        parts = name.split("/")
        if parts[-1] == _ANNOTATIONS:
            rows = (line.split("\t") for line in content.decode("utf-8", errors="replace").splitlines())
            annotations |= {row[0]: row[1] for row in rows if len(row) > 1}
            continue
        split_at = next((i for i, part in enumerate(parts[:-2]) if part.lower() in ("train", *_TEST_NAMES)), None)
        if split_at is None:
            continue
        try:
            pixels = resize(image.open(io.BytesIO(content)), size)
        except (OSError, ValueError, SyntaxError, image.DecompressionBombError):
            raise InputError(f"{path}: {name}: expected an image, cannot be decoded") from None
        found.setdefault(parts[split_at].lower(), []).append((name, parts[split_at + 1], pixels))

    if annotations and "val" in found:
        found["val"] = [
            (name, annotations.get(name.split("/")[-1], label), pixels) for name, label, pixels in found["val"]
        ]
    classes = sorted({label for _, label, _ in found.get("train", [])})
    fitting = (name for name in _TEST_NAMES if name in found and {label for _, label, _ in found[name]} <= set(classes))
    test = next(fitting, None)
    if not classes or test is None:
        raise InputError(
            f"{path}: expected images as train/<class>/<name> and test/<class>/<name> ({' '.join(SUFFIXES)})"
        )
    index = {label: number for number, label in enumerate(classes)}
    splits = {}
    for split, key in (("train", "train"), ("test", test)):
        # archives may hold the same files in any order
        rows = sorted(found.pop(key), key=lambda row: row[0])
        labels = np.array([index[label] for _, label, _ in rows], dtype=np.int64)
        splits[split] = (np.stack([pixels for _, _, pixels in rows]), labels)
    return splits, classes
