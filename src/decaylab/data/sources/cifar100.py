"""CIFAR-100: 32x32 colour photographs of a hundred classes (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.data.images import PreparedImages, write
from decaylab.data.sources import _torchvision
from decaylab.sources import Choice
from decaylab.spec import ImageData

ABOUT = {
    "kind": "images",
    "title": "CIFAR-100",
    "licence": "CIFAR by A. Krizhevsky, V. Nair and G. Hinton; published without a licence, for research",
    "url": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "classes": 100,
    "examples": {"train": 50_000, "test": 10_000},
    "download_bytes": 169_001_437,
}

Prepared = PreparedImages


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Resize all images into `folder`; returns its meta.json. Raises InputError."""
    return write(data, folder, *_torchvision.read(data.source, "CIFAR100", data.image_size, folder))
