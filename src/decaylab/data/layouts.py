"""Splits and classes that the names of image files tell: `<split>/<class>/**/<name>`, below any top folder."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from decaylab.data.inventory import Inventory
from decaylab.files import printable

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
"""names of the held-out split, the preferred first"""
_NAMED_FEW = 5
_COMPANIONS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".py")
"""what stands beside images without being some"""


@dataclass(frozen=True)
class Place:
    """Where an image stands."""

    root: str
    """the folder that holds the splits"""
    split: str
    """`train`, or one of TEST"""
    label: str
    """name of the class, in Unicode's composed form (a file system may decompose it)"""
    rest: tuple[str, ...]
    """what follows the class"""


def places(names: Iterable[str]) -> dict[str, Place]:
    """The place of each name that has one.

    The splits are looked for below the topmost folder that has both a training and a held-out split, so that a top
    folder that is itself called `train` does not mislead; without such a folder, at the first name of a split.
    """
    parts = {name: name.split("/") for name in names}
    splits: dict[tuple[str, ...], set[bool]] = defaultdict(set)
    for words in parts.values():
        for index in _candidates(words):
            splits[tuple(words[:index])].add(words[index].lower() in TRAIN)
    found = {}
    for name, words in parts.items():
        candidates = _candidates(words)
        if candidates:
            whole = (index for index in candidates if len(splits[tuple(words[:index])]) == 2)
            index = next(whole, candidates[0])
            found[name] = Place(
                root="/".join(words[:index]),
                split=canonical(words[index]),
                label=unicodedata.normalize("NFC", printable(words[index + 1])),
                rest=tuple(words[index + 2 :]),
            )
    return found


def may_have_place(name: str) -> bool:
    return bool(_candidates(name.split("/")))


def emptied(others: Iterable[str]) -> dict[str, set[str]]:
    """For each split, the classes that have files that are no known images, leaving out usual companions."""
    found: dict[str, set[str]] = defaultdict(set)
    kept = [name for name in others if not name.lower().endswith(_COMPANIONS)]
    for place in places(kept).values():
        found[place.split].add(place.label)
    return found


def canonical(split: str) -> str:
    split = split.lower()
    return "train" if split in TRAIN else split


def _candidates(words: list[str]) -> list[int]:
    """Where a split's name may stand: a class and a file follow it."""
    return [index for index, word in enumerate(words[:-2]) if word.lower() in (*TRAIN, *TEST)]


def copies(found: dict[str, Place], digests: dict[str, bytes], inventory: Inventory) -> set[str]:
    """Names below a folder that repeats what another one has, name by name and byte by byte: a nested copy."""
    files: dict[str, set[tuple]] = defaultdict(set)
    for name, place in found.items():
        files[place.root].add((place.split, place.label, place.rest, digests[name]))
    kept: dict[str, set[tuple]] = {}
    for root in sorted(files, key=lambda root: (root.count("/"), root)):
        if any(files[root] <= items for items in kept.values()):
            inventory.skip(root or "the top folder", "images in a nested copy of others", len(files[root]))
        else:
            kept[root] = files[root]
    if len(kept) > 1:
        inventory.note(f"images of {len(kept)} folders were joined: {named(printable(root or '.') for root in kept)}")
    return {name for name, place in found.items() if place.root not in kept}


def held_out(labels: dict[str, Counter[str]]) -> str:
    """The held-out split to use: the first by name whose classes are all classes of training images.

    Args:
        labels: number of images of each class, by split.

    Raises:
        ValueError: there is no such split; the message says what is wrong, class by class.
    """
    train = set(labels.get("train", ()))
    tests = [name for name in TEST if labels.get(name)]
    if not train or not tests:
        missing = "training" if not train else "held-out"
        names = ", ".join(TRAIN if not train else TEST)
        there = f"only {named(labels)}" if labels else "no images in such folders"
        raise ValueError(
            f"no {missing} images: expected train/<class>/<name> and test/<class>/<name>, found {there} "
            f"(the {missing} split may be called {names})"
        )
    for name in tests:
        if set(labels[name]) <= train:
            return name
    foreign = sorted(set(labels[tests[0]]) - train)
    lower = {label.lower(): label for label in train}
    twins = [f"{label!r} ({lower[label.lower()]!r} in train)" for label in foreign if label.lower() in lower]
    what = "classes whose names differ by case only" if twins else "classes that are not in train"
    raise ValueError(f"{tests[0]} has {what}: {named(twins or map(repr, foreign))}")


def check_nesting(found: dict[str, Place], inventory: Inventory) -> None:
    """Say which classes have folders of their own. Raises ValueError if those look like the classes."""
    folders: dict[str, set[str]] = defaultdict(set)
    for place in found.values():
        if len(place.rest) > 1:
            folders[place.label].add(place.rest[0])
    several = {label: names for label, names in folders.items() if len(names) > 1}
    labels = {place.label for place in found.values()}
    if len(labels) == 1 and several:
        (label,) = labels
        raise ValueError(
            f"all images lie below one class {label!r}, in folders {named(sorted(several[label]))}; "
            "expected train/<class>/<name>: move the folders up"
        )
    if several:
        inventory.note(f"folders inside a class count as that class: {named(sorted(several))}")


def check_classes(labels: dict[str, Counter[str]], emptied: dict[str, set[str]], inventory: Inventory) -> None:
    """Stop where classes vanished or only one is left; note those that are held out too little.

    Args:
        labels: number of images of each class in `train` and `test`.
        emptied: for each split, classes with files of which none could be read as an image.

    Raises:
        ValueError: says which classes.
    """
    train = labels["train"]
    if lost := sorted(emptied.get("train", set()) - set(train)):
        raise ValueError(f"no image was read of class {named(lost)}, though its folder has files")
    if len(train) < 2:
        raise ValueError(f"expected at least two classes, found only {named(train)}")
    if missing := sorted(set(train) - set(labels["test"])):
        inventory.note(f"no held-out images of class {named(missing)}")
    for split, counts in labels.items():
        if max(counts.values()) > 10 * min(counts.values()):
            rarest, most = min(counts, key=counts.get), max(counts, key=counts.get)
            inventory.note(
                f"{split}: classes differ in size: {counts[rarest]:,} images of {rarest}, {counts[most]:,} of {most}"
            )


def named(items: Iterable[object]) -> str:
    """The first few, and how many more."""
    items = list(map(str, items))
    more = f" and {len(items) - _NAMED_FEW} more" if len(items) > _NAMED_FEW else ""
    return ", ".join(items[:_NAMED_FEW]) + more
