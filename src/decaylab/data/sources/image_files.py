"""The user's own images: files in folders or an archive, tables with an image column, or arrays (docs/data.md)."""

from __future__ import annotations

import hashlib
import posixpath
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data import checks, layouts, npz, pixels, tables
from decaylab.data.archives import Wanted, contents, is_archive
from decaylab.data.images import Arrays, PreparedImages, write
from decaylab.data.inventory import Inventory
from decaylab.data.store import source_paths
from decaylab.errors import InputError
from decaylab.files import printable
from decaylab.sources import Choice
from decaylab.spec import ImageData

ABOUT = {"kind": "images", "title": "your own images", "reader_version": 2}

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about damaged descriptions of whole pictures
            found, classes = read(path, data.image_size, inventory)
        splits = _arrays(found, classes)
        checks.images(splits, inventory)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    return write(data, folder, splits, classes) | {"found": inventory.to_json()}


def _read_npz(path: Path, size: int, inventory: Inventory) -> tuple[Labelled, list[str]]:
    arrays = npz.read(path)
    inventory.take(path.name)
    chosen = _chosen({split: Counter(labels) for split, (_, labels) in arrays.items()}, {}, inventory)
    found: Labelled = {"train": [], "test": []}
    for split, name in chosen.items():
        for image, label in zip(*arrays[name], strict=True):
            array, remarks = pixels.from_array(image, size)
            inventory.remarks.update(remarks)
            found[split].append((label, array))
    return found, _in_order(label for label, _ in found["train"])


def _read(path: Path, size: int, inventory: Inventory) -> tuple[Labelled, list[str]]:
    """Images of files or of tables, and the names of the classes in their order."""
    images: dict[str, np.ndarray] = {}
    others: list[str] = []
    rows: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    named: list[str] = []
    unusable: dict[str, ValueError] = {}
    annotations: dict[str, str] = {}

    def wanted(name: str) -> bool | str:
        if posixpath.splitext(name)[1].lower() in pixels.suffixes():
            return layouts.may_have_place(name) or _PLACELESS
        if tables.is_columnar(name) or posixpath.basename(name) == _ANNOTATIONS:
            return True
        others.append(name)
        return False

    def decoded(content: bytes, name: str) -> np.ndarray:
        try:
            image, remarks = pixels.decode(content, size)
        except ValueError as error:
            raise ValueError(f"{printable(name)}: {error}") from None
        inventory.remarks.update(remarks)
        return image

    for name, content in _files(path, wanted, inventory):
        if posixpath.basename(name) == _ANNOTATIONS:
            lines = (line.split("\t") for line in content.decode("utf-8", errors="replace").splitlines())
            annotations |= {row[0]: row[1] for row in lines if len(row) > 1}
        elif tables.is_columnar(name):
            split = tables.split_of(name)
            try:
                named = named or tables.class_names(name, content)
                for encoded, label in tables.images(name, content):
                    rows[split].append((label, decoded(encoded, name)))
            except ValueError as error:
                unusable[name] = error
        else:
            images[name] = decoded(content, name)
    if images or not (rows or unusable):
        for name in (*rows, *unusable):
            inventory.skip(name, "tables beside image files")
        return _tree(images, others, annotations, inventory)
    if unusable:
        raise next(iter(unusable.values()))
    chosen = _chosen({split: Counter(label for label, _ in items) for split, items in rows.items()}, {}, inventory)
    found = {split: rows[name] for split, name in chosen.items()}
    there = {label for label, _ in found["train"]}
    if absent := [name for name in named if name not in there]:
        inventory.note(f"train has no images of class {layouts.named(absent)}, which the table declares")
    return found, named or _in_order(there)


def _files(path: Path, wanted: Wanted, inventory: Inventory) -> Iterable[tuple[str, bytes]]:
    """The files of a folder or archive, or a table that is given alone."""
    if path.is_dir() or is_archive(path) or not tables.is_columnar(path.name):
        return contents(path, wanted, inventory)
    inventory.take(path.name)
    try:
        return [(path.name, path.read_bytes())]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _chosen(counts: dict[str, Counter[str]], emptied: dict[str, set[str]], inventory: Inventory) -> dict[str, str]:
    """The splits to use, `train` and `test`, by their names in the source. Raises ValueError if none will do."""
    test = layouts.held_out(counts)
    layouts.check_classes({"train": counts["train"], "test": counts[test]}, emptied, inventory)
    for split in counts.keys() - {"train", test}:
        inventory.skip(split, "images of splits that are not used", counts[split].total())
    return {"train": "train", "test": test}


def _tree(
    images: dict[str, np.ndarray], others: list[str], annotations: dict[str, str], inventory: Inventory
) -> tuple[Labelled, list[str]]:
    """Images by the names of their folders; the annotations (Tiny ImageNet) overrule those of `val`."""
    places = layouts.places(images)
    digests = {name: hashlib.sha256(images[name].tobytes()).digest() for name in places}
    for name in layouts.copies(places, digests, inventory):
        del places[name]
    labels = {
        name: annotations.get(posixpath.basename(name), place.label) if place.split == "val" else place.label
        for name, place in places.items()
    }
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, place in places.items():
        counts[place.split][labels[name]] += 1
    layouts.check_nesting(places, inventory)
    chosen = _chosen(counts, layouts.emptied(others), inventory)
    # archives may hold the same files in any order
    found = {
        split: [(labels[name], images[name]) for name in sorted(places) if places[name].split == source]
        for split, source in chosen.items()
    }
    return found, sorted(counts["train"])


def _in_order(labels: Iterable[str]) -> list[str]:
    """Classes that are numbers by their value, others by their name."""
    labels = set(labels)
    return sorted(labels, key=int) if all(map(str.isdecimal, labels)) else sorted(labels)


def _arrays(found: Labelled, classes: list[str]) -> Arrays:
    index = {label: number for number, label in enumerate(classes)}
    return {
        split: (
            np.stack([image for _, image in rows]),
            np.array([index[label] for label, _ in rows], dtype=np.int64),
        )
        for split, rows in found.items()
    }
