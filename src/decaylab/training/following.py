"""A run that takes its step sizes from the recorded norms of another; see `decaylab.spec.Follow`.

Nothing in a step waits for the device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.optim.flat import FlatParameters
from decaylab.optim.norms import vector_norm
from decaylab.spec import RunSpec

COLUMN = "matrix_norm"


class Follower:
    """Scales the updates of a run, or its weights, around each step of its optimizer.

        follower.before(step)
        optimizer.step()
        follower.after(step)

    Norms between two records of the followed run are interpolated, their logarithms linearly. After its last record, as
    of a run that diverged, the norm stays what it was.

    Args:
        spec: of the run that follows.
        flat: its weights.

    Raises:
        InputError: the followed run has not been trained.
    """

    def __init__(self, spec: RunSpec, layout: Layout, flat: FlatParameters) -> None:
        self.follow, self.flat = spec.follow, flat
        # a gradient shrinks as weights grow, an update of Adam does not: the size of a step that turns as far
        self.power = 1 if spec.optimizer.name == "adamw" else 2
        names = list(self._units())
        table = _recorded(layout, spec.follow.run, names, spec.steps)
        self.norms = torch.tensor(table, dtype=torch.float32, device=flat.weights.device)
        """of the followed run, [steps + 1, units]: before its first update and after each"""
        self.factors = torch.ones(len(names), device=flat.weights.device)
        """by which the last update of each unit was multiplied"""

    def before(self, step: int) -> None:
        """Call it before update `step` (from 0) changes the weights."""
        units = list(self._units().values())
        if self.follow.match == "effective_learning_rate":
            self._old = [unit.clone() for unit in units]
            self.factors = (_norms(units) / self.norms[step]) ** self.power

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Call it after update `step` changed them."""
        units = list(self._units().values())
        if self.follow.match == "norm":
            torch._foreach_mul_(units, _like(units, self.norms[step + 1] / _norms(units)))
            return
        torch._foreach_sub_(units, self._old)
        torch._foreach_mul_(units, _like(units, self.factors))
        torch._foreach_add_(units, self._old)
        del self._old

    def measured(self, learning_rate: float, weight_norm: Tensor) -> dict[str, Tensor]:
        """The learning rate that the weights really saw, averaged over them, and that over their norm."""
        sizes = torch.tensor([float(unit.numel()) for unit in self._units().values()], device=self.factors.device)
        rest = self.flat.weights.numel() - sizes.sum()
        rate = learning_rate * ((self.factors * sizes).sum() + rest) / self.flat.weights.numel()
        return {"learning_rate": rate, "effective_learning_rate": rate / weight_norm**self.power}

    def _units(self) -> dict[str, Tensor]:
        """Column of the followed run: weights that share a factor. Looked up anew, since a stack moves them."""
        if self.follow.per == "all":
            return {COLUMN: self.flat.weights}
        if self.follow.per == "group":
            return {f"{COLUMN}.{group}": weights.data for group, weights in self.flat.groups.items()}
        named = zip(self.flat.names, self.flat.parameters, strict=True)
        return {f"{COLUMN}.{name}": weight.data for name, weight in named if weight.ndim > 1}


def _norms(units: list[Tensor]) -> Tensor:
    return torch.stack([vector_norm(unit.flatten()) for unit in units]).float()


def _like(units: list[Tensor], factors: Tensor) -> list[Tensor]:
    return [factor.to(unit.dtype) for factor, unit in zip(factors.unbind(), units, strict=True)]


def _recorded(layout: Layout, run: RunSpec, names: list[str], steps: int) -> np.ndarray:
    """Norms [steps + 1, names] of the followed run."""
    from pyarrow import parquet

    path = layout.metrics(run.run_id)
    try:
        table = parquet.read_table(path, columns=["step", *names]).to_pydict()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; train the run that is followed first") from None
    at, rows = np.array(table["step"], float), np.array([table[name] for name in names], float).T
    known = np.isfinite(rows).all(axis=1) & (rows > 0).all(axis=1)
    every = np.arange(steps + 1)
    logs = np.log(rows[known])
    return np.exp(np.stack([np.interp(every, at[known], column) for column in logs.T], axis=1))
