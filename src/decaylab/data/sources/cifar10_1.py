"""CIFAR-10.1: a new test set for CIFAR-10 (Recht, Roelofs, Schmidt and Shankar, arXiv 1806.00451).

Training images are those of CIFAR-10. The 2,000 test images are version 6, which is balanced: the published files
`cifar10.1_v6_data.npy` and `cifar10.1_v6_labels.npy`, below DECAYLAB_DATA. They are not downloaded.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.data.images import PreparedImages, write
from decaylab.data.pixels import pillow, resize
from decaylab.data.sources import _torchvision
from decaylab.errors import InputError
from decaylab.sources import Choice, data_home
from decaylab.spec import ImageData

ABOUT = {
    "kind": "images",
    "title": "CIFAR-10, tested on CIFAR-10.1",
    "licence": "CIFAR-10.1 under the MIT licence; CIFAR published without a licence, for research",
    "url": "https://github.com/modestyachts/CIFAR-10.1",
    "classes": 10,
    "examples": {"train": 50_000, "test": 2_000},
    "download_bytes": 170_498_071,
}
BLOBS = {
    "cifar10.1_v6_data.npy": "24349cc5f3fb59648d75cd8015b5a184b1f5c250",
    "cifar10.1_v6_labels.npy": "e713b09cecf2ecd933970001909fcdec7c907ab0",
}
"""files and their ids in the authors' git repository"""

Prepared = PreparedImages


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """Resize all images into `folder`; returns its meta.json. Raises InputError."""
    images, labels = (_array(name) for name in BLOBS)
    splits, classes = _torchvision.read(data.source, "CIFAR10", data.image_size, folder)
    picture = pillow().fromarray
    test = np.stack([resize(picture(pixels), data.image_size) for pixels in images])
    return write(data, folder, splits | {"test": (test, labels.astype(np.int64))}, classes)


def _array(name: str) -> np.ndarray:
    """A published file. Raises InputError if it is missing or not the published one."""
    path = data_home() / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the file of {ABOUT['url']}, folder datasets") from None
    found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found != BLOBS[name]:
        raise InputError(f"{path}: expected the published file (git blob {BLOBS[name]}), got {found}")
    return np.load(io.BytesIO(content), allow_pickle=False)
