"""What is checked once a source is read: whether its splits can show anything, and what leaks between them."""

from __future__ import annotations

import hashlib

import numpy as np

from decaylab.data.inventory import Inventory

_MOST = 0.5
"""share from which a fault makes a data set useless rather than worth a note"""
_NEARLY = 1.0
"""grey levels: the standard deviation below which an image counts as one colour"""


def images(splits: dict[str, tuple[np.ndarray, np.ndarray]], inventory: Inventory) -> None:
    """Note images of one colour, equal images, and those that stand in both splits.

    Args:
        splits: uint8 images [n, height, width, 3] and int64 labels [n] of `train` and `test`.

    Raises:
        ValueError: at least half of a split is one colour, or at least half of the held-out images stand in train.
    """
    digests: dict[str, list[bytes]] = {}
    for split, (pixels, labels) in splits.items():
        flat = sum(bool(image.std(axis=(0, 1)).max() < _NEARLY) for image in pixels)
        if flat:
            said = f"{split}: {flat:,} of {len(pixels):,} images are one colour or nearly so"
            _refuse_or_note(flat / len(pixels), said, inventory)
        digests[split] = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
        seen: dict[bytes, int] = {}
        clashes = sum(seen.setdefault(key, label) != label for key, label in zip(digests[split], labels, strict=True))
        if repeated := len(pixels) - len(seen):
            more = f", {clashes:,} of them in another class" if clashes else ""
            inventory.note(f"{split}: {repeated:,} of {len(pixels):,} images repeat an earlier one{more}")
    if shared := sum(map(set(digests["train"]).__contains__, digests["test"])):
        total = len(digests["test"])
        said = f"{shared:,} of {total:,} held-out images ({shared / total:.1%}) stand in training too"
        _refuse_or_note(shared / total, said, inventory)


def _refuse_or_note(share: float, said: str, inventory: Inventory) -> None:
    if share >= _MOST:
        raise ValueError(said)
    inventory.note(said)
