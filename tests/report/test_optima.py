import numpy as np
import pandas as pd

from decaylab.report.optima import optima


def runs(best: float, **parameters: float) -> list[dict]:
    """Losses with their minimum at a decay of `best`, the same shape for every seed."""
    decays = [0.0, 0.01, 0.1, 1.0]
    return [
        {"weight_decay": decay, "seed": seed, "loss": seed + (np.log10(decay or 1e-9) - np.log10(best)) ** 2}
        | parameters
        for decay in decays
        for seed in range(4)
    ]


def test_each_arm_has_its_best_decay():
    table = optima(pd.DataFrame(runs(0.1, width=8) + runs(0.05, width=16) + runs(5, width=32)), "loss", ["width"])
    assert table["best"].tolist() == ["0.1", "0.05", "1 (end of the grid)"]
    assert table["interval"].tolist() == ["0.1 to 0.1", "0.05 to 0.05", "1 to 1"]
    assert table["seeds"].tolist() == [4, 4, 4]


def test_each_point_has_its_best_learning_rate():
    worse = [row | {"loss": row["loss"] + 10} for row in runs(0.01, width=8, learning_rate=0.3)]
    table = optima(
        pd.DataFrame(worse + runs(0.1, width=8, learning_rate=0.1)), "loss", ["width"], tuned="learning_rate"
    )
    assert table["best"].tolist() == ["0.1"]


def test_without_runs_there_is_no_table():
    assert optima(pd.DataFrame(), "loss", ["width"]).empty
    assert optima(pd.DataFrame(runs(0.1, width=8)), "other", ["width"]).empty
