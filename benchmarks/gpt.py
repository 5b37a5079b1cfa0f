"""A training step of GPTs: ours, nanoGPT's script and the EPFL script, on the same tokens.

The peers' own `train.py` run as they are, configured by their own options: same shape, batch, vocabulary, AdamW,
clipping and period of logging as ours, evaluations and checkpoints pushed out of reach. nanoGPT keeps no average of
the weights and is compared with ours without one; the EPFL script keeps one (0.99) and is compared with ours that
keeps it too. The EPFL script also fetches losses and norms in every step, which is what it is, and logs to no server
here, which it does in its authors' hands.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cases import TURNS, Case, Settings, Skip, benchmark
from benchmarks.loops import Clock, Loop, our_options, run_ours, run_script

NEVER = 1_000_000_000
"""steps of a training, or between two evaluations"""
SIZES = {
    "GPT 0.03M": {"layers": 2, "heads": 2, "width": 32, "context_length": 64, "batch_size": 4},
    "GPT 0.1M": {"layers": 2, "heads": 2, "width": 64, "context_length": 64, "batch_size": 4},
    "GPT 0.8M": {"layers": 4, "heads": 4, "width": 128, "context_length": 64, "batch_size": 4},
}
# on a CPU
TARGETS = {"GPT 0.03M": 1.4, "GPT 0.1M": 1.2, "GPT 0.8M": 1.0}
GPT2 = {"layers": 12, "heads": 12, "width": 768}
TINY = {"layers": 1, "heads": 1, "width": 16, "context_length": 16, "batch_size": 2}
_seeds = itertools.count()


def next_seed() -> int:
    """Every training is a run of its own, so that none continues another."""
    return next(_seeds)


def gpt_spec(
    *, batch_size: int, precision: str = "float32", vocabulary: int = 256, log_every: int = 20, **model: Any
) -> dict[str, Any]:
    """A RunSpec with nanoGPT's defaults: no biases, decay of matrices and embeddings, clipping at 1."""
    return {
        "data": {"kind": "text", "source": "stdlib", "tokenizer": "bytes"},
        "model": {"kind": "gpt", "vocabulary": vocabulary, "bias": False, **model},
        "optimizer": {"name": "adamw", "learning_rate": 0.001, "beta1": 0.9, "beta2": 0.95},
        "decay": {"weight_decay": 0.1, "multipliers": {"norm": 0}},
        "steps": NEVER,
        "batch_size": batch_size,
        "precision": precision,
        "gradient_clip": 1.0,
        "evaluation": {"every": NEVER, "log_every": log_every, "train_examples": 1, "examples": 1},
        "seed": next_seed(),
    }


def peer_options(spec: dict[str, Any], data: Path, device: str, compiled: bool) -> dict[str, Any]:
    """What both scripts, being one family, call the settings of a spec."""
    model, optimizer = spec["model"], spec["optimizer"]
    return {
        "dataset": data,
        "device": device,
        "dtype": spec["precision"],
        "compile": compiled,
        "n_layer": model["layers"],
        "n_head": model["heads"],
        "n_embd": model["width"],
        "block_size": model["context_length"],
        "bias": model["bias"],
        "batch_size": spec["batch_size"],
        "gradient_accumulation_steps": 1,
        "learning_rate": optimizer["learning_rate"],
        "beta1": optimizer["beta1"],
        "beta2": optimizer["beta2"],
        "weight_decay": spec["decay"]["weight_decay"],
        "grad_clip": spec["gradient_clip"],
        "decay_lr": False,
        "max_iters": NEVER,
        "eval_interval": NEVER,
        "log_interval": spec["evaluation"]["log_every"],
        "wandb_log": False,
    }


def prepare_tokens(settings: Settings, vocabulary: int) -> Path:
    """Our tokens, in the form in which the peers read them: uint16 files, and the vocabulary in `meta.pkl`."""
    import numpy as np

    from decaylab.data import prepare
    from decaylab.files import Layout
    from decaylab.spec import TextData

    prepared = prepare(TextData(), Layout(settings.folder / "results"))
    folder = settings.folder / f"tokens-{vocabulary}"
    folder.mkdir(exist_ok=True)
    for theirs, ours in (("train", "train"), ("val", "validation")):
        np.fromfile(prepared / f"{ours}.bin", dtype=np.uint8).astype(np.uint16).tofile(folder / f"{theirs}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": vocabulary}))
    return folder


def ours(name: str, spec: dict[str, Any], settings: Settings, **more: Any) -> Loop:
    arguments = {
        "spec": spec,
        "results": settings.folder / "results",
        "device": settings.device,
        "threads": settings.threads,
    }
    return Loop(name, run_ours, arguments, **more)


def gpt_case(name: str, settings: Settings, spec: dict[str, Any], *, target: float | None, epfl: bool = True) -> Case:
    """Ours against whichever peers are given; `spec` has no average of the weights."""
    from decaylab.operations import operations_of
    from decaylab.spec import parse_spec

    operations = operations_of(parse_spec(spec, name))
    weights = operations.parameters
    model, precision = spec["model"], spec["precision"]
    data = prepare_tokens(settings, model["vocabulary"])
    compiled = settings.gpu
    options = peer_options(spec, data, settings.device, compiled)
    how = " compiled" if compiled else ""
    contenders = [ours("ours", spec, settings)]
    if "nanogpt" in settings.peers:
        arguments = {
            "checkout": settings.peers["nanogpt"],
            "script": "train.py",
            "options": options | {"eval_iters": 1, "out_dir": settings.folder / "out"},
        }
        theirs = Loop(f"nanoGPT{how}", run_script, arguments, against="ours", target=target, weights=weights)
        contenders.append(theirs)
    if epfl and "epfl" in settings.peers:
        averaged = spec | {"ema": 0.99, "seed": next_seed()}
        arguments = {
            "checkout": settings.peers["epfl"],
            "script": "large_language_models/train.py",
            "options": options | {"eval_examples": 1, "out_dir": "", "ema_coef": averaged["ema"]},
        }
        contenders.append(ours("ours with EMA", averaged, settings, against="ours"))
        theirs = Loop(f"EPFL{how}", run_script, arguments, against="ours with EMA", target=target, weights=weights)
        contenders.append(theirs)
    return Case(
        name,
        contenders,
        about=f"{weights:,} weights, {model['layers']} layers of width {model['width']}, "
        f"batch {spec['batch_size']} x {model['context_length']}, vocabulary {model['vocabulary']}, {precision}",
        items=spec["batch_size"] * model["context_length"],
        unit="tokens",
        flops=operations.step * spec["batch_size"],
        peak=peak(settings, precision),
        log_every=spec["evaluation"]["log_every"],
        turns=TURNS,
    )


def peak(settings: Settings, precision: str) -> float:
    """FLOP/s of this GPU in this precision; 0 for what is not known, and for CPUs."""
    if not settings.gpu:
        return 0
    import torch

    from decaylab.training.cost.gpus import GPUS

    gpu = next((gpu for gpu in GPUS if torch.cuda.get_device_name().startswith(gpu.name)), None)
    return {"float32": gpu.float32, "tf32": gpu.tf32}.get(precision, gpu.bfloat16) if gpu else 0


@benchmark("gpt")
def small_gpts(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of GPTs of 0.03, 0.1 and 0.8 million weights in float32."""
    for name, size in SIZES.items():
        spec = gpt_spec(**(TINY if settings.rehearse else size))
        yield gpt_case(name, settings, spec, target=None if settings.gpu else TARGETS[name])


@benchmark("gpt2-cpu", by_name_only=True)
def gpt2_on_a_cpu(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of GPT-2 small (124 million weights) in float32 on a CPU; takes minutes."""
    size = TINY if settings.rehearse else GPT2 | {"context_length": 128, "batch_size": 1}
    spec = gpt_spec(**size, vocabulary=256 if settings.rehearse else 50304, log_every=1)
    yield gpt_case("GPT-2 small", settings, spec, target=1.0)


@benchmark("gpt2-gpu")
def gpt2_on_a_gpu(settings: Settings) -> Iterator[Case | Skip]:
    """A training step of GPT-2 small (124 million weights), context 1024, bfloat16, on a GPU."""
    if not (settings.gpu or settings.rehearse):
        yield Skip("GPT-2 small", "needs a GPU")
        return
    size = TINY if settings.rehearse else GPT2 | {"context_length": 1024, "batch_size": 16}
    spec = gpt_spec(**size, vocabulary=256 if settings.rehearse else 50304, precision="bfloat16")
    case = gpt_case("GPT-2 small", settings, spec, target=1.0, epfl=False)
    case.target_mfu = 0.45
    yield case


TOGETHER = 8


def run_together(clock: Clock, specs: list[dict[str, Any]], results: Path, device: str, threads: int) -> None:
    """Train several RunSpecs at once; `stop` is asked once in a step of all of them."""
    from decaylab.files import Layout
    from decaylab.spec import parse_spec
    from decaylab.training.runner import train_all

    parsed = [parse_spec(spec, "benchmark") for spec in specs]
    train_all(parsed, Layout(results), our_options(clock, results, device, threads), together=len(specs))


@benchmark("together")
def eight_together(settings: Settings) -> Iterator[Case | Skip]:
    """Eight GPTs trained in one pass, against one after another: of a million weights on a GPU, tiny ones on a CPU."""
    if settings.gpu:
        size = {"layers": 5, "heads": 4, "width": 128, "context_length": 256, "batch_size": 8}
        yield together_case(f"{TOGETHER} x GPT 1M", settings, size, "bfloat16", target=3.0)
    elif settings.rehearse:
        yield together_case(f"{TOGETHER} x GPT", settings, TINY, "bfloat16", target=None)
    else:
        # where it pays, if anywhere
        smallest = {"layers": 1, "heads": 2, "width": 16, "context_length": 16, "batch_size": 4}
        for name, shape in {"GPT 0.01M": smallest, "GPT 0.03M": SIZES["GPT 0.03M"]}.items():
            yield together_case(f"{TOGETHER} x {name}", settings, shape, "float32", target=None)


def together_case(name: str, settings: Settings, size: dict[str, Any], precision: str, target: float | None) -> Case:
    from decaylab.operations import operations_of
    from decaylab.spec import parse_spec

    specs = [gpt_spec(**size, precision=precision) for _ in range(TOGETHER)]
    operations = operations_of(parse_spec(specs[0], name))
    weights = operations.parameters
    prepare_tokens(settings, specs[0]["model"]["vocabulary"])
    arguments = {
        "specs": specs,
        "results": settings.folder / "results",
        "device": settings.device,
        "threads": settings.threads,
    }
    alone = gpt_spec(**size, precision=precision)
    return Case(
        name,
        [
            Loop("together", run_together, arguments),
            ours("one after another", alone, settings, against="together", target=target, repeat=TOGETHER),
        ],
        about=f"{TOGETHER} x {weights:,} weights, batch {size['batch_size']} x {size['context_length']} each, "
        f"vocabulary 256, {precision}",
        items=TOGETHER * size["batch_size"] * size["context_length"],
        unit="tokens",
        flops=TOGETHER * operations.step * size["batch_size"],
        peak=peak(settings, precision),
        log_every=20,
        turns=TURNS,
    )
