"""`decaylab export` and `decaylab evaluate`: a trained run leaves and comes back with the same losses."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from decaylab.exchange import gpt2
from decaylab.files import Layout, read_json
from decaylab.models import build_model
from decaylab.sources import choose
from decaylab.spec import RunSpec, dump_spec, parse_spec
from decaylab.training.loop import Options, train
from tests.test_cli import run as command

SPEC = {
    "model": {"kind": "gpt", "layers": 1, "heads": 2, "width": 16, "context_length": 16, "bias": False},
    "optimizer": {"name": "adamw", "learning_rate": 0.01},
    "steps": 6,
    "batch_size": 2,
    "ema": 0.5,
    "evaluation": {"every": 3, "log_every": 3, "train_examples": 5, "examples": 7},
    "seed": 0,
    "snapshots": [3, 6],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Layout]:
    root = tmp_path_factory.mktemp("exchange")
    (root / "texts").mkdir()
    letters = random.Random(0)
    for number in range(40):
        (root / "texts" / f"{number}.txt").write_text("".join(letters.choices("abcdefgh \n", k=400)))
    choice = choose("text", str(root / "texts"))
    spec = parse_spec(SPEC | {"data": {"kind": "text", **choice.fields()}}, "test")
    layout = Layout(root / "results")
    train(spec, layout, Options(device="cpu", choices={"text": choice}))
    return spec, layout


@pytest.fixture
def say(monkeypatch, capsys):
    return lambda *words: command(monkeypatch, capsys, *words)


def losses(table: str) -> dict[str, list[float]]:
    """split and measure: the values of its row, from what `decaylab evaluate` prints."""
    cells = [[part.strip() for part in line.strip("│┃ ").split("│")] for line in table.splitlines() if "│" in line]
    return {name.replace(" ", "_"): [float(value) for value in values] for name, *values in cells}


def test_an_exported_run_has_the_losses_of_the_run(trained, tmp_path, say):
    spec, layout = trained
    code, out, _ = say("export", spec.run_id, tmp_path / "model", "--results", layout.results)
    assert (code, out.strip()) == (0, str(tmp_path / "model"))
    about = read_json(tmp_path / "model" / gpt2.CONFIG)["decaylab"]
    assert about == {"run_id": spec.run_id, "step": 6, "average": False, "tokenizer": "bytes"}

    words = ("evaluate", tmp_path / "model", "--results", layout.results, "--device", "cpu")
    code, out, _ = say(*words, "--like", spec.run_id)
    assert code == 0
    found, final = losses(out), read_json(layout.summary(spec.run_id))["final"]
    assert found.keys() == {
        f"{split}_{kind}" for split in ("train", "validation", "test") for kind in ("loss", "error")
    }
    for name, (value, its) in found.items():
        assert value == pytest.approx(final[name], abs=1.1e-5), name
        assert its == pytest.approx(final[name], abs=0.6e-5), name

    (tmp_path / "spec.json").write_text(dump_spec(spec))
    code, out, _ = say(*words, "--spec", tmp_path / "spec.json")
    assert losses(out) == {name: [value] for name, (value, _) in found.items()}


@pytest.mark.parametrize(("words", "step", "kind"), [(["--step", 3], 3, "model"), (["--average"], 6, "ema")])
def test_other_weights_of_a_run_are_exported(trained, tmp_path, say, words, step, kind):
    spec, layout = trained
    assert say("export", spec.run_id, tmp_path / "model", "--results", layout.results, *words)[0] == 0
    expected = load_file(layout.snapshot(spec.run_id, step))[f"{kind}.blocks.0.mlp.input.weight"]
    network = gpt2.read(tmp_path / "model")
    assert torch.equal(network.blocks[0].mlp.input.weight, expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", 4], "export: --step: expected one of 3, 6, got 4"),
        (["--results", "nowhere"], "summary.json: no such file"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_one_line(trained, tmp_path, say, words, message):
    spec, layout = trained
    code, out, error = say("export", spec.run_id, tmp_path / "model", "--results", layout.results, *words)
    assert (code, out) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_a_run_without_snapshots_is_refused(trained, tmp_path, say):
    spec, layout = trained
    bare = Layout(tmp_path / "results")
    summary = read_json(layout.summary(spec.run_id))
    del summary["spec"]["snapshots"]
    bare.run(spec.run_id).mkdir(parents=True)
    bare.summary(spec.run_id).write_text(json.dumps(summary))
    code, _, error = say("export", spec.run_id, tmp_path / "model", "--results", bare.results)
    assert code == 2
    assert "kept no snapshot; train it with `snapshots: [6]` in its spec" in error


def saved(folder: Path, **changes: int) -> Path:
    """A folder with a random GPT of bytes."""
    model = parse_spec(SPEC | {"data": {"kind": "text"}}, "test").model.model_copy(update={"vocabulary": 256} | changes)
    network = build_model(model, classes=1, seed=0)
    gpt2.write(folder, model, network.state_dict(), tokenizer="bytes", about={})
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 200}, "vocab_size: expected 256, the run's tokenizer being bytes, got 200"),
        ({"vocabulary": gpt2.VOCABULARY}, "vocab_size: expected 256, the run's tokenizer being bytes, got 50257"),
        ({"context_length": 15}, "n_positions: expected at least 16, the context of the run, got 15"),
    ],
)
def test_a_model_that_does_not_fit_the_run_is_refused_with_one_line(trained, tmp_path, say, changes, message):
    spec, layout = trained
    folder = saved(tmp_path / "model", **changes)
    code, out, error = say("evaluate", folder, "--like", spec.run_id, "--results", layout.results)
    assert (code, out) == (2, "")
    assert error == f"decaylab: {folder / gpt2.CONFIG}: {message}\n"


def test_a_larger_model_is_evaluated(trained, tmp_path, say):
    """More context and a padded vocabulary do no harm."""
    spec, layout = trained
    folder = saved(tmp_path / "model", context_length=20, vocabulary=300)
    code, out, _ = say("evaluate", folder, "--like", spec.run_id, "--results", layout.results)
    assert code == 0
    assert losses(out)["test_loss"][0] > 5  # of 300 tokens, by chance


@pytest.mark.parametrize("words", [[], ["--like", "a", "--spec", "b"]])
def test_one_run_is_named(tmp_path, say, words):
    code, _, error = say("evaluate", tmp_path, *words)
    assert code == 2
    assert "expected --like RUN_ID or --spec FILE; exactly one of them" in error
