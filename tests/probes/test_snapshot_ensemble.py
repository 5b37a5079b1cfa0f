"""The ensemble is the mean over saved snapshots, computed here from their files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import log_softmax, softmax

from decaylab.data import load
from decaylab.errors import Interrupted
from decaylab.files import Layout
from decaylab.models import build_model
from decaylab.probes.snapshot_ensemble import COLUMNS, total_variation
from decaylab.training.loop import Options, train
from tests.training.cases import CASES, spec

DROPPED = {
    "schedule": {"kind": "step", "drops": [{"step": 8, "learning_rate": 0.001}]},
    "evaluation": {"every": 2, "log_every": 2, "probes": ["snapshot_ensemble"]},
}
MEMBERS, LAST = (4, 6, 8), 12
"""evaluations after a quarter of the 12 steps and up to the drop; and the end"""


def table(layout: Layout, run) -> pd.DataFrame:
    return pd.read_parquet(layout.metrics(run.run_id)).set_index("step")


@pytest.mark.parametrize("case", ["resnet", "vit"])
def test_columns_are_those_of_the_saved_snapshots(case, tmp_path):
    layout = Layout(tmp_path)
    run = spec(CASES[case], snapshots=[*MEMBERS, LAST], **DROPPED)
    train(run, layout)
    data = load(run.data, layout, torch.device("cpu"), batch_size=run.batch_size, seed=0)
    ((images, labels),) = data.evaluation("test", None)
    labels = labels.numpy()

    def logits(step: int, part: str) -> np.ndarray:
        tensors = load_file(layout.snapshot(run.run_id, step))
        model = build_model(run.model, classes=data.classes, image_size=run.data.image_size, seed=1).eval()
        model.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
        with torch.no_grad():
            return model(images).double().numpy()

    ensemble = np.mean([softmax(logits(step, "model."), axis=1) for step in MEMBERS], axis=0)
    average, last = softmax(logits(MEMBERS[-1], "ema."), axis=1), softmax(logits(LAST, "model."), axis=1)
    found = table(layout, run)

    def distance(one, other):
        return np.abs(one - other).sum(1).mean() / 2

    assert found.loc[LAST, "ensemble_error"] == np.mean(ensemble.argmax(1) != labels)
    assert found.loc[LAST, "ensemble_loss"] == pytest.approx(-np.log(ensemble[np.arange(len(labels)), labels]).mean())
    assert found.loc[LAST, "ensemble_to_average"] == pytest.approx(distance(ensemble, average), rel=1e-4)
    assert found.loc[LAST, "ensemble_to_weights"] == pytest.approx(distance(ensemble, last), rel=1e-4)
    assert found.loc[LAST, "average_to_weights"] == pytest.approx(distance(average, last), rel=1e-4)
    assert distance(ensemble, last) > 0.01
    # one member: the ensemble is the network, whose loss the evaluation has as well
    first = found.loc[MEMBERS[0]]
    assert first["ensemble_to_weights"] == 0
    assert first["ensemble_error"] == first["test_error"]
    expected = -log_softmax(logits(MEMBERS[0], "model."), axis=1)[np.arange(len(labels)), labels].mean()
    assert first["ensemble_loss"] == pytest.approx(expected, rel=1e-6)
    # nothing before a quarter of the run, and no member after the drop
    assert found.loc[:2, list(COLUMNS)].isna().all(axis=None)
    assert found.loc[8:, ["ensemble_loss", "ensemble_to_average"]].nunique().eq(1).all()


def test_members_survive_an_interruption_to_the_last_bit(tmp_path):
    run = spec(CASES["resnet"], **DROPPED)
    whole, stopped = Layout(tmp_path / "whole"), Layout(tmp_path / "stopped")
    train(run, whole)
    asked = iter(range(1000))
    stops = 0
    while not stopped.summary(run.run_id).exists():
        try:
            train(run, stopped, Options(stop=lambda: next(asked) % 2 == 1))
        except Interrupted:
            stops += 1
    assert stops >= run.steps - 1
    pd.testing.assert_frame_equal(table(stopped, run), table(whole, run), check_exact=True)


def test_total_variation_of_known_distributions():
    certain = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    other = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    half = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    assert total_variation(certain, certain) == 0
    assert total_variation(certain, other) == 0.5
    assert total_variation(certain, half) == total_variation(half, certain) == 0.5
