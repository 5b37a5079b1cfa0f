"""`python -m benchmarks.agreement --peer epfl=PATH`: do the EPFL's training script and ours learn the same?

Their `train.py` runs as it is, configured by its own options, on our tokens. Its weights are read from its own
checkpoints, at the start and after the last step. Both trainings are judged by the loss on the same windows. Beside
runs with seeds of their own there are runs of ours from the state and on the batches of theirs, which a hook of torch
sees.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.gpt import peer_options, prepare_tokens
from benchmarks.loops import run_script
from benchmarks.peers import PEERS, find_peers
from decaylab.errors import InputError

DECAYS = {"0": 0.0, "0.1": 0.5, "0.3": 1.5}
"""label in the claims: decay; at laptop scale, decays are five times their labels"""
FEW_STEPS = 20
DATA = {"kind": "text", "source": "stdlib", "tokenizer": "bytes"}


def spec_of(decay: float, seed: int, steps: int) -> dict[str, Any]:
    """The laptop setting of lm_bias_variance: cosine to a tenth at its main learning rate."""
    return {
        "data": DATA,
        "model": {
            "kind": "gpt",
            **{"layers": 2, "heads": 2, "width": 32, "context_length": 32, "vocabulary": 256, "bias": False},
        },
        "optimizer": {"name": "adamw", "learning_rate": 0.006, "beta1": 0.9, "beta2": 0.95},
        "decay": {"weight_decay": decay, "multipliers": {"norm": 0}},
        "schedule": {"kind": "cosine", "warmup_steps": max(steps // 20, 5), "final_fraction": 0.1},
        "steps": steps,
        "batch_size": 16,
        "precision": "float32",
        "gradient_clip": 1.0,
        "evaluation": {"every": steps, "log_every": steps, "train_examples": 1024, "examples": 1024},
        "seed": seed,
    }


def options_of(spec: dict[str, Any], tokens: Path, out: Path) -> dict[str, Any]:
    """What their script calls this; it evaluates, and keeps its state, before the first and after the last step."""
    schedule, steps = spec["schedule"], spec["steps"]
    peak = spec["optimizer"]["learning_rate"]
    return peer_options(spec, tokens, "cpu", compiled=False) | {
        "random_seed": spec["seed"],
        "decay_lr": True,
        "warmup_iters": schedule["warmup_steps"],
        "min_lr": peak * schedule["final_fraction"],
        "max_iters": steps,
        "eval_interval": steps,
        "eval_examples": 1,
        "force_save_ckpt": True,
        "out_dir": out,
    }


@dataclass
class Theirs:
    """A training by their script. Weights are by our names."""

    start: dict[str, Any]
    end: dict[str, Any]
    batches: list[Any]
    """inputs and targets of each step"""
    losses: list[float]
    """of each batch, before the step"""


def their_training(checkout: Path, spec: dict[str, Any], tokens: Path, folder: Path, dtype: str) -> Theirs:
    """Run their script in a process of its own. Raises RuntimeError with its last line if it fails."""
    import torch

    folder.mkdir(parents=True)
    context = multiprocessing.get_context("forkserver")  # imports once what every training needs
    context.set_forkserver_preload(["torch._dynamo", "torch.nn.parallel", "benchmarks.agreement"])
    process = context.Process(target=_run_recorded, args=(checkout, options_of(spec, tokens, folder), folder, dtype))
    process.start()
    process.join()
    if process.exitcode:
        lines = (folder / "log").read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"{PEERS['epfl']}: {lines[-1] if lines else 'ended without a word'}")
    record = torch.load(folder / "record.pt")
    start, end = (_their_weights(folder, spec, step) for step in (0, spec["steps"]))
    return Theirs(start, end, record["batches"][: spec["steps"]], record["losses"][: spec["steps"]])


def _run_recorded(checkout: Path, options: dict[str, Any], folder: Path, dtype: str) -> None:
    """The process of their script: batches and losses of its steps go to `record.pt`, what it prints to `log`."""
    file = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(getattr(torch, dtype))
    batches, losses = [], []

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if type(module).__name__ == "GPT" and torch.is_grad_enabled():
            batches.append(inputs)
            losses.append(output[1].item())

    torch.nn.modules.module.register_module_forward_hook(note)
    run_script(_Unclocked(), checkout, PEERS["epfl"], options)
    torch.save({"batches": batches, "losses": losses}, folder / "record.pt")


class _Unclocked:
    """Stands for the clock where no time is taken."""

    weights = 0

    def __call__(self) -> bool:
        return False


def _their_weights(folder: Path, spec: dict[str, Any], step: int) -> dict[str, Any]:
    """Their checkpoint of a step, by our names."""
    import torch

    from decaylab.exchange.gpt2 import layer_names
    from decaylab.spec import parse_spec

    (path,) = folder.glob(f"*-iter={step}.pt")
    state = torch.load(path)["model"]
    model = parse_spec(spec, "agreement").model
    weights = {f"{ours}.weight": state[f"{theirs}.weight"] for ours, theirs in layer_names(model)}
    return weights | {"head.weight": weights["token_embedding.weight"]}


def our_training(spec: dict[str, Any], theirs: Theirs, dtype: str) -> tuple[Any, list[float]]:
    """Our steps from their state on their batches: the network, and the loss of each batch."""
    import torch

    from decaylab.spec import parse_spec
    from decaylab.training.learner import Learner

    with _default_dtype(getattr(torch, dtype)):
        learner = Learner(parse_spec(spec, "agreement"), spec["model"]["vocabulary"], torch.device("cpu"))
        learner.model.load_state_dict(theirs.start)
        losses = []
        for step, batch in enumerate(theirs.batches):
            losses.append(learner.backward(batch).item())
            learner.update(step, logged=False)
    return learner.model, losses


@contextlib.contextmanager
def _default_dtype(dtype: Any) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def step_by_step(
    checkout: Path, tokens: Path, folder: Path, *, decay: float, seed: int, dtype: str, steps: int
) -> tuple[float, float]:
    """Largest relative difference of a batch's loss, and of a weight tensor (by its norm) after the last step."""
    import torch

    spec = spec_of(decay, seed, steps)
    theirs = their_training(checkout, spec, tokens, folder, dtype)
    model, losses = our_training(spec, theirs, dtype)
    ours = model.state_dict()
    apart = [(torch.dist(ours[name], weight) / weight.norm()).item() for name, weight in theirs.end.items()]
    return max(abs(a / b - 1) for a, b in zip(losses, theirs.losses, strict=True)), max(apart)


def final_losses(
    checkout: Path, tokens: Path, folder: Path, decay: float, seed: int, steps: int
) -> dict[str, dict[str, float]]:
    """Training and validation loss at the end: `theirs`, `ours`, and `replayed`, ours from their state and batches."""
    import torch

    from decaylab.data import load
    from decaylab.files import Layout
    from decaylab.models import build_model
    from decaylab.spec import parse_spec
    from decaylab.training.evaluation import losses
    from decaylab.training.loop import Options, train

    value = spec_of(decay, seed, steps)
    spec = parse_spec(value, "agreement")
    layout = Layout(folder.parent / "results")
    final = train(spec, layout, Options(device="cpu"))["final"]
    theirs = their_training(checkout, value, tokens, folder, "float32")
    network = build_model(spec.model, classes=256, seed=0)
    network.load_state_dict(theirs.end)
    data = load(spec.data, layout, torch.device("cpu"), batch_size=1, seed=0, context_length=spec.model.context_length)

    def measured(model: torch.nn.Module) -> dict[str, float]:
        return {
            split: losses(model, data, split, spec.evaluation.examples, contextlib.nullcontext)[f"{split}_loss"].item()
            for split in ("train", "validation")
        }

    return {
        "ours": {split: final[f"{split}_loss"] for split in ("train", "validation")},
        "theirs": measured(network),
        "replayed": measured(our_training(value, theirs, "float32")[0]),
    }


def table(found: dict[str, list[dict[str, dict[str, float]]]], split: str) -> list[str]:
    """Rows of Markdown: a decay, mean and standard deviation over seeds on both sides, and what lies between them."""
    from scipy import stats

    rows = [
        f"| decay | theirs, {split} loss | ours | ours minus theirs [95 %] | ours from their state and batches |",
        "|---|---|---|---|---|",
    ]
    for label, seeds in found.items():
        ours, theirs, replayed = ([seed[who][split] for seed in seeds] for who in ("ours", "theirs", "replayed"))
        interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
        sides = (f"{statistics.mean(side):.4f} ± {statistics.stdev(side):.4f}" for side in (theirs, ours))
        between = statistics.mean(ours) - statistics.mean(theirs)
        apart = max(abs(a - b) for a, b in zip(replayed, theirs, strict=True))
        rows.append(
            f"| {label} | {' | '.join(sides)} | {between:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] "
            f"| within {apart:.1e} |"
        )
    return rows


def main(
    peer: Annotated[list[str], typer.Option(help="epfl=PATH of a checkout of why-weight-decay")],
    seeds: Annotated[int, typer.Option(min=2, help="of each decay, on both sides")] = 2,
    steps: Annotated[int, typer.Option(min=2 * FEW_STEPS, help="of each training")] = 400,
    out: Annotated[Path | None, typer.Option(help="file for the tables, in Markdown")] = None,
) -> None:
    """Train the same with the EPFL's script and with ours, and compare steps and final losses."""
    from benchmarks.cases import Settings

    try:
        peers = find_peers(peer)
        if "epfl" not in peers:
            raise InputError("--peer: expected epfl=PATH")
    except InputError as error:
        sys.stderr.write(f"agreement: {error}\n")
        raise typer.Exit(2) from None
    checkout = peers["epfl"]
    with tempfile.TemporaryDirectory(prefix="decaylab-agreement-") as name:
        folder = Path(name)
        tokens = prepare_tokens(Settings(folder), 256)
        lines = ["| decay | precision | steps | a batch's loss | weights at the end |", "|---|---|---|---|---|"]
        for label, decay in DECAYS.items():
            for dtype, count in (("float32", FEW_STEPS), ("float64", FEW_STEPS), ("float64", steps)):
                apart = [
                    step_by_step(
                        checkout,
                        tokens,
                        folder / f"{label}-{seed}-{dtype}-{count}",
                        decay=decay,
                        seed=seed,
                        dtype=dtype,
                        steps=count,
                    )
                    for seed in range(seeds)
                ]
                loss, weights = map(max, zip(*apart, strict=True))
                lines.append(f"| {label} | {dtype} | {count} | {loss:.1e} | {weights:.1e} |")
        found = {
            label: [
                final_losses(checkout, tokens, folder / f"{label}-{seed}", decay, seed, steps) for seed in range(seeds)
            ]
            for label, decay in DECAYS.items()
        }
    for split in ("train", "validation"):
        lines += ["", *table(found, split)]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
