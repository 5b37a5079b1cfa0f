"""What a probe is: when it runs, what it sees of a training, what it writes, and what it costs.

The file of a probe defines a subclass of `BaseProbe` named `Probe`; `lost_updates.py` is a small one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from decaylab.optim.decay import WeightDecay
from decaylab.spec import RunSpec

Batch = tuple[Tensor, Tensor]
"""inputs and targets"""
Moment = Literal["evaluation", "update", "end"]


@dataclass(frozen=True)
class View:
    """What a probe sees of a training. Everything may be read, and gradients may be taken, twice if need be."""

    spec: RunSpec
    model: nn.Module
    """in evaluation mode"""
    step: int
    """finished updates"""
    learning_rate: float
    """of the last update, and 0 before the first; in `before`, of the update that follows"""
    optimizer: torch.optim.Optimizer
    decay: WeightDecay
    grouped: Mapping[str, Sequence[Tensor]]
    """parameter group: its weights; at the moment `update` their gradients are those of the last update"""
    loss: Callable[[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor], Tensor]
    """weights by name, buffers by name, inputs, targets -> mean loss, 0-d; can be differentiated twice"""
    average: Callable[[], nn.Module]
    """the moving average of the weights in evaluation mode, with batch statistics of its own; the run must keep one"""
    batches: Callable[[str, int | None], Iterator[Batch]]
    """split and number of examples -> fixed evaluation batches, the same for every seed"""
    autocast: Callable[[], contextlib.AbstractContextManager[Any]]
    """the precision in which the run computes"""
    generator: torch.Generator
    """on the CPU, of this probe at this step alone"""

    @property
    def weights(self) -> dict[str, Tensor]:
        """Trained parameters by name."""
        return dict(self.model.named_parameters())

    @property
    def buffers(self) -> dict[str, Tensor]:
        return dict(self.model.named_buffers())


class BaseProbe:
    """One measurement. The file of a probe defines a subclass named `Probe`, and these literals:

        COLUMNS = {"lost_updates": ("share of updates lost to rounding", "share")}   # column: label and unit
        PARAMETERS = {"matvecs": {"default": 16, "ge": 1}}   # keys and bounds, as keyword arguments of pydantic.Field
        NEEDS = "text"                                       # or "images"; absent if it works on both

    They are read without importing the file. A column `name.group` belongs to the column `name`.

    A probe cannot disturb its training: random state, modes and buffers are restored after it, and it must leave
    weights and optimizer as they are, which a test checks for every file in this folder.
    """

    moment: ClassVar[Moment] = "evaluation"
    """`evaluation`: between updates; `update`: around one; `end`: once, after the last update"""

    state: dict[str, Tensor]
    """what measurements must remember, empty at first; checkpoints keep it, so that an interruption changes no bit"""

    def __init__(self, **parameters: Any) -> None:
        """`parameters` as PARAMETERS declares them, with defaults filled in."""
        self.state = {}
        for name, value in parameters.items():
            setattr(self, name, value)

    def before(self, view: View) -> None:
        """Moment `update` only: called before the update that `measure` follows, to keep what it will change.

        The gradients of the update are in place, not yet clipped (and in float16 still scaled).
        """

    def measure(self, view: View) -> dict[str, Tensor | float | str]:
        """Columns and their values: numbers, or 0-d tensors on the device, which nobody waits for here.

        Text (a sample, say) is allowed at the end only; it goes into the run's summary.
        """
        raise TypeError(f"{type(self).__module__} does not measure anything")

    def example_passes(self, spec: RunSpec) -> float:
        """What one measurement costs, in forward passes of single examples; `plan` adds it up."""
        return 0.0
