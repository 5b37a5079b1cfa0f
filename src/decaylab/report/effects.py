"""Main effects and interactions of a factorial of two levels, as a table for notebooks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from decaylab.analysis.statistics import mean_interval
from decaylab.report.html import estimate


def effects(frame: pd.DataFrame, y: str, factors: Mapping[str, tuple[Any, Any]], most: int = 2) -> pd.DataFrame:
    """Effect of each factor on `y`, and of their interactions, with a 95 % Student interval over seeds.

    The effect of a factor is the mean of `y` at its second level minus that at its first, over all settings of the
    others. The interaction of two is half the difference of one's effect between the levels of the other. Only seeds
    that have every combination count.

    Args:
        frame: one row a run.
        factors: column: its first and its second level.
        most: factors in an interaction.
    """
    if frame.empty or not {y, "seed", *factors} <= set(frame):
        return pd.DataFrame()
    signs = {name: frame[name].map({levels[0]: -1, levels[1]: 1}) for name, levels in factors.items()}
    runs = frame.assign(**signs).dropna(subset=[y, *factors]).drop_duplicates([*factors, "seed"])
    complete = runs.groupby("seed")[y].transform("size") == 2 ** len(factors)
    runs = runs[complete]
    rows = []
    for number in range(1, most + 1):
        for names in itertools.combinations(factors, number):
            sign = runs[list(names)].prod(axis=1).astype(float)
            found = (sign * runs[y]).groupby(runs["seed"]).sum() / 2 ** (len(factors) - 1)
            if len(found):
                mean, interval = mean_interval(found.to_numpy())
                rows.append(
                    {
                        "effect": " x ".join(names),
                        "kind": "main effect" if number == 1 else "interaction",
                        y: estimate(mean, interval or (mean, mean)),
                        "seeds": len(found),
                        "size": np.abs(mean),
                    }
                )
    table = pd.DataFrame(rows)
    return table.sort_values("size", ascending=False).drop(columns="size") if rows else table
