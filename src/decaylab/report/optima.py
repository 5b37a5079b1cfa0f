"""The best decay of each arm with its uncertainty, as a table for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from decaylab.analysis.optimum import bootstrap_optimum
from decaylab.report.html import number


def optima(
    frame: pd.DataFrame, y: str, by: Sequence[str], along: str = "weight_decay", tuned: str | None = None
) -> pd.DataFrame:
    """Where along an axis `y` is lowest, for each combination of `by`.

    Columns: `by`, the optimum, the ends of its 95 % bootstrap interval over seeds, and the seeds. Only seeds with
    every value of the axis count. Values of 0 have no logarithm and do not count. An optimum at an end of the grid
    says so: it may lie beyond.

    Args:
        frame: one row a run, as `Report.select` gives it.
        tuned: a parameter, such as the learning rate, of which each point has the value with the lowest mean.
    """
    if frame.empty or not {y, along, *by} <= set(frame):
        return pd.DataFrame()
    rows = []
    for key, arm in frame[frame[along] > 0].groupby(list(by), sort=False, dropna=False):
        arm = arm.dropna(subset=[y])
        if tuned:
            arm = pd.concat(_lowest(part, y, tuned) for _, part in arm.groupby(along))
        curves = arm.pivot_table(index="seed", columns=along, values=y).dropna()
        if curves.empty or curves.shape[1] < 3:
            continue
        x = np.log10(curves.columns.to_numpy(dtype=float))
        estimate, interval = bootstrap_optimum(x, curves.to_numpy())
        at_end = " (end of the grid)" if np.isclose(estimate, (x[0], x[-1])).any() else ""
        rows.append(
            dict(zip(by, key, strict=True))
            | {
                "best": f"{number(10**estimate, 2)}{at_end}",
                "interval": " to ".join(number(10**end, 2) for end in interval),
                "seeds": len(curves),
            }
        )
    return pd.DataFrame(rows)


def _lowest(runs: pd.DataFrame, y: str, tuned: str) -> pd.DataFrame:
    """The runs of the value of `tuned` whose mean of `y` is lowest."""
    return runs[runs[tuned] == runs.groupby(tuned)[y].mean().idxmin()]
