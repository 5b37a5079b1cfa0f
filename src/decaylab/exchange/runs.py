"""A run's weights for others to read, and others' weights on a run's evaluation windows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from decaylab.data import load
from decaylab.errors import InputError
from decaylab.exchange import gpt2
from decaylab.files import Layout, check_digest
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.training.evaluation import losses
from decaylab.training.learner import AUTOCAST


def export(run: RunSpec, layout: Layout, folder: Path, *, step: int | None = None, average: bool = False) -> None:
    """Write a snapshot of a run as a GPT-2.

    Args:
        step: of the snapshot; None takes the last one.
        average: the moving average of the weights instead of the weights.

    Raises:
        InputError: the run trained another kind of model or kept no such snapshot, or `folder` has a model already.
    """
    if run.model.kind != "gpt" or run.data.kind != "text":
        raise InputError(f"export: {run.run_id}: expected a run of a gpt, got {run.model.kind}")
    if not run.snapshots:
        raise InputError(
            f"export: {run.run_id}: kept no snapshot; train it with `snapshots: [{run.steps}]` in its spec "
            "(`decaylab train --spec FILE --out DIR`)"
        )
    step = max(run.snapshots) if step is None else step
    if step not in run.snapshots:
        raise InputError(f"export: --step: expected one of {', '.join(map(str, sorted(run.snapshots)))}, got {step}")
    if average and run.ema is None:
        raise InputError(f"export: --average: {run.run_id} kept no average of its weights (`ema` in its spec)")
    path = layout.snapshot(run.run_id, step)
    check_digest(path, f"delete {path.parent}, and the same command trains that run again")
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such snapshot; train the run again") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable snapshot ({error})") from None
    prefix = "ema." if average else "model."
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    about = {"run_id": run.run_id, "step": step, "average": average, "tokenizer": run.data.tokenizer}
    gpt2.write(folder, run.model, weights, tokenizer=run.data.tokenizer, about=about)


def evaluate(
    folder: Path,
    run: RunSpec,
    layout: Layout,
    device: torch.device,
    *,
    choice: Choice | None = None,
) -> dict[str, float]:
    """Losses (nats) and errors of a GPT-2 on the windows on which a run was evaluated, at its end and in its precision.

    The windows are the run's: its text, tokenizer and context length, and as many of each split.

    Raises:
        InputError: the files are unreadable, the run has no text, or the model's vocabulary or context is too short.
    """
    if run.model.kind != "gpt" or run.data.kind != "text":
        raise InputError(f"evaluate: {run.run_id}: expected a run on text, got one of {run.model.kind}")
    network = gpt2.read(folder)
    config, tokenizer = folder / gpt2.CONFIG, run.data.tokenizer
    data = load(
        run.data,
        layout,
        device,
        batch_size=run.batch_size,
        seed=run.seed,
        context_length=run.model.context_length,
        choice=choice,
    )
    tokens, known = len(network.token_embedding.weight), data.classes
    if tokens < known or (tokenizer != "gpt2" and tokens >= gpt2.VOCABULARY):
        raise InputError(f"{config}: vocab_size: expected {known}, the run's tokenizer being {tokenizer}, got {tokens}")
    if network.context_length < run.model.context_length:
        raise InputError(
            f"{config}: n_positions: expected at least {run.model.context_length}, the context of the run, "
            f"got {network.context_length}"
        )
    network.to(device)
    dtype = AUTOCAST.get(run.precision)

    def autocast() -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()

    found: dict[str, float] = {}
    for split in data.evaluation_splits:
        examples = run.evaluation.train_examples if split == "train" else run.evaluation.examples
        measured = losses(network, data, split, examples, autocast)
        found |= {name: value.item() for name, value in measured.items()}
    return found
