"""Metrics that stay on the device until somebody needs the numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from decaylab.files import atomic_path

if TYPE_CHECKING:
    import pyarrow

Value = float | int | torch.Tensor


class MetricBuffer:
    """Collects one row per recorded step; 0-d tensors are fetched together, in one transfer, by `flush`."""

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows: list[dict[str, float]] = rows or []
        self._pending: dict[int, dict[str, Value]] = {}

    def record(self, step: int, values: dict[str, Value]) -> None:
        self._pending.setdefault(step, {}).update(values)

    def flush(self) -> list[dict[str, float]]:
        """Fetch what is pending (waits for the device) and return the rows that became final."""
        tensors = [v for row in self._pending.values() for v in row.values() if isinstance(v, torch.Tensor)]
        fetched = iter(torch.stack([t.detach().double() for t in tensors]).tolist() if tensors else [])
        new: list[dict[str, float]] = []
        for step, row in sorted(self._pending.items()):
            values = {k: next(fetched) if isinstance(v, torch.Tensor) else v for k, v in row.items()}
            new.append({"step": step} | values)
        self.rows += new
        self._pending.clear()
        return new

    def add_to_last(self, step: int, values: dict[str, Value]) -> None:
        """Put numbers that were measured after the end into the last row, that of `step`."""
        if not values:
            return
        self.record(step, values)
        row = self.flush()[0]
        if self.rows[-2:-1] and self.rows[-2]["step"] == step:
            self.rows.pop()
            self.rows[-1] |= row

    def table(self) -> pyarrow.Table:
        """All rows, `step` first; NaN where a column was not recorded."""
        import pyarrow  # takes long to import; by the end of a training that no longer matters

        names = dict.fromkeys(name for row in self.rows for name in row)
        columns = {}
        for name in names:
            kind = pyarrow.int64() if name == "step" else pyarrow.float64()
            values = np.array([row.get(name, math.nan) for row in self.rows], kind.to_pandas_dtype())
            # as a buffer: given a list or an array, pyarrow loads pandas to see whether it is one of its own
            columns[name] = pyarrow.Array.from_buffers(kind, len(values), [None, pyarrow.py_buffer(values)])
        return pyarrow.table(columns)

    def final(self) -> dict[str, float | None]:
        """The last recorded value of each column; null if it is not finite."""
        values: dict[str, float | None] = {}
        for row in self.rows:
            values |= {k: v if math.isfinite(v) else None for k, v in row.items() if k != "step"}
        return values

    def write(self, path: Path) -> None:
        from pyarrow import parquet

        with atomic_path(path) as temporary:
            parquet.write_table(self.table(), temporary)


def divergence_step(rows: list[dict[str, float]], chance: float) -> int | None:
    """The step at which a training diverged, or None.

    It has diverged if a loss or the weights are not finite, or if the running training loss ends more than a quarter of
    the way back from its best value to chance level. In the second case the step is the first of the final stretch
    above that level, so a spike from which the training recovers is no divergence.

    Args:
        rows: recorded rows with `step`, `batch_loss` and perhaps `weight_norm`.
        chance: loss at chance level, in nats.
    """
    best = math.inf
    diverged: int | None = None
    for row in rows:
        if "batch_loss" not in row:
            continue
        step, loss = int(row["step"]), row["batch_loss"]
        if not (math.isfinite(loss) and math.isfinite(row.get("weight_norm", 0.0))):
            return step
        best = min(best, loss)
        if loss <= best + 0.25 * max(chance - best, 0.0):
            diverged = None
        elif diverged is None:
            diverged = step
    return diverged
