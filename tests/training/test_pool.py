"""Workers that train one run after another, and stop with their state saved."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.training.pool import Pool
from tests.training.cases import IMAGES, spec

OPTIONS = {"device": "cpu", "threads": 1, "choices": {}}
MLP = IMAGES | {"model": {"kind": "mlp", "width": 8}}


@pytest.mark.slow
def test_runs_are_trained_by_workers(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    runs = [spec(MLP, seed=seed) for seed in range(3)]
    done: list[str] = []
    with Pool(2, layout, OPTIONS, time.time() + 300) as pool:
        for run in runs:
            while not pool.idle:
                done += [item.run_id for item in pool.finished()]
            pool.train(run)
        while pool.running:
            done += [item.run_id for item in pool.finished()]
    assert sorted(done) == sorted(run.run_id for run in runs)
    assert all(layout.summary(run.run_id).exists() for run in runs)
    assert read_json(layout.summary(runs[0].run_id))["steps_done"] == 12


@pytest.mark.slow
def test_time_ends_a_run_which_continues_later(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    run = spec(MLP, steps=200_000, evaluation={"every": 100_000, "log_every": 1000})
    with Pool(1, layout, OPTIONS, time.time() + 15) as pool:
        pool.train(run)
        assert pool.finished() == []
        assert not pool.running
    assert not layout.summary(run.run_id).exists()
    assert (layout.state(run.run_id) / "checkpoint.pt").exists()


@pytest.mark.slow
def test_a_run_that_cannot_be_trained_is_an_error_of_the_pool(tmp_path: Path) -> None:
    run = spec(MLP, data={"source": str(tmp_path / "missing.tar.xz")})
    with Pool(1, Layout(tmp_path), OPTIONS, time.time() + 300) as pool:
        pool.train(run)
        with pytest.raises(InputError, match=r"missing\.tar\.xz"):
            pool.finished()
    assert os.getpid()
