"""What is checked once a source is read: whether its splits can show anything, and what leaks between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from decaylab.data.inventory import Inventory

_MOST = 0.5
"""share from which a fault makes a data set useless rather than worth a note"""
_NEARLY = 1.0
"""grey levels: the standard deviation below which an image counts as one colour"""
_TOGETHER = 1000
HELD_OUT = 0.05
"""share of a text in each of validation and test"""


def images(splits: dict[str, tuple[np.ndarray, np.ndarray]], inventory: Inventory) -> None:
    """Note images of one colour, equal images, and those that stand in both splits.

    Args:
        splits: uint8 images [n, height, width, 3] and int64 labels [n] of `train` and `test`.

    Raises:
        ValueError: at least half of a split is one colour, or at least half of the held-out images stand in train.
    """
    digests: dict[str, list[bytes]] = {}
    for split, (pixels, labels) in splits.items():
        if flat := _one_colour(pixels):
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
        said = f"test: {shared:,} of {total:,} images ({shared / total:.1%}) also stand in train"
        _refuse_or_note(shared / total, said, inventory)


def _one_colour(pixels: np.ndarray) -> int:
    """How many of the images [n, height, width, 3] hardly vary in any channel."""
    parts = (pixels[start : start + _TOGETHER] for start in range(0, len(pixels), _TOGETHER))
    return sum(int((part.std(axis=(1, 2), dtype=np.float32).max(axis=1) < _NEARLY).sum()) for part in parts)


def _refuse_or_note(share: float, said: str, inventory: Inventory) -> None:
    if share >= _MOST:
        raise ValueError(said)
    inventory.note(said)


def document_digest(text: str) -> bytes:
    """The same for documents that differ only in their byte-order mark and the kind of their line ends."""
    same = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return hashlib.sha256(same.encode("utf-8", errors="replace")).digest()


class Texts:
    """Counts what stands in documents while they are tokenised."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._documents = self._repeated = self._characters = self._replaced = self._zeros = 0

    def watch(self, documents: Iterable[str]) -> Iterator[str]:
        """The documents themselves."""
        for text in documents:
            self._documents += 1
            digest = document_digest(text)
            self._repeated += digest in self._seen
            self._seen.add(digest)
            self._characters += len(text)
            self._replaced += text.count("\ufffd")
            self._zeros += text.count("\0")
            yield text

    def note(self, tokens: dict[str, int], inventory: Inventory) -> None:
        """Note what was counted, and held-out splits whose share of the tokens [split] is far from what was meant."""
        if self._repeated:
            inventory.note(f"{self._repeated:,} of {self._documents:,} documents repeat an earlier one: left out")
        if self._replaced:
            share = self._replaced / self._characters
            inventory.note(f"{self._replaced:,} of {self._characters:,} characters ({share:.2%}) are U+FFFD")
        if self._zeros:
            inventory.note(f"{self._zeros:,} of {self._characters:,} characters are zero, which also ends a document")
        for split in ("validation", "test"):
            share = tokens[split] / sum(tokens.values())
            if not HELD_OUT / 2 <= share <= HELD_OUT * 2:
                inventory.note(f"{split} has {share:.1%} of the tokens: expected about {HELD_OUT:.0%}")
