"""Rows of metrics, and what counts as a divergence."""

import math

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decaylab.training.metric_buffer import MetricBuffer, divergence_step


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"step": 10 * (index + 1), "batch_loss": loss} for index, loss in enumerate(losses)]


def test_values_of_one_step_become_one_row_in_order_of_steps() -> None:
    buffer = MetricBuffer()
    buffer.record(5, {"batch_loss": torch.tensor(2.0)})
    buffer.record(0, {"train_loss": 3.0})
    buffer.record(5, {"train_loss": torch.tensor(1.0, dtype=torch.float64)})
    buffer.flush()
    frame = buffer.table().to_pandas()
    assert frame["step"].tolist() == [0, 5]
    assert frame.loc[1, ["batch_loss", "train_loss"]].tolist() == [2.0, 1.0]
    assert math.isnan(frame.loc[0, "batch_loss"])
    assert buffer.final() == {"train_loss": 1.0, "batch_loss": 2.0}


def test_what_is_written_is_what_was_recorded(tmp_path) -> None:
    buffer = MetricBuffer()
    buffer.record(1, {"train_loss": torch.tensor(0.1, dtype=torch.float64), "learning_rate": 0.3})
    buffer.flush()
    buffer.write(tmp_path / "metrics.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "metrics.parquet"), buffer.table().to_pandas())


def test_a_lost_value_is_null_in_the_summary_but_kept_in_the_table() -> None:
    buffer = MetricBuffer()
    buffer.record(1, {"train_loss": float("nan")})
    buffer.flush()
    assert buffer.final() == {"train_loss": None}
    assert math.isnan(buffer.table().to_pandas().loc[0, "train_loss"])


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ((5.0, 3.0, 2.9), None),
        ((5.0, 3.0, float("nan"), 2.0), 30),
        ((5.0, 3.0, float("inf")), 30),
        # chance is 5, the best 3: lost above 3.5
        ((5.0, 3.0, 4.9, 3.1), None),
        ((5.0, 3.0, 3.4, 3.6, 4.0), 40),
        ((5.0, 3.0, 4.0, 3.2, 4.1, 4.2), 50),
    ],
)
def test_a_spike_that_recovers_is_no_divergence(losses: tuple[float, ...], step: int | None) -> None:
    assert divergence_step(rows(*losses), chance=5.0) == step


@given(st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_a_falling_loss_never_diverges(losses: list[float]) -> None:
    assert divergence_step(rows(*sorted(losses, reverse=True)), chance=5.0) is None
