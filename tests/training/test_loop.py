"""The training loop: equal to plain torch, equal after any interruption, and honest about what it did."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch.nn import functional

from decaylab.data import load
from decaylab.errors import InputError, Interrupted
from decaylab.files import Layout
from decaylab.models import build_model
from decaylab.spec import RunSpec, dump_spec, parse_spec
from decaylab.training import learner
from decaylab.training.device import resolve_device
from decaylab.training.loop import Options, train
from decaylab.yaml_files import merge
from tests.training import cases
from tests.training.cases import spec

IMAGES = cases.IMAGES | {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "ema": None}
TEXT = merge(
    cases.TEXT,
    {"model": {"dropout": 0.1, "bias": True}, "ema": 0.9, "evaluation": {"probes": ["completion"]}},
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    """One results directory, so that data are prepared once."""
    return Layout(tmp_path_factory.mktemp("results"))


def numbers(layout: Layout, run: RunSpec) -> tuple[pd.DataFrame, dict[str, Any]]:
    summary = json.loads(layout.summary(run.run_id).read_text())
    return pd.read_parquet(layout.metrics(run.run_id)), summary["final"]


def test_summary_says_what_a_reader_needs(layout: Layout) -> None:
    run = spec(TEXT)
    summary = train(run, layout)
    assert summary == json.loads(layout.summary(run.run_id).read_text())
    assert summary["run_id"] == run.run_id
    assert parse_spec(summary["spec"], "summary") == run
    assert summary["diverged_at_step"] is None
    assert summary["chance"]["loss"] == pytest.approx(math.log(256))
    assert summary["final"]["validation_loss"] < summary["chance"]["loss"]
    assert {"train_loss", "test_loss", "ema_validation_loss", "weight_norm", "gradient_norm"} <= set(summary["final"])
    assert len(summary["texts"]["completion"]) > len("Every effort moves you")
    assert summary["parameters"] == sum(p.numel() for p in build_model(run.model, classes=256, seed=0).parameters())
    assert len(summary["data_sha256"]) == 64
    assert summary["versions"]["torch"] == torch.__version__
    frame, _ = numbers(layout, run)
    assert frame["step"].tolist() == [0, 3, 6, 9, 12]
    assert frame["validation_loss"].notna().tolist() == [True, False, True, False, True]
    assert frame["batch_loss"].notna().tolist() == [False, True, True, True, True]
    # the test split of a text is looked at once
    assert frame["test_loss"].notna().sum() == 1


@pytest.mark.parametrize(
    ("base", "optimizer"),
    [
        (IMAGES | {"decay": {"weight_decay": 0.01, "form": "l2_gradient"}}, torch.optim.SGD),
        (TEXT | {"ema": None, "schedule": {"kind": "constant"}}, torch.optim.AdamW),
    ],
)
def test_equal_to_a_plain_torch_loop(layout: Layout, base: dict[str, Any], optimizer: Any) -> None:
    """Losses of the first steps equal those of torch's own optimizer, which applies its own decay."""
    run = spec(base, evaluation={"every": 12, "log_every": 1, "probes": []})
    train(run, layout)
    frame, _ = numbers(layout, run)

    context = run.model.context_length if run.model.kind == "gpt" else None
    size = run.data.image_size if run.data.kind == "images" else None
    data = load(run.data, layout, torch.device("cpu"), batch_size=run.batch_size, seed=0, context_length=context)
    model = build_model(run.model, classes=data.classes, image_size=size, seed=0)
    if size:
        model.to(memory_format=torch.channels_last)
    arguments = {"betas": (0.9, 0.95), "eps": 1e-8} if optimizer is torch.optim.AdamW else {}
    plain = optimizer(
        model.parameters(), lr=run.optimizer.learning_rate, weight_decay=run.decay.weight_decay, **arguments
    )
    torch.manual_seed(0)
    losses = []
    for step in range(run.steps):
        inputs, targets = data.batch(step)
        logits = model(inputs)
        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
        plain.zero_grad()
        loss.backward()
        if run.gradient_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), run.gradient_clip)
        plain.step()
        losses.append(loss.item())
    # float32 with another order of operations drifts; a wrong decay or schedule would be far off
    assert frame["batch_loss"].dropna().tolist() == pytest.approx(losses, rel=2e-4)


def test_micro_batches_accumulate_the_same_gradient(layout: Layout) -> None:
    whole = spec(TEXT, model={"dropout": 0.0}, ema=None)
    parts = spec(TEXT, model={"dropout": 0.0}, ema=None, micro_batch_size=2)
    train(whole, layout)
    train(parts, layout)
    (a, _), (b, _) = numbers(layout, whole), numbers(layout, parts)
    assert a["batch_loss"].dropna().tolist() == pytest.approx(b["batch_loss"].dropna().tolist(), rel=1e-4)


def test_arms_share_initialisation_and_data_and_differ_in_decay(layout: Layout) -> None:
    none, decayed = spec(TEXT, decay={"weight_decay": 0.0}), spec(TEXT, decay={"weight_decay": 3.0})
    other = spec(TEXT, decay={"weight_decay": 0.0}, seed=1)
    for run in (none, decayed, other):
        train(run, layout)
    (a, _), (b, _), (c, _) = (numbers(layout, run) for run in (none, decayed, other))
    assert a.loc[0, "train_loss"] == b.loc[0, "train_loss"] != c.loc[0, "train_loss"]
    assert a["weight_norm"].iloc[-1] > b["weight_norm"].iloc[-1]


@pytest.mark.parametrize("base", [IMAGES | {"ema": 0.9}, TEXT | {"evaluation": TEXT["evaluation"] | {"every": 5}}])
def test_stopped_at_every_step_and_continued_gives_the_same_bits(tmp_path: Path, layout: Layout, base) -> None:
    run = spec(base)
    train(run, layout)
    expected, final = numbers(layout, run)
    other = Layout(tmp_path)
    os.symlink(layout.results / "data", tmp_path / "data")
    asked = iter(range(10**6))
    stops = 0
    while True:
        try:
            # every second question is answered with yes, so each process does one step
            train(run, other, Options(stop=lambda: next(asked) % 2 == 1))
            break
        except Interrupted:
            stops += 1
    assert stops >= run.steps - 1
    found, found_final = numbers(other, run)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert found_final == final


@pytest.mark.slow
@pytest.mark.parametrize(("base", "times"), [(TEXT, 20), (IMAGES | {"ema": 0.9}, 5)])
def test_killed_many_times_gives_the_same_bits(tmp_path: Path, layout: Layout, base: dict[str, Any], times) -> None:
    """kill -9 at random moments of a real process, the same command again each time, no manual step."""
    run = spec(base, steps=400, evaluation={"every": 50, "log_every": 10})
    train(run, layout)
    expected, final = numbers(layout, run)
    os.symlink(layout.results / "data", tmp_path / "data")
    (tmp_path / "spec.json").write_text(dump_spec(run))
    script = (
        "import sys; from pathlib import Path; import decaylab.training.loop as loop;"
        "from decaylab.files import Layout; from decaylab.spec import load_spec;"
        "loop.CHECKPOINT_SECONDS = 0.0;"
        # saves often, so that kills also hit the middle of a save
        "print('ready', flush=True);"
        "loop.train(load_spec(Path(sys.argv[1])), Layout(Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "spec.json"), str(tmp_path)]
    generator = random.Random(0)
    kills = 0
    while kills < times and not Layout(tmp_path).summary(run.run_id).exists():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.35))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == times, "the run must be long enough to be killed that often"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    found, found_final = numbers(Layout(tmp_path), run)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert found_final == final


def test_sigterm_saves_and_stops(tmp_path: Path, layout: Layout) -> None:
    run = spec(TEXT, steps=100_000, evaluation={"every": 50_000, "log_every": 1000})
    os.symlink(layout.results / "data", tmp_path / "data")
    (tmp_path / "spec.json").write_text(dump_spec(run))
    command = [sys.executable, "-m", "decaylab", "train", "--spec", str(tmp_path / "spec.json"), "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "step 0/" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "state saved" in message
    assert "Traceback" not in message
    checkpoint = torch.load(Layout(tmp_path).state(run.run_id) / "checkpoint.pt", weights_only=True)
    assert 0 < checkpoint["step"] < run.steps


def test_a_finished_run_is_put_back_without_training(layout: Layout) -> None:
    run = spec(IMAGES, seed=7, snapshots=[6])
    first = train(run, layout)
    for path in layout.run(run.run_id).iterdir():
        path.unlink()
    trained: list[str] = []
    again = train(run, layout, Options(progress=lambda run_id, *_: trained.append(run_id)))
    assert again == first
    assert trained == []
    assert layout.metrics(run.run_id).exists()
    assert layout.snapshot(run.run_id, 6).exists()


def test_a_new_snapshot_wish_trains_again_to_the_same_numbers(layout: Layout) -> None:
    run = spec(IMAGES, seed=8)
    train(run, layout)
    expected, _ = numbers(layout, run)
    wish = run.model_copy(update={"snapshots": (4,)})
    assert wish.run_id == run.run_id
    train(wish, layout)
    found, _ = numbers(layout, run)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert layout.snapshot(run.run_id, 4).exists()


def test_a_run_that_starts_from_a_snapshot_continues_its_weights(layout: Layout) -> None:
    parent = spec(TEXT, seed=3, snapshots=[6], model={"dropout": 0.0})
    train(parent, layout)
    child = spec(
        TEXT,
        seed=3,
        model={"dropout": 0.0},
        steps=4,
        schedule={"kind": "constant", "warmup_steps": 0},
        optimizer={"learning_rate": 1e-9},
        decay={"weight_decay": 0.0},
        start={"run": parent.model_dump(mode="json"), "step": 6},
    )
    train(child, layout)
    (parent_rows, _), (child_rows, _) = numbers(layout, parent), numbers(layout, child)
    at_snapshot = parent_rows.set_index("step")["validation_loss"]
    assert child_rows["validation_loss"].iloc[0] == at_snapshot[6]
    assert child_rows["validation_loss"].iloc[-1] == pytest.approx(at_snapshot[6], abs=1e-5)


def test_a_missing_parent_is_one_line(tmp_path: Path, layout: Layout) -> None:
    parent = spec(TEXT, seed=99, snapshots=[6])
    child = spec(TEXT, seed=99, start={"run": parent.model_dump(mode="json"), "step": 6})
    os.symlink(layout.results / "data", tmp_path / "data")
    with pytest.raises(InputError, match="train the run it belongs to first"):
        train(child, Layout(tmp_path))


def test_a_divergence_is_a_result(layout: Layout) -> None:
    run = spec(IMAGES, optimizer={"learning_rate": 1e30}, steps=30, evaluation={"every": 3, "log_every": 1})
    summary = train(run, layout)
    assert summary["diverged_at_step"] is not None
    assert summary["steps_done"] < 30
    assert summary["final"]["batch_loss"] is None


def test_a_run_that_ends_early_for_its_gradients_has_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Squares of large gradients overflow in their norm, while Adam divides by them: losses stay finite."""
    monkeypatch.setattr(learner, "vector_norm", lambda gradient: torch.tensor(math.inf))
    summary = train(spec(IMAGES), Layout(tmp_path))
    assert (summary["steps_done"], summary["diverged_at_step"]) == (6, 6)


@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16_weights", "tf32"])
def test_every_precision_trains(layout: Layout, precision: str) -> None:
    run = spec(TEXT, precision=precision, evaluation={"probes": ["lost_updates", "attention"]})
    summary = train(run, layout)
    assert summary["final"]["train_loss"] < summary["chance"]["loss"]
    assert 0 <= summary["final"]["lost_updates"] <= 1
    assert summary["final"]["attention_logit"] > 0


def test_applied_decay_is_measured_from_the_weights(layout: Layout) -> None:
    run = spec(TEXT, seed=11, decay={"weight_decay": 0.1, "multipliers": {"norm": 0.0}}, schedule={"kind": "constant"})
    applied = train(run, layout)["applied_decay"]
    assert applied["mlp"]["measured"] == pytest.approx(applied["mlp"]["configured"], rel=1e-3)
    assert applied["norm"]["measured"] == 0.0
    assert applied["mlp"]["measured"] > 0.0


def test_unknown_device_and_probe_are_one_line() -> None:
    with pytest.raises(InputError, match=r"device: expected auto, cpu or cuda"):
        resolve_device("tpu")
    with pytest.raises(InputError, match=r"evaluation\.probes: expected one of .*, got 'nosuch'"):
        spec(TEXT, evaluation={"probes": ["nosuch"]})


def test_a_step_never_waits_for_the_device(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between evaluations nothing may fetch a number: every fetch of a scalar is counted."""
    from decaylab.training.loop import Loop
    from decaylab.training.training_run import TrainingRun

    fetches = {"step": 0, "inside": False}
    plain = torch.Tensor.item

    def counted(tensor: torch.Tensor) -> Any:
        fetches["step"] += fetches["inside"]
        return plain(tensor)

    backward, update = Loop._backward, TrainingRun.update

    def watched(method: Any) -> Any:
        def inner(*arguments: Any) -> Any:
            fetches["inside"] = True
            result = method(*arguments)
            fetches["inside"] = False
            return result

        return inner

    monkeypatch.setattr(torch.Tensor, "item", counted)
    monkeypatch.setattr(Loop, "_backward", watched(backward))
    monkeypatch.setattr(TrainingRun, "update", watched(update))
    train(spec(TEXT, seed=21, steps=20), layout)
    assert fetches["step"] == 0
