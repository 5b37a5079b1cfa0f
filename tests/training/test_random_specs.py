"""Specs drawn at random: each trains a few steps or is refused in one line, whatever it combines.

`DECAYLAB_RANDOM_SPECS=500 pytest tests/training/test_random_specs.py` tries as many; `make test` tries few.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from decaylab import plugins
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.spec import GROUPS, RunSpec, parse_spec
from decaylab.training.learner import stackable
from decaylab.training.loop import Options, train, train_together

MANY = int(os.environ.get("DECAYLAB_RANDOM_SPECS", "0"))
STEPS = 5
PRECISIONS = ["float32", "tf32", "bfloat16", "float16", "bfloat16_weights"]
TEXT = "tiny.txt"


def often(value: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Mostly `value`: specs in which everything is unusual are refused for one reason, and the rest is not tried."""
    return st.one_of(st.just(value), st.just(value), *others)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return often(None, strategy)


@st.composite
def images(draw) -> dict[str, Any]:
    data = {
        "kind": "images",
        "source": "procedural",
        # few data sets, so that most are prepared already
        "train_examples": draw(st.sampled_from([12, 40])),
        "test_examples": draw(st.sampled_from([1, 20])),
        "image_size": draw(st.sampled_from([4, 8, 9])),
        "classes": draw(st.sampled_from([2, 10])),
        "augmentation": draw(st.sampled_from(["none", "flip_translate"])),
    }
    return data | ({"fresh": True} if draw(maybe(st.just(1))) else {})


@st.composite
def texts(draw) -> dict[str, Any]:
    return {
        "kind": "text",
        "source": TEXT,
        "train_tokens": draw(st.sampled_from([None, 300, 5000])),
        "order": draw(often("random_offsets", st.just("one_pass"))),
    }


@st.composite
def networks(draw, kind: str) -> dict[str, Any]:
    flag = st.booleans()
    if kind == "text":
        heads = draw(st.sampled_from([1, 2]))
        return {
            "kind": "gpt",
            "layers": draw(st.integers(1, 2)),
            "heads": heads,
            "width": heads * draw(st.sampled_from([4, 8])),
            "context_length": draw(st.sampled_from([1, 4, 16])),
            "vocabulary": draw(often(None, st.sampled_from([256, 300, 100]))),
            "tied": draw(flag),
            "bias": draw(flag),
            "qkv_bias": draw(flag),
            "dropout": draw(often(0.0, st.sampled_from([0.1, 1.0]))),
            "qk_norm": draw(flag),
        }
    match draw(st.sampled_from(["mlp", "vgg", "preact_resnet", "vit"])):
        case "mlp":
            return {
                "kind": "mlp",
                "width": draw(st.integers(1, 8)),
                "depth": draw(st.integers(1, 3)),
                "bias": draw(flag),
            }
        case "vgg":
            return {
                "kind": "vgg",
                "width": draw(st.integers(1, 4)),
                "stages": draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)),
                "hidden_layers": draw(st.integers(0, 2)),
                "batch_norm": draw(flag),
                "bias": draw(flag),
            }
        case "preact_resnet":
            return {
                "kind": "preact_resnet",
                "width": draw(st.integers(1, 4)),
                "blocks": draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)),
                "norm_affine": draw(flag),
                "shortcut_norm": draw(flag),
                "frozen_head": draw(maybe(flag)),
            }
        case _:
            return {
                "kind": "vit",
                "patch_size": draw(st.sampled_from([1, 2, 4, 5])),
                "layers": draw(st.integers(1, 2)),
                "heads": draw(st.integers(1, 2)),
                "width": draw(st.sampled_from([4, 8])),
            }


rates = st.sampled_from([1e-4, 0.01, 0.1, 1e4])
fractions = st.sampled_from([0.0, 0.3, 1.0])


@st.composite
def optimizers(draw) -> dict[str, Any]:
    if draw(st.booleans()):
        return {
            "name": "sgd",
            "learning_rate": draw(rates),
            "momentum": draw(st.sampled_from([0.0, 0.9, 1.0])),
            "dampening": draw(often(0.0, often(0.0, st.just(0.5)))),
            "nesterov": draw(often(False, often(False, st.just(True)))),
        }
    return {
        "name": "adamw",
        "learning_rate": draw(rates),
        "beta1": draw(often(0.9, st.sampled_from([0.0, 0.999, 1.0]))),
        "beta2": draw(often(0.95, st.sampled_from([0.0, 0.5, 1.0]))),
        "eps": draw(st.sampled_from([1e-8, 1.0])),
    }


@st.composite
def decays(draw, optimizer: str) -> dict[str, Any]:
    forms = plugins.available("optim/forms")
    needs = {form: (plugins.literal("optim/forms", form, "REQUIRES") or {}).get("optimizer.name") for form in forms}
    fitting = [form for form, names in needs.items() if names is None or optimizer in names]
    return {
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 0.1, 100.0])),
        "form": draw(often(draw(st.sampled_from(fitting)), st.sampled_from(fitting), st.sampled_from(forms))),
        "multipliers": draw(st.dictionaries(st.sampled_from(GROUPS), st.sampled_from([0.0, 0.5, 2.0]), max_size=3)),
        "schedule": {
            "kind": draw(st.sampled_from(["constant", "linear", "cosine", "follow_learning_rate", "window"])),
            "final_fraction": draw(fractions),
            "start": draw(fractions),
            "end": draw(fractions),
        },
    }


@st.composite
def schedules(draw) -> dict[str, Any]:
    kind = draw(st.sampled_from(["constant", "cosine", "linear", "step"]))
    drops = [{"step": draw(st.integers(1, STEPS - 1)), "learning_rate": draw(rates)}] if kind == "step" else []
    return {
        "kind": kind,
        "warmup_steps": draw(often(0, st.integers(0, STEPS))),
        "final_fraction": draw(fractions),
        "horizon": draw(maybe(st.integers(1, 2 * STEPS))),
        "drops": drops,
    }


def small(probe: str) -> Any:
    """A probe with parameters that cost little."""
    known = plugins.literal("probes", probe, "PARAMETERS") or {}
    cheap = {key: value for key, value in {"examples": 8, "matvecs": 3}.items() if key in known}
    return {probe: cheap} if cheap else probe


@st.composite
def specs(draw) -> dict[str, Any]:
    kind = draw(st.sampled_from(["images", "text"]))
    batch = draw(st.sampled_from([1, 4, 6]))
    probes = [name for name in plugins.available("probes") if name != "exact_hessian"]  # a minute for 5,000 weights
    wanted = [name for name in probes if (plugins.literal("probes", name, "NEEDS") or kind) == kind]
    optimizer = draw(optimizers())
    return {
        "data": draw(images() if kind == "images" else texts()),
        "model": draw(networks(kind)),
        "optimizer": optimizer,
        "decay": draw(decays(optimizer["name"])),
        "schedule": draw(schedules()),
        "steps": STEPS,
        "batch_size": batch,
        "micro_batch_size": draw(maybe(st.sampled_from([1, batch, max(1, batch // 2), 3]))),
        "precision": draw(st.sampled_from(PRECISIONS)),
        "gradient_clip": draw(maybe(st.sampled_from([1e-3, 1.0]))),
        "ema": draw(maybe(st.sampled_from([0.5, 0.999]))),
        "norm_control": draw(
            maybe(st.fixed_dictionaries({"radius": st.just(2.0), "every": st.sampled_from([None, 2])}))
        ),
        "evaluation": {
            "every": draw(st.sampled_from([1, 3, 50])),
            "log_every": draw(st.sampled_from([1, 2])),
            "train_examples": draw(st.sampled_from([1, 10, 1000])),
            "examples": draw(st.sampled_from([None, 1, 10])),
            "probes": [small(name) for name in draw(st.lists(st.sampled_from(wanted), max_size=2, unique=True))],
        },
        "seed": draw(st.integers(-3, 3)),
        "data_seed": draw(maybe(st.just(5))),
    }


@st.composite
def families(draw) -> dict[str, Any]:
    """A spec that is perhaps a child of another: it starts from its snapshot, or follows its norms."""
    child = draw(specs())
    link = draw(often(None, st.sampled_from(["start", "follow", "start another"])))
    if link is None:
        return child
    parent = json.loads(json.dumps(child)) | {"seed": 4}
    if link == "follow":
        parent["evaluation"]["probes"] = ["matrix_norms"]
        match = draw(st.sampled_from(["effective_learning_rate", "norm"]))
        child["decay"]["weight_decay"] = draw(often(0.0, st.just(0.1)))
        return child | {
            "follow": {"run": parent, "match": match, "per": draw(st.sampled_from(["all", "group", "matrix"]))}
        }
    if link == "start another":  # what of it belongs to the child is for the child to say
        parent |= {"optimizer": draw(optimizers()), "precision": draw(st.sampled_from(PRECISIONS)), "ema": None}
    keep = draw(st.booleans())
    return child | {"start": {"run": parent, "step": draw(st.sampled_from([2, STEPS])), "optimizer_state": keep}}


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    home = tmp_path_factory.mktemp("home")
    letters = np.random.default_rng(0).integers(97, 123, 30_000, dtype=np.uint8).tobytes().decode()
    (home / TEXT).write_text("\n".join(letters[start : start + 60] for start in range(0, len(letters), 60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DECAYLAB_DATA", str(home))
        yield Layout(tmp_path_factory.mktemp("results"))


def trained(value: dict[str, Any], layout: Layout, options: Options, together: bool) -> list[RunSpec]:
    """Train a spec after its parent, alone or with one of another seed. Raises InputError."""
    spec = parse_spec(value, "drawn")
    if spec.start:
        parent = spec.start.run.model_copy(update={"snapshots": (spec.start.step,)})
        train(parent, layout, options)
    if spec.follow:
        train(spec.follow.run, layout, options)
    if together and not spec.parents and stackable(spec):
        pair = [spec, parse_spec(value | {"seed": 77}, "drawn")]
        train_together(pair, layout, options)
        return pair
    train(spec, layout, options)
    return [spec]


def check(value: dict[str, Any], layout: Layout, graphs: str, together: bool) -> None:
    """What every spec gives: a whole record with numbers, or one line."""
    try:
        runs = trained(value, layout, Options(device="cpu", graphs=graphs), together)
    except InputError as error:
        line = str(error)
        assert line
        assert "\n" not in line
        event(f"refused: {line.split(':')[0]:.40}")
        return
    event("trained")
    for run in runs:
        summary = json.loads(layout.summary(run.run_id).read_text())
        table = pd.read_parquet(layout.metrics(run.run_id))
        assert table["step"].is_monotonic_increasing
        assert parse_spec(summary["spec"], "summary") == run
        if summary["diverged_at_step"] is None:
            assert summary["steps_done"] == STEPS
            assert table["step"].iloc[-1] == STEPS
            losses = [value for name, value in summary["final"].items() if name.endswith("loss")]
            assert losses
            assert all(value is not None and math.isfinite(value) for value in losses)


@pytest.mark.slow
@settings(
    max_examples=MANY or 30,
    derandomize=not MANY,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(value=families(), graphs=st.sampled_from(["auto", "off"]), together=st.booleans())
def test_a_valid_spec_trains_or_is_refused_in_one_line(layout: Layout, value, graphs, together):
    check(value, layout, graphs, together)
