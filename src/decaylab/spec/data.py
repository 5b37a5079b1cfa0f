"""Data as a RunSpec describes them: which examples, and how they are drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from decaylab.sources import source_of
from decaylab.spec.base import NonNegative, Strict


class ImageData(Strict):
    """Labelled images, held as uint8 tensors, normalised by the training set's channel mean and deviation."""

    kind: Literal["images"] = "images"
    source: str = "procedural"
    """a file of `data/sources` by its name, or the name of the user's archive or folder"""
    sha256: str | None = None
    """digest of the archive or folder, set when a path is given, so that the id follows the content"""
    image_size: PositiveInt = 16
    """height and width in pixels; other sizes are resized by area"""
    train_examples: PositiveInt | None = None
    """a fixed, class-balanced subset; None takes all (generated images need a number)"""
    test_examples: PositiveInt | None = None
    subset_seed: int = 0
    """chooses the subset, and the procedural world; never varies between seeds of one arm"""
    classes: PositiveInt = 10
    """generated images only; other sources know theirs"""
    clutter: NonNegative = 0.5
    """procedural only: strength of distracting shapes"""
    noise: NonNegative = 0.7
    """procedural only: standard deviation of pixel noise, in units of the signal's"""
    fresh: bool = False
    """generated images only: every training batch is new (one pass over endless data)"""
    augmentation: Literal["none", "flip_translate"] = "none"

    @model_validator(mode="after")
    def _check(self) -> ImageData:
        generated = source_of("images", self.source).generated
        if generated and (self.train_examples is None or self.test_examples is None):
            raise ValueError(f"{self.source} images need train_examples and test_examples (they have no end)")
        if self.fresh and not generated:
            raise ValueError(f"fresh is for generated images only, not {self.source}")
        return self


class TextData(Strict):
    """Tokens in a flat memory-mapped array, split by document into train, validation and test."""

    kind: Literal["text"] = "text"
    source: str = "stdlib"
    """a file of `data/sources` by its name, or the names of the user's archives, folders and files, joined by +"""
    sha256: str | None = None
    tokenizer: Literal["bytes", "gpt2"] = "bytes"
    train_tokens: PositiveInt | None = None
    """use only the first tokens of the training split; None uses all"""
    order: Literal["random_offsets", "one_pass"] = "random_offsets"
    """windows at random offsets with replacement, or consecutive windows without repetition"""


Data = Annotated[ImageData | TextData, Field(discriminator="kind")]
