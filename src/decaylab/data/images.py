"""Labelled images as uint8 arrays: how they are prepared, and how batches are drawn from them.

Prepared folder: `train_images.npy`, `test_images.npy` (uint8 [n, size, size, 3]), `train_labels.npy`,
`test_labels.npy` (int64 [n]) and meta.json. Subsets are taken when loading.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decaylab.data.base import Dataset
from decaylab.data.draws import generator, move
from decaylab.data.store import meta
from decaylab.errors import InputError
from decaylab.files import sha256_file, sha256_json
from decaylab.sources import source_of
from decaylab.spec import ImageData

SPLITS = ("train", "test")
_MAX_SHIFT = 2
# Gathering normalised floats takes a third of the time of normalising in each step, but four times the memory.
_FLOAT_BYTES = {"cpu": 1 << 28, "cuda": 4 << 30}
_EVALUATION_BATCH = {"cpu": 500, "cuda": 2000}

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
"""for each split uint8 images [n, height, width, 3] and int64 labels [n]"""


def write(data: ImageData, folder: Path, splits: Arrays, classes: list[str]) -> dict[str, Any]:
    """Fill a prepared folder with the images of a source; returns its meta.json."""
    digests = []
    for split, (images, labels) in splits.items():
        for name, array in (("images", images), ("labels", labels)):
            np.save(_file(folder, split, name), array)
            digests.append(sha256_file(_file(folder, split, name)))
    return {
        "kind": "images",
        "source": data.source,
        "source_sha256": data.sha256,
        "examples": {split: len(labels) for split, (_, labels) in splits.items()},
        "classes": classes,
        "image_size": data.image_size,
        **statistics(splits["train"][0]),
        "licence": source_of("images", data.source).licence,
        "data_sha256": sha256_json(digests),
    }


def _file(folder: Path, split: str, name: str) -> Path:
    return folder / f"{split}_{name}.npy"


def statistics(images: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel of uint8 images [n, height, width, 3], in grey levels."""
    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    levels = np.arange(256)
    mean = [float(np.average(levels, weights=count)) for count in counts]
    variance = [
        float(np.average((levels - centre) ** 2, weights=count)) for centre, count in zip(mean, counts, strict=True)
    ]
    # a channel without any variation stays 0 instead of becoming infinite
    return {"mean": mean, "std": [value**0.5 or 1.0 for value in variance]}


def balanced(labels: np.ndarray, seed: int) -> np.ndarray:
    """All indices in an order of which every beginning is class-balanced: smaller subsets lie in larger ones."""
    rank = np.empty(len(labels), dtype=np.int64)
    draws = np.random.default_rng(seed)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = draws.permutation(len(members))
    return np.lexsort((labels, rank))


class Images(Dataset):
    """Images held on the device, drawn by a new permutation in each epoch; an incomplete last batch is left out."""

    kind = "images"
    evaluation_splits = SPLITS

    def __init__(
        self,
        data: ImageData,
        about: dict[str, Any],
        splits: dict[str, tuple[Tensor, Tensor]],
        device: torch.device,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """`about` is the meta.json; `splits` have uint8 images [n, height, width, 3] and int64 labels [n]."""
        self.classes = len(about["classes"])
        self.sha256 = about["data_sha256"]
        self._data = data
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._seed = seed
        self._mean = torch.tensor(about["mean"]).to(self._device)
        self._scale = (1 / torch.tensor(about["std"])).to(self._device)
        self._splits = {}
        for split, (images, labels) in splits.items():
            images = images.to(self._device)
            if 4 * images.numel() <= _FLOAT_BYTES.get(self._device.type, 0):
                images = self._normalise(images)
            self._splits[split] = (images, labels.to(self._device))
        examples = len(splits["train"][1])
        self._check_batch(examples)
        self._steps = examples // batch_size
        self.steps_per_epoch = float(self._steps)
        # one epoch is kept; any other is drawn again when asked for
        self._order = lru_cache(maxsize=1)(self._draw_order)
        self._moves = lru_cache(maxsize=1)(self._draw_moves)

    def _check_batch(self, available: int) -> None:
        if self._batch_size > available:
            raise InputError(f"batch_size {self._batch_size}: {self._data.source} has {available} training images")

    def _normalise(self, images: Tensor) -> Tensor:
        """float32 of uint8 images; the last dimension is the channel."""
        return images.float().sub_(self._mean).mul_(self._scale) if images.dtype == torch.uint8 else images

    def _draw_order(self, epoch: int) -> Tensor:
        """Indices of an epoch's images [steps, batch]."""
        order = torch.randperm(len(self._splits["train"][1]), generator=generator("order", self._seed, epoch))
        return move(order[: self._steps * self._batch_size].view(self._steps, self._batch_size), self._device)

    def _draw_moves(self, block: int) -> Tensor:
        """Shift down, shift right and flip of each image in a block of 64 steps [64, 3, batch]."""
        draws = generator("augmentation", self._seed, block)
        shifts = torch.randint(-_MAX_SHIFT, _MAX_SHIFT + 1, (64, 2, self._batch_size), generator=draws)
        flips = torch.randint(2, (64, 1, self._batch_size), generator=draws)
        return move(torch.cat([shifts, flips], dim=1), self._device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        images, labels = self._splits["train"]
        which = self._order(step // self._steps)[step % self._steps]
        return self._augment(images, which, step), labels.index_select(0, which)

    def _augment(self, images: Tensor, which: Tensor, step: int) -> Tensor:
        """The images `which` [batch, 3, height, width], normalised, moved and mirrored where the data ask for it."""
        if self._data.augmentation == "none":
            return self._normalise(images.index_select(0, which)).permute(0, 3, 1, 2)
        down, right, flip = self._moves(step // 64)[step % 64]
        size = images.shape[1]
        axis = torch.arange(size, device=self._device)
        rows = _reflect(axis + down[:, None], size)
        columns = _reflect(torch.where(flip[:, None] == 1, axis.flip(0), axis) + right[:, None], size)
        pixels = images[which[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self._normalise(pixels).permute(0, 3, 1, 2)

    def evaluation(self, split: str, examples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        self._check_split(split)
        images, labels = (part[:examples] for part in self._splits[split])
        size = _EVALUATION_BATCH.get(self._device.type, _EVALUATION_BATCH["cpu"])
        for part, targets in zip(images.split(size), labels.split(size), strict=True):
            yield self._normalise(part).permute(0, 3, 1, 2), targets


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0 ... size - 1, mirrored at the border pixels."""
    return (size - 1 - (size - 1 - position.abs()).abs()).clamp_(min=0)


class PreparedImages(Images):
    """Images from a prepared folder: a fixed, class-balanced subset, or all."""

    def __init__(self, data: ImageData, folder: Path, device: torch.device, *, batch_size: int, seed: int) -> None:
        splits = {}
        for split, wanted in (("train", data.train_examples), ("test", data.test_examples)):
            images = np.load(_file(folder, split, "images"), mmap_mode="r")
            labels = np.load(_file(folder, split, "labels"))
            if wanted is not None and wanted > len(labels):
                raise InputError(f"data.{split}_examples {wanted}: {data.source} has {len(labels)}")
            which = balanced(labels, data.subset_seed)[:wanted]
            splits[split] = (torch.from_numpy(images[which]), torch.from_numpy(labels[which]))
        super().__init__(data, meta(folder), splits, device, batch_size=batch_size, seed=seed)
