"""One run by several processes: the numbers of one, whatever kills them, and one line where it cannot be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from decaylab import cli
from decaylab.data import prepare
from decaylab.errors import InputError, Interrupted, Lost
from decaylab.files import Layout, read_json
from decaylab.spec import RunSpec, dump_spec
from decaylab.training import distributed, launcher, loop
from decaylab.training.launcher import Place
from decaylab.yaml_files import merge
from tests.training import cases
from tests.training.cases import IMAGES, spec

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.training.two_processes"
TEXT = merge(cases.TEXT, {"data": {"source": "arithmetic"}})  # prepared in no time
EVERYTHING = {"evaluation": {"every": 5, "log_every": 1, "probes": ["equilibrium"]}, "steps": 11, "snapshots": [5]}
RUNS = {
    "gpt": spec(TEXT, ema=0.9, **EVERYTHING),
    "gpt in micro-batches": spec(
        TEXT, batch_size=12, micro_batch_size=4, gradient_clip=0.1, decay={"form": "l2_loss"}, steps=7
    ),
    "gpt with dropout": spec(TEXT, model={"dropout": 0.2}, steps=7),
    "resnet": spec(IMAGES, gradient_clip=1.0, **EVERYTHING),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Data of all runs."""
    layout = Layout(tmp_path_factory.mktemp("results"))
    for run in RUNS.values():
        prepare(run.data, layout)
    return layout.results / "data"


@pytest.fixture
def folder(tmp_path: Path, prepared: Path) -> Path:
    for name in ("shared", "alone", "stopped"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(prepared)
    return tmp_path


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", PROGRAM, str(folder), *words]


def write(folder: Path, *runs: RunSpec) -> None:
    (folder / "specs.json").write_text(json.dumps([run.model_dump(mode="json", exclude_none=True) for run in runs]))


def compare(folder: Path, run: RunSpec, finished_by: int) -> None:
    """What the processes left, of which so many ended the run, against what one process left."""
    shared, alone = (Layout(folder / name) for name in ("shared", "alone"))
    frames = [pd.read_parquet(layout.metrics(run.run_id)) for layout in (shared, alone)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-12, atol=1e-13)
    mine, its = (read_json(layout.summary(run.run_id)) for layout in (shared, alone))
    for group, values in its["applied_decay"].items():
        assert mine["applied_decay"][group]["measured"] == pytest.approx(values["measured"], rel=1e-9, abs=1e-12)
    assert mine["hardware"].pop("processes", 1) == finished_by
    assert {**mine, "seconds": 0}.keys() == {**its, "seconds": 0}.keys()
    assert mine["hardware"] == its["hardware"]
    assert mine["spec"] == its["spec"]
    for step in run.snapshots:
        assert shared.snapshot(run.run_id, step).exists()


@pytest.mark.slow
def test_two_processes_equal_one_in_float64_and_go_on_after_a_stop(folder):
    """As torchrun starts them."""
    write(folder, *RUNS.values())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", PROGRAM, str(folder)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for run in RUNS.values():
        if not getattr(run.model, "dropout", 0):
            compare(folder, run, finished_by=2)
        frames = [pd.read_parquet(Layout(folder / part).metrics(run.run_id)) for part in ("shared", "stopped")]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.slow
def test_killed_processes_end_with_one_line_and_training_goes_on(folder, monkeypatch, capfd):
    run = RUNS["gpt"]
    write(folder, run)
    monkeypatch.chdir(ROOT)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", PROGRAM, str(folder)]
    for killed, step in (("1", 3), ("01", 8)):
        assert launcher.launch(2, [*command, "--step", str(step), "--killed", killed]) == 1
        [line] = capfd.readouterr().err.splitlines()
        assert re.fullmatch(
            rf"decaylab: process [{killed}] of 2 was ended by SIGKILL, and the others with it; .*", line
        )
        checkpoint = torch.load(Layout(folder / "shared").state(run.run_id) / "checkpoint.pt", weights_only=True)
        assert checkpoint["step"] == step
    # on a single GPU, if need be
    subprocess.run(command, check=True)
    compare(folder, run, finished_by=1)


@pytest.mark.slow
def test_the_command_saves_when_it_is_ended(folder):
    run = spec(TEXT, steps=100_000, evaluation={"every": 50_000, "log_every": 1000})
    (folder / "spec.json").write_text(dump_spec(run))
    words = ["--spec", str(folder / "spec.json"), "--out", str(folder / "shared"), "--gpus", "2", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "decaylab", "train", *words], env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "step 0/" in process.stderr.readline()
    process.terminate()
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 1
    [line] = [line for line in rest.splitlines() if "s left" not in line]
    assert line.startswith(f"decaylab: {run.run_id}: stopped after step")
    assert line.endswith("state saved")


@pytest.mark.parametrize(
    ("programs", "code", "words"),
    [
        (["pass", "pass"], 0, ""),
        (["sleep(60)", "sys.exit(2)"], 2, ""),
        (["sys.exit(launcher.LOST)", "sleep(0.3); kill(SIGKILL)"], 1, "process 1 of 2 was ended by SIGKILL"),
        (["kill(SIGUSR1)", "signal(SIGTERM, SIG_IGN); sleep(60)"], 1, "process 0 of 2 was ended by SIGUSR1"),
        (["sys.exit(launcher.LOST)", "sleep(60)"], 1, ""),
    ],
)
def test_processes_end_together(monkeypatch, capfd, programs, code, words):
    monkeypatch.setattr(launcher, "CAUSE_SECONDS", 0.5)
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.5)
    imports = "import os, sys; from signal import *; from time import sleep; from decaylab.training import launcher"
    script = f"{imports}\nkill = lambda number: os.kill(os.getpid(), number)\nexec({programs}[launcher.place().rank])"
    began = time.monotonic()
    assert launcher.launch(2, [sys.executable, "-c", script]) == code
    assert time.monotonic() - began < 50
    lines = capfd.readouterr().err.splitlines()
    assert [words in line for line in lines] == [True] * bool(words)


def fails(monkeypatch, capsys, *words: str) -> str:
    """The one line of a command that is refused."""
    monkeypatch.setattr(sys, "argv", ["decaylab", "train", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_what_several_processes_cannot_do_is_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "spec.json"
    path.write_text(dump_spec(spec(TEXT, batch_size=5)))
    words = ["--spec", str(path), "--out", str(tmp_path)]
    assert "several GPUs train one run at a time" in fails(
        monkeypatch, capsys, *words, "--gpus", "2", "--together", "3"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert "4 GPUs are asked for, and this machine shows 3" in fails(monkeypatch, capsys, *words, "--gpus", "4")
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert "batch_size 5 cannot be split among 2 processes" in fails(monkeypatch, capsys, *words)
    assert "torchrun starts the processes" in fails(monkeypatch, capsys, *words, "--gpus", "2")
    path.write_text(dump_spec(spec(TEXT)))
    assert "expected auto, cpu or cuda where several" in fails(monkeypatch, capsys, *words, "--device", "cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "2 processes train here, and torch finds 0 GPUs" in fails(monkeypatch, capsys, *words)
    monkeypatch.delenv("LOCAL_RANK")
    assert "expected RANK, WORLD_SIZE, LOCAL_RANK" in fails(monkeypatch, capsys, *words)


@pytest.mark.parametrize(
    ("rank", "joined", "store", "spoken"),
    [
        (0, True, None, "input, interrupted, lost"),
        (1, True, None, "input"),
        (0, False, None, "input, interrupted, lost"),
        (1, False, None, "interrupted"),
        (0, True, "started by --gpus, which says who was lost", "input, interrupted"),
        (None, False, None, "input, interrupted, lost"),
    ],
)
def test_an_error_that_all_meet_is_said_once(monkeypatch, rank, joined, store, spoken):
    here = None if rank is None else Place(rank, 2, rank, 2, store)
    monkeypatch.setattr(launcher, "place", lambda: here)
    monkeypatch.setattr(launcher, "_joined", [here] if joined else [])
    errors = {"input": InputError(""), "interrupted": Interrupted(""), "lost": Lost("")}
    assert ", ".join(name for name, error in errors.items() if launcher.speaks(error)) == spoken


def test_one_process_of_torchrun_trains_as_usual(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert launcher.place() is None


def test_processes_that_have_come_apart_do_not_go_on(monkeypatch):
    def reduce(word, *_):
        word.copy_(torch.maximum(word, torch.tensor([1, 5, -5])))

    monkeypatch.setattr(distributed.dist, "all_reduce", reduce)
    first, second = distributed.Ranks(0, 2), distributed.Ranks(1, 2)
    with pytest.raises(InputError, match="2 processes train one run, but they read different checkpoints"):
        first.same(7, "they read different checkpoints")
    with pytest.raises(Lost):
        second.same(7, "they read different checkpoints")
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda word, *_: word.copy_(torch.tensor([1, 0, 0])))
    assert first.any(False), "the other asks"


def test_batch_norm_in_micro_batches_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda word, *_: None)
    monkeypatch.setattr(distributed.dist, "broadcast_object_list", lambda *_, **__: None)
    with pytest.raises(InputError, match="batch norm takes statistics of each micro-batch"):
        distributed.train_shared(
            distributed.Ranks(0, 2), spec(IMAGES, micro_batch_size=8), Layout(tmp_path), loop.Options()
        )
