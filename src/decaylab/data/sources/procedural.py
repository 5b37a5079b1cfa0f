"""Procedural images: as many as one likes, the same in every run on a CPU, and nothing to download.

A world has a few smooth prototypes for each class. An image is one prototype, rotated, scaled, shifted and warped,
with shapes that belong to no class laid over it, both tinted at random, and noise added to each pixel.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from decaylab.data.draws import generator, move
from decaylab.data.images import Images, statistics
from decaylab.data.store import meta
from decaylab.sources import Choice
from decaylab.spec import ImageData

ABOUT = {
    "kind": "images",
    "title": "generated images: smooth prototypes under clutter and noise",
    "licence": "generated; no rights reserved",
    "generated": True,
    "key_fields": (
        "image_size",
        "classes",
        "clutter",
        "noise",
        "subset_seed",
        "train_examples",
        "test_examples",
    ),
}

_PROTOTYPES = 3
_DISTRACTORS = 32
_DISTRACTORS_PER_IMAGE = 2
_CONTROL_POINTS = 5
"""random values along each side of a prototype; everything between them is smooth"""
_ROTATION = math.radians(20)
_LOG_SCALE = 0.2
_SHIFT = 0.25
"""of half the image's width, as is the warp"""
_WARP = 0.15
_TINT = 0.5
_CONTRAST = 5
"""of a distractor at clutter 1, in deviations of a prototype"""
_LEVELS = 32
"""grey levels in one standard deviation of a prototype; 128 is its mean"""
_CHUNK = 1024


class World:
    """Everything that the images of one subset_seed have in common."""

    def __init__(self, data: ImageData) -> None:
        self.data = data
        draws = generator("world", data.subset_seed, data.classes)
        size = 2 * data.image_size
        self._prototypes = _smooth(data.classes * _PROTOTYPES, size, draws)
        axis = torch.linspace(-1, 1, size)
        # a disc with a soft edge, so that a distractor is a shape and not a second image
        disc = torch.sigmoid(8 * (0.6 - (axis[:, None] ** 2 + axis**2).sqrt()))
        textures = _smooth(_DISTRACTORS, size, draws)
        self._distractors = torch.cat([textures * disc, disc.expand_as(textures)], dim=1)

    def draw(self, labels: Tensor, draws: torch.Generator) -> Tensor:
        """One image for each label: uint8 [n, size, size, 3]."""
        n, size = len(labels), self.data.image_size
        which = labels * _PROTOTYPES + torch.randint(_PROTOTYPES, (n,), generator=draws)
        warp = _WARP * torch.randn(n, 2, 4, 4, generator=draws)
        warp = functional.interpolate(warp, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        grid = _place(n, size, _ROTATION, _LOG_SCALE, _SHIFT, draws) + warp
        images = _tint(n, draws) * _sample(self._prototypes[which], grid, "reflection")
        for _ in range(_DISTRACTORS_PER_IMAGE):
            which = torch.randint(_DISTRACTORS, (n,), generator=draws)
            # twice as wide a grid shows the distractor at half its size
            grid = 2 * _place(n, size, math.pi, 0.4, 0.7, draws)
            shape = _sample(self._distractors[which], grid, "zeros")
            picture, cover = shape.split(1, dim=1)
            images = images * (1 - (self.data.clutter * cover).clamp(max=1))
            images += self.data.clutter * _CONTRAST * _tint(n, draws) * picture
        images += self.data.noise * torch.randn(images.shape, generator=draws)
        return (128 + _LEVELS * images).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def split(self, name: str, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images of an endless, class-balanced split, and their labels."""
        images, labels = [], []
        for chunk in range(math.ceil(count / _CHUNK)):
            label = torch.arange(chunk * _CHUNK, (chunk + 1) * _CHUNK) % self.data.classes
            images.append(self.draw(label, generator("procedural", self.data.subset_seed, name, chunk)))
            labels.append(label)
        return torch.cat(images)[:count], torch.cat(labels)[:count]


def _smooth(count: int, size: int, draws: torch.Generator) -> Tensor:
    """Random smooth pictures [count, 1, size, size] of mean 0 and deviation 1."""
    points = torch.randn(count, 1, _CONTROL_POINTS, _CONTROL_POINTS, generator=draws, dtype=torch.float64)
    pictures = functional.interpolate(points, size=(size, size), mode="bicubic", align_corners=True)
    centred = pictures - pictures.mean(dim=(1, 2, 3), keepdim=True)
    # double precision, so that the order of summation never shows in an image's bytes
    return (centred / centred.std(dim=(1, 2, 3), keepdim=True)).float()


def _tint(n: int, draws: torch.Generator) -> Tensor:
    """Strength of each colour channel [n, 3, 1, 1]; the class cannot be told from it."""
    return 1 + _TINT * (2 * torch.rand(n, 3, 1, 1, generator=draws) - 1)


def _place(n: int, size: int, rotation: float, log_scale: float, shift: float, draws: torch.Generator) -> Tensor:
    """Coordinates [n, size, size, 2] of each pixel in a randomly rotated, scaled and shifted picture."""
    angle, scale, across, down = torch.rand(4, n, 1, 1, generator=draws) * 2 - 1
    cosine, sine = torch.cos(rotation * angle), torch.sin(rotation * angle)
    scale = torch.exp(log_scale * scale)
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    return torch.stack(
        [(cosine * x - sine * y) * scale + shift * across, (sine * x + cosine * y) * scale + shift * down], dim=-1
    )


def _sample(pictures: Tensor, grid: Tensor, outside: str) -> Tensor:
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode=outside, align_corners=False)


@lru_cache(maxsize=2)
def _generate(data: ImageData) -> tuple[World, dict[str, tuple[Tensor, Tensor]]]:
    """The world and its two splits; kept, since preparing is followed by loading, and seeds share them."""
    world = World(data)
    return world, {
        "train": world.split("train", data.train_examples),
        "test": world.split("test", data.test_examples),
    }


def _generated(data: ImageData) -> tuple[World, dict[str, tuple[Tensor, Tensor]]]:
    # neither of these changes the fixed images
    return _generate(data.model_copy(update={"fresh": False, "augmentation": "none"}))


def prepare(data: ImageData, folder: Path, choice: Choice | None) -> dict[str, Any]:
    """meta.json of the images; they themselves are generated again when they are loaded."""
    _, splits = _generated(data)
    digest = hashlib.sha256()
    for images, labels in splits.values():
        digest.update(images.numpy().tobytes())
        digest.update(labels.numpy().tobytes())
    return {
        "kind": "images",
        "source": "procedural",
        "examples": {split: len(labels) for split, (_, labels) in splits.items()},
        "classes": [str(label) for label in range(data.classes)],
        "image_size": data.image_size,
        **statistics(splits["train"][0].numpy()),
        "licence": ABOUT["licence"],
        "data_sha256": digest.hexdigest(),
    }


class Prepared(Images):
    """Procedural images: a fixed training set, or (`fresh`) new images in every step."""

    def __init__(self, data: ImageData, folder: Path, device: torch.device, *, batch_size: int, seed: int) -> None:
        self._world, splits = _generated(data)
        super().__init__(data, meta(folder), splits, device, batch_size=batch_size, seed=seed)
        # generated many at a time, since small calls cost as much as large ones
        self._fresh_steps = max(1, _CHUNK // batch_size)
        self._fresh = lru_cache(maxsize=1)(self._draw_fresh)
        if data.fresh:
            self.steps_per_epoch = None

    def _check_batch(self, available: int) -> None:
        if not self._data.fresh:
            super()._check_batch(available)

    def _draw_fresh(self, block: int) -> tuple[Tensor, Tensor]:
        draws = generator("fresh", self._data.subset_seed, self._seed, block)
        labels = torch.randint(self._data.classes, (self._fresh_steps * self._batch_size,), generator=draws)
        images = self._world.draw(labels, draws)
        return self._normalise(move(images, self._device)), move(labels, self._device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        if not self._data.fresh:
            return super().batch(step)
        images, labels = self._fresh(step // self._fresh_steps)
        start = step % self._fresh_steps * self._batch_size
        part = slice(start, start + self._batch_size)
        return self._augment(images, torch.arange(start, part.stop, device=self._device), step), labels[part]
