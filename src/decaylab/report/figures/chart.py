"""A figure together with the rows that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """What every function of this package returns."""

    kind: str
    """`training-curves`: part of the name of its data file"""
    figure: Figure
    data: pd.DataFrame
    """one row a point that is drawn, with `run_id` where a point belongs to one run"""

    @property
    def run_ids(self) -> list[str]:
        """All runs behind the figure, those subtracted included, in order of appearance."""
        columns = [name for name in ("run_id", "reference_run_id") if name in self.data]
        return list(dict.fromkeys(run_id for name in columns for run_id in self.data[name]))
