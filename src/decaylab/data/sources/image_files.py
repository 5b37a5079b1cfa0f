"""The user's own images: files in folders or an archive, tables with an image column, or arrays (docs/data.md)."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data import checks, layouts, npz, pixels, tables
from decaylab.data.archives import contents, is_archive
from decaylab.data.images import Arrays, PreparedImages, write
from decaylab.data.inventory import Inventory, printable
from decaylab.data.store import source_paths
from decaylab.errors import InputError
from decaylab.sources import Choice
from decaylab.spec import ImageData

ABOUT = {"kind": "images", "title": "your own images"}

_ANNOTATIONS = "val_annotations.txt"
_PLACELESS = "images outside <split>/<class>/"

Prepared = PreparedImages

Labelled = dict[str, list[tuple[str, np.ndarray]]]
"""class and pixels of each image, by split"""


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Decode and resize all images into `folder`; returns its meta.json. Raises InputError."""
    (path,) = source_paths(data, choice)
    inventory = Inventory()
    read = _read_npz if path.suffix.lower() == ".npz" else _read
    try:
        found, order = read(path, data.image_size, inventory)
        splits, classes = _arrays(found, order)
        checks.images(splits, inventory)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return write(data, folder, splits, classes, inventory)


def _read_npz(path: Path, size: int, inventory: Inventory) -> tuple[Labelled, list[str]]:
    arrays = npz.read(path)
    inventory.take(path.name)
    counts = {split: Counter(labels) for split, (_, labels) in arrays.items()}
    test = layouts.held_out(counts)
    chosen = {"train": arrays["train"], "test": arrays[test]}
    layouts.check_classes({key: Counter(labels) for key, (_, labels) in chosen.items()}, {}, inventory)
    found = {
        split: [(label, pixels.from_array(image, size)) for image, label in zip(images, labels, strict=True)]
        for split, (images, labels) in chosen.items()
    }
    return found, sorted({label for _, labels in chosen.values() for label in labels}, key=int)


def _read(path: Path, size: int, inventory: Inventory) -> tuple[Labelled, list[str] | None]:
    """Images of files and of tables, with the order of the classes where the source defines one."""
    images: dict[str, np.ndarray] = {}
    others: list[str] = []
    rows: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    order: list[str] | None = None
    annotations: dict[str, str] = {}

    def wanted(name: str) -> bool:
        suffix = posixpath.splitext(name)[1].lower()
        if suffix in pixels.suffixes() or tables.is_table(name) or posixpath.basename(name) == _ANNOTATIONS:
            return True
        others.append(name)
        return False

    whole = path.is_dir() or is_archive(path)
    for name, content in contents(path, wanted, inventory) if whole else [(path.name, path.read_bytes())]:
        if posixpath.basename(name) == _ANNOTATIONS:
            lines = (line.split("\t") for line in content.decode("utf-8", errors="replace").splitlines())
            annotations |= {row[0]: row[1] for row in lines if len(row) > 1}
        elif tables.is_table(name):
            split = tables.split_of(name)
            for encoded, label, names in tables.images(name, content):
                order = names or order
                rows[split].append((label, _decoded(encoded, size, name, inventory)))
        else:
            images[name] = _decoded(content, size, name, inventory)
    if rows and not layouts.places(images):
        counts = {split: Counter(label for label, _ in items) for split, items in rows.items()}
        test = layouts.held_out(counts)
        layouts.check_classes({"train": counts["train"], "test": counts[test]}, {}, inventory)
        return {"train": rows["train"], "test": rows[test]}, order
    return _tree(images, others, annotations, inventory), None


def _decoded(content: bytes, size: int, name: str, inventory: Inventory) -> np.ndarray:
    try:
        image, remark = pixels.decode(content, size)
    except ValueError as error:
        raise ValueError(f"{printable(name)}: {error}") from None
    if remark:
        inventory.note(remark)
    return image


def _tree(
    images: dict[str, np.ndarray], others: list[str], annotations: dict[str, str], inventory: Inventory
) -> Labelled:
    """Images by the names of their folders; the annotations (Tiny ImageNet) overrule those of `val`."""
    places = layouts.places(images)
    for name in images.keys() - places.keys():
        inventory.skip(name, _PLACELESS)
    digests = {name: hashlib.sha256(images[name].tobytes()).digest() for name in places}
    for name in layouts.copies(places, digests, inventory):
        del places[name]
    labels = {
        name: annotations.get(posixpath.basename(name), place.label) if place.split == "val" else place.label
        for name, place in places.items()
    }
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    # of equal names in another order of the archive, the same comes first
    for name in sorted(places):
        counts[places[name].split][labels[name]] += 1
    test = layouts.held_out(counts)
    emptied: dict[str, set[str]] = defaultdict(set)
    for place in layouts.places(others).values():
        emptied[place.split].add(place.label)
    layouts.check_nesting(places, inventory)
    layouts.check_classes({"train": counts["train"], "test": counts[test]}, emptied, inventory)
    for split in counts.keys() - {"train", test}:
        inventory.skip(split, "images of splits that are not used", counts[split].total())
    return {
        key: [(labels[name], images[name]) for name in sorted(places) if places[name].split == split]
        for key, split in (("train", "train"), ("test", test))
    }


def _arrays(found: Labelled, order: list[str] | None) -> tuple[Arrays, list[str]]:
    classes = order or sorted({label for label, _ in found["train"]})
    index = {label: number for number, label in enumerate(classes)}
    return {
        split: (
            np.stack([image for _, image in rows]),
            np.array([index[label] for label, _ in rows], dtype=np.int64),
        )
        for split, rows in found.items()
    }, classes
