"""What a training loop may ask of data, whatever their kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


class Dataset(ABC):
    """Batches by step, and fixed evaluation examples; both on the device."""

    kind: Literal["images", "text"]
    classes: int
    """number of classes, or size of the vocabulary"""
    sha256: str
    """digest of the prepared content"""
    evaluation_splits: tuple[str, ...]
    steps_per_epoch: float | None
    """steps in which as many examples are drawn as there are; None where data have no end"""

    @abstractmethod
    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step (counted from 0): a pure function of (seed, step).

        Images: float32 [batch, 3, height, width], channels_last, normalised; int64 [batch].
        Text: int64 [batch, context_length] twice, the targets one token further on.
        """

    @abstractmethod
    def evaluation(self, split: str, examples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of fixed examples of a split, the same for every seed; all of them if `examples` is None.

        Never more than there are. Raises ValueError if the split is not one of `evaluation_splits`.
        """

    def check_steps(self, steps: int) -> None:  # noqa: B027 (most data have no end)
        """Raise InputError if the data end before `steps` steps are drawn."""

    def _check_split(self, split: str) -> None:
        if split not in self.evaluation_splits:
            raise ValueError(f"split {split!r}: expected one of {', '.join(self.evaluation_splits)}")
