import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.metrics import evaluate
from decaylab.analysis.results import RunResult
from decaylab.errors import InputError
from decaylab.replication import Metric


def run(final=None, rows=None, diverged=None, steps=100):
    result = RunResult(
        {
            "run_id": "mlp-1",
            "spec": {"steps": steps},
            "seconds": 3.0,
            "final": final or {},
            "diverged_at_step": diverged,
            "chance": {"loss": 2.3, "error": 0.9},
        },
        Path("nowhere"),
    )
    frame = pd.DataFrame(rows or [{"step": steps, **(final or {})}])
    vars(result)["metrics"] = frame  # where cached_property would put it
    return result


ROWS = [
    {"step": 0, "test_loss": 2.0, "batch_loss": np.nan},
    {"step": 25, "test_loss": np.nan, "batch_loss": 1.8},
    {"step": 50, "test_loss": 1.0, "batch_loss": 1.2},
    {"step": 75, "test_loss": np.nan, "batch_loss": 1.1},
    {"step": 100, "test_loss": 0.5, "batch_loss": 0.9},
]
CURVE = run({"test_loss": 0.5, "batch_loss": 0.9, "only_final": 7.0}, ROWS)


def value(result, name, **keys):
    return evaluate(result, Metric(name=name, **keys), "file: claim c")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, 0.5),
        ({"at": 1.0}, 0.5),
        ({"at": 0.99}, 1.0),
        ({"at": 0.5}, 1.0),
        ({"at": 0.0}, 2.0),
        ({"over": (0, 1)}, 3.5 / 3),
        ({"over": (0.5, 1), "reduce": "min"}, 0.5),
        ({"over": (0, 0.5), "reduce": "max"}, 2.0),
        ({"over": (0, 0.5), "reduce": "slope"}, -2.0),
        ({"over": (0, 0.5), "reduce": "slope", "log": True}, -2 * math.log(2)),
        ({"log": True}, math.log(0.5)),
        ({"over": (0.5, 1), "log": True}, math.log(0.75)),
    ],
)
def test_what_a_metric_reads(keys, expected):
    assert value(CURVE, "test_loss", **keys) == pytest.approx(expected)


def test_summary_metrics():
    lost = run({}, diverged=40)
    assert value(lost, "diverged") == 1
    assert value(lost, "diverged_at") == 0.4
    assert value(CURVE, "diverged") == 0
    assert value(CURVE, "diverged_at") == 1
    assert value(CURVE, "seconds") == 3
    assert value(CURVE, "flops") is None, "an old summary may lack it"
    assert value(CURVE, "only_final") == 7


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("test_loss", 2.3),
        ("ema_test_error", 0.9),
        ("loss", 2.3),
        ("token_loss.rare", 2.3),
        ("weight_norm", 4.0),
        ("lost_updates.mlp", 4.0),
    ],
)
def test_a_diverged_run_guesses(name, chance):
    assert value(run({name: 4.0}, diverged=90), name) == chance


def test_divergence_counts_from_its_step_on():
    lost = run({"test_loss": None, "batch_loss": None}, ROWS, diverged=60)
    assert value(lost, "test_loss", at=0.5) == 1.0, "it had not happened yet"
    assert value(lost, "test_loss", at=0.6) == 2.3
    assert value(lost, "test_loss", over=(0, 0.5), reduce="min") == 1.0
    assert value(lost, "test_loss", over=(0, 0.8), reduce="min") == 2.3
    assert value(lost, "test_loss", log=True) == pytest.approx(math.log(2.3))
    assert value(lost, "test_loss", over=(0, 1), reduce="slope") is None


def test_a_diverged_run_may_have_ended_before_a_column_began():
    lost = run({"weight_norm": None}, [{"step": 5, "weight_norm": 3.0}], diverged=10)
    assert value(lost, "weight_norm") is None
    assert value(lost, "jacobian_norm") is None
    assert value(lost, "weight_norm", over=(0.5, 1)) is None
    assert value(lost, "test_loss") == 2.3


def test_numbers_without_a_logarithm_are_absent():
    assert value(run({"train_error": 0.0}), "train_error", log=True) is None
    assert value(run({"weight_norm": None}), "weight_norm") is None
    rows = [{"step": 0, "x": 1.0}, {"step": 100, "x": 0.0}]
    assert value(run({"x": 0.0}, rows), "x", over=(0, 1), reduce="slope", log=True) is None


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("tset_loss", {}, "metric tset_loss: not in run mlp-1, which has batch_loss, only_final, test_loss, diverged"),
        ("only_final", {"at": 0.5}, "at its end only"),
        ("batch_loss", {"at": 0.1}, "nothing recorded between 0 and 0.1"),
        ("test_loss", {"over": (0.6, 1), "reduce": "slope"}, "one row in [0.6, 1.0] of run mlp-1, no slope"),
    ],
)
def test_what_cannot_be_read_is_one_line(name, keys, words):
    with pytest.raises(InputError) as error:
        value(CURVE, name, **keys)
    assert str(error.value).startswith("file: claim c: metric ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20))
def test_reductions_agree_with_numpy(values):
    rows = [{"step": i, "x": v} for i, v in enumerate(values)]
    result = run({"x": values[-1]}, rows, steps=len(values) - 1)
    for name in ("mean", "min", "max"):
        assert value(result, "x", over=(0, 1), reduce=name) == pytest.approx(getattr(np, name)(values))
    line = np.polyfit(np.linspace(0, 1, len(values)), values, 1)
    assert value(result, "x", over=(0, 1), reduce="slope") == pytest.approx(line[0], abs=1e-9)


def test_a_metric_at_matched_loss_is_read_between_rows():
    """Where the loss first falls to the value; rows without either column do not count."""
    rows = [
        {"step": 0, "train_loss": 2.0, "trace": 50.0},
        {"step": 10, "train_loss": 1.5, "trace": np.nan},
        {"step": 20, "train_loss": 1.0, "trace": 30.0},
        {"step": 30, "train_loss": 0.5, "trace": 10.0},
        {"step": 40, "train_loss": 0.9, "trace": 90.0},
        {"step": 50, "train_loss": 0.4, "trace": 70.0},
    ]
    result = run({"train_loss": 0.4, "trace": 70.0}, rows, steps=50)
    assert value(result, "trace", when=("train_loss", 0.6)) == pytest.approx(14.0)
    assert value(result, "trace", when=("train_loss", 1.5)) == pytest.approx(40.0)
    assert value(result, "trace", when=("train_loss", 1.0), log=True) == pytest.approx(math.log(30))
    assert value(result, "trace", when=("train_loss", 0.1)) is None
    assert value(result, "trace", when=("train_loss", 3.0)) is None
    with pytest.raises(InputError, match="metric validation_loss: not in run mlp-1"):
        value(result, "trace", when=("validation_loss", 1.0))
    with pytest.raises(ValueError, match="a metric has one of `at`, `over` and `when`"):
        Metric(name="trace", at=0.5, when=("train_loss", 0.6))
