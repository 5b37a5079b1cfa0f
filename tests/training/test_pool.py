"""Workers that train one run after another, and stop with their state saved."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.training.pool import Pool
from tests.training.cases import IMAGES, spec

OPTIONS = {"device": "cpu", "threads": 1, "choices": {}}
ROOT = Path(__file__).parents[2]
MLP = IMAGES | {"model": {"kind": "mlp", "width": 8}}
LONG = spec(MLP, steps=500_000, evaluation={"every": 250_000, "log_every": 1000})


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
    run = LONG
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


CHILD = """
import sys, time
from pathlib import Path
from decaylab.files import Layout
from decaylab.training.pool import Pool
from tests.training.test_pool import LONG, OPTIONS

if __name__ == "__main__":
    with Pool(1, Layout(Path(sys.argv[1])), OPTIONS, time.time() + 300) as pool:
        pool.train(LONG)
        pool.finished()
"""


@pytest.mark.slow
def test_workers_save_their_state_and_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    layout = Layout(tmp_path / "results")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    parent = subprocess.Popen([sys.executable, str(script), str(layout.results)], cwd=tmp_path, env=environment)
    end = time.monotonic() + 120
    while not list(layout.results.glob("state/*/*")):
        assert time.monotonic() < end, "no training began"
        time.sleep(0.2)
    time.sleep(2)
    workers = [int(line) for line in children(parent.pid)]
    assert workers
    parent.kill()
    parent.wait()
    while any(Path(f"/proc/{worker}/stat").exists() for worker in workers):
        assert time.monotonic() < end, "a worker outlived its parent"
        time.sleep(0.2)
    assert (layout.state(LONG.run_id) / "checkpoint.pt").exists()


def children(pid: int) -> list[str]:
    """Ids of the processes that a process has started."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
