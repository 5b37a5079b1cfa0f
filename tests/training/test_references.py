"""Whole steps against references: torch's own parts over random settings, and each network at its paper size."""

from __future__ import annotations

import copy
import math
import os
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from decaylab.spec import RunSpec, parse_spec
from decaylab.training.learner import Learner

CPU = torch.device("cpu")
SIZE, CLASSES = 4, 3
LONG = pytest.mark.skipif("DECAYLAB_LONG" not in os.environ, reason="takes minutes: set DECAYLAB_LONG=1")


def spec_of(model: dict[str, Any], **more: Any) -> RunSpec:
    data = {"kind": "text"} if model["kind"] == "gpt" else {"kind": "images", "train_examples": 9, "test_examples": 9}
    value = {
        "data": data | ({} if model["kind"] == "gpt" else {"image_size": SIZE}),
        "model": model,
        "steps": 8,
        "batch_size": 6,
        "evaluation": {"every": 8, "log_every": 8},
        "seed": 0,
    }
    return parse_spec(value | more, "test")


def torch_optimizer(spec: RunSpec, weights: Any) -> torch.optim.Optimizer:
    """With its own weight decay, which is ours in these two forms."""
    options, decay = spec.optimizer, spec.decay.weight_decay
    if options.name == "adamw":
        return torch.optim.AdamW(
            weights, options.learning_rate, (options.beta1, options.beta2), options.eps, weight_decay=decay
        )
    return torch.optim.SGD(
        weights, options.learning_rate, options.momentum, options.dampening, decay, nesterov=options.nesterov
    )


def rate(spec: RunSpec, step: int) -> float:
    """Learning rate as the papers write it: a linear warm-up from zero, then constant, a line or half a cosine."""
    schedule, peak = spec.schedule, spec.optimizer.learning_rate
    if step < schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    if schedule.kind == "constant":
        return peak
    done = (step - schedule.warmup_steps) / (spec.steps - schedule.warmup_steps)
    lowest = peak * schedule.final_fraction
    if schedule.kind == "linear":
        return peak + done * (lowest - peak)
    return lowest + (peak - lowest) * (1 + math.cos(math.pi * done)) / 2


def batch_of(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(step)
    images = torch.randn(6, 3, SIZE, SIZE, generator=draws, dtype=torch.float64)
    return images, torch.randint(CLASSES, (6,), generator=draws)


optimizers = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.just("adamw"),
            "learning_rate": st.floats(1e-4, 0.1),
            "beta1": st.floats(0, 0.95),
            "beta2": st.floats(0.5, 0.999),
        }
    ),
    st.fixed_dictionaries(
        {"name": st.just("sgd"), "learning_rate": st.floats(1e-3, 0.5), "momentum": st.floats(0, 0.95)}
    ),
)


@settings(max_examples=20, derandomize=True)
@given(
    optimizer=optimizers,
    weight_decay=st.floats(0, 0.5),
    clip=st.none() | st.floats(0.01, 2),
    ema=st.none() | st.floats(0.1, 0.99),
    micro=st.sampled_from([None, 1, 2, 3]),
    kind=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.integers(0, 7),
    final=st.floats(0, 1),
)
def test_schedule_clipping_accumulation_and_average_are_those_of_torch(
    optimizer, weight_decay, clip, ema, micro, kind, warmup, final
):
    """In float64, so that only the rule can differ. The average is float32 by design."""
    spec = spec_of(
        {"kind": "mlp", "width": 5},
        optimizer=optimizer,
        decay={"weight_decay": weight_decay, "form": "decoupled" if optimizer["name"] == "adamw" else "l2_gradient"},
        schedule={"kind": kind, "warmup_steps": warmup, "final_fraction": final},
        gradient_clip=clip,
        ema=ema,
        micro_batch_size=micro,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        learner = Learner(spec, CLASSES, CPU)
        model = copy.deepcopy(learner.model)
        reference = torch_optimizer(spec, model.parameters())
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None
        if average:
            average.update_parameters(model)  # the first call copies
        for step in range(spec.steps):
            inputs, targets = batch_of(step)
            loss = learner.backward((inputs, targets))
            measured = learner.update(step, logged=True)
            reference.param_groups[0]["lr"] = rate(spec, step)
            reference.zero_grad()
            expected = functional.cross_entropy(model(inputs), targets)
            expected.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or math.inf)
            reference.step()
            if average:
                average.update_parameters(model)
            torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(measured["gradient_norm"], norm, rtol=1e-9, atol=1e-12)
            assert measured["learning_rate"] == pytest.approx(rate(spec, step), rel=1e-12, abs=1e-15)
        for mine, theirs in zip(learner.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-8, atol=1e-10)
        if average:
            for mine, theirs in zip(learner.ema.parameters(), average.module.parameters(), strict=True):
                torch.testing.assert_close(mine.double(), theirs.detach(), rtol=1e-4, atol=1e-6)
    finally:
        torch.set_default_dtype(before)


PAPER = {
    "mlp": ({"kind": "mlp", "width": 1024, "depth": 3}, 28),
    "vgg": ({"kind": "vgg"}, 32),
    "preact_resnet": ({"kind": "preact_resnet"}, 32),
    "vit": ({"kind": "vit"}, 32),
    "gpt": ({"kind": "gpt", "context_length": 16}, None),
}


@LONG
@pytest.mark.parametrize("name", PAPER)
def test_a_step_at_paper_size_equals_float64(name):
    """Gradients of a float32 step, then the update from the same gradients, against float64."""
    model, size = PAPER[name]
    optimizer = (
        {"name": "adamw", "learning_rate": 1e-3} if name in ("gpt", "vit") else {"name": "sgd", "learning_rate": 0.1}
    )
    form = "decoupled" if optimizer["name"] == "adamw" else "l2_gradient"
    spec = spec_of(model, optimizer=optimizer, decay={"weight_decay": 0.1, "form": form})
    draws = torch.Generator().manual_seed(0)
    if size:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"image_size": size})})
        inputs, targets = torch.randn(4, 3, size, size, generator=draws), torch.randint(10, (4,), generator=draws)
    else:
        tokens = torch.randint(50257, (2, 17), generator=draws)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
    learner = Learner(spec, 10 if size else 50257, CPU)
    model64 = copy.deepcopy(learner.model).double()
    loss = learner.backward((inputs, targets))
    logits = model64(inputs.double() if size else inputs)
    expected = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
    expected.backward()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    mine = [gradient.double() for gradient in learner.flat.gradients]
    weights = dict(model64.named_parameters())
    theirs = [weights[name].grad for name in learner.flat.names]
    difference = math.fsum(float((a - b).square().sum()) for a, b in zip(mine, theirs, strict=True))
    whole = math.fsum(float(b.square().sum()) for b in theirs)
    assert math.sqrt(difference / whole) < 1e-4
    reference = torch_optimizer(spec, model64.parameters())
    for name, gradient in zip(learner.flat.names, mine, strict=True):
        weights[name].grad = gradient.clone()
    learner.update(0, logged=False)
    reference.step()
    for a, b in zip(learner.model.parameters(), model64.parameters(), strict=True):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=1e-4, atol=1e-6)
