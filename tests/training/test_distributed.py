"""One run by several processes: the numbers of one, whatever kills them, and one line where it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from decaylab import cli
from decaylab.errors import InputError, Interrupted, Lost
from decaylab.files import Layout, read_json
from decaylab.spec import RunSpec, dump_spec
from decaylab.training import distributed, launcher, loop
from decaylab.training.launcher import Place
from tests.training.cases import CASES, IMAGES, TEXT, spec

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.training.two_processes"
EVERYTHING = {"evaluation": {"every": 5, "log_every": 1, "probes": ["equilibrium"]}, "steps": 11, "snapshots": [5]}

RUNS = {
    "gpt": spec(TEXT, ema=0.9, **EVERYTHING),
    "gpt in micro-batches": spec(TEXT, batch_size=12, micro_batch_size=4, decay={"form": "l2_gradient"}, steps=7),
    "gpt, decay in the loss": spec(CASES["gpt, decay in the loss"], gradient_clip=0.1, steps=7),
    "gpt with dropout": spec(TEXT, model={"dropout": 0.2}, steps=7),
    "resnet": spec(IMAGES, gradient_clip=1.0, **EVERYTHING),
    "resnet on a sphere": spec(CASES["resnet on a sphere"], steps=7),
    "vit": spec(CASES["vit"], steps=7),
}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", PROGRAM, str(folder), *words]


def written(folder: Path, *runs: RunSpec) -> Path:
    (folder / "shared" / "data").mkdir(parents=True)
    for name in ("alone", "stopped"):
        (folder / name).mkdir()
        (folder / name / "data").symlink_to(folder / "shared" / "data")
    (folder / "specs.json").write_text(json.dumps([run.model_dump(mode="json", exclude_none=True) for run in runs]))
    return folder


def compare(folder: Path, run: RunSpec, **tolerance: float) -> None:
    """What the processes left against what one process left."""
    shared, alone = (Layout(folder / name) for name in ("shared", "alone"))
    frames = [pd.read_parquet(layout.metrics(run.run_id)) for layout in (shared, alone)]
    pd.testing.assert_frame_equal(*frames, **tolerance)
    mine, its = (read_json(layout.summary(run.run_id)) for layout in (shared, alone))
    for group, values in its["applied_decay"].items():
        assert mine["applied_decay"][group]["measured"] == pytest.approx(values["measured"], rel=1e-9, abs=1e-12)
    assert mine["hardware"].pop("processes") == 2
    assert {**mine, "seconds": 0}.keys() == {**its, "seconds": 0}.keys()
    assert mine["hardware"] == its["hardware"]
    assert mine["spec"] == its["spec"]
    for step in run.snapshots:
        assert shared.snapshot(run.run_id, step).exists()


@pytest.mark.slow
def test_two_processes_equal_one_in_float64_and_go_on_after_a_stop(tmp_path):
    """Started by torchrun. Nothing is written but by the first process, or files would be written twice."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    written(tmp_path, *RUNS.values())
    done = subprocess.run(
        [*launch, "-m", PROGRAM, str(tmp_path)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, run in RUNS.items():
        if "dropout" not in name:
            compare(tmp_path, run, rtol=1e-12, atol=1e-13)
        frames = [pd.read_parquet(Layout(tmp_path / part).metrics(run.run_id)) for part in ("shared", "stopped")]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.slow
def test_a_killed_process_ends_both_with_one_line_and_the_same_command_continues(tmp_path, monkeypatch, capfd):
    run = spec(TEXT, ema=0.9, snapshots=[6])
    written(tmp_path, run)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ROOT)
    for killed, step in (("1", 3), ("01", 8)):
        assert launcher.launch(2, command(tmp_path, "--step", str(step), "--killed", killed)) == 1
        [line] = capfd.readouterr().err.splitlines()
        assert f"process {killed[0]} of 2 was ended by SIGKILL, and the others with it" in line
        checkpoint = torch.load(Layout(tmp_path / "shared").state(run.run_id) / "checkpoint.pt", weights_only=True)
        assert checkpoint["step"] == step
    assert launcher.launch(2, command(tmp_path)) == 0
    compare(tmp_path, run, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_the_command_trains_with_two_processes_and_saves_when_it_is_ended(tmp_path):
    run = spec(TEXT, steps=100_000, evaluation={"every": 50_000, "log_every": 1000})
    (tmp_path / "spec.json").write_text(dump_spec(run))
    words = ["train", "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path), "--gpus", "2", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "decaylab", *words], env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "step 0/" in process.stderr.readline()
    process.terminate()
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 1
    [line] = [line for line in rest.splitlines() if "s left" not in line]
    assert line.startswith(f"decaylab: {run.run_id}: stopped after step")
    assert line.endswith("state saved")


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
