"""Operations counted from a spec, against torch's counter and the networks themselves."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from decaylab.models import build_model
from decaylab.operations import evaluated_examples, operations_of, outputs_of, run_flops
from tests.training.cases import IMAGES, TEXT, spec

NETWORKS = {
    "mlp": (IMAGES, {"model": {"kind": "mlp", "width": 12, "depth": 3}}),
    "mlp without biases": (IMAGES, {"model": {"kind": "mlp", "width": 12, "bias": False}}),
    "vgg": (IMAGES, {"model": {"kind": "vgg", "width": 4, "stages": [1, 2], "hidden_layers": 1, "batch_norm": True}}),
    "deep vgg": (
        IMAGES | {"data": IMAGES["data"] | {"image_size": 32}},
        {"model": {"kind": "vgg", "width": 4, "stages": [1, 1, 1, 1, 1], "bias": False}},
    ),
    "resnet": (IMAGES, {"model": {"blocks": [2, 1], "width": 4}}),
    "resnet of odd images": (
        IMAGES | {"data": IMAGES["data"] | {"image_size": 9}},
        {"model": {"blocks": [1, 1, 2], "width": 4, "shortcut_norm": True}},
    ),
    "resnet without affine norms": (IMAGES, {"model": {"norm_affine": False, "shortcut_norm": True}}),
    "resnet with a frozen head": (IMAGES, {"model": {"frozen_head": True}}),
    "cifar100": (IMAGES | {"data": {"kind": "images", "source": "cifar100", "image_size": 32}}, {}),
    "vit": (IMAGES | {"model": {"kind": "vit", "layers": 2, "heads": 2, "width": 8}}, {}),
    "gpt": (TEXT, {}),
    "gpt with everything": (
        TEXT,
        {"model": {"layers": 2, "tied": False, "bias": True, "qkv_bias": False, "qk_norm": True, "vocabulary": 300}},
    ),
    "gpt2": (
        TEXT,
        {
            "data": {"tokenizer": "gpt2"},
            "model": {"layers": 12, "heads": 12, "width": 768, "context_length": 1024, "vocabulary": 50304},
        },
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_are_those_of_torch(name):
    base, changes = NETWORKS[name]
    run = spec(base, **changes)
    outputs, found = outputs_of(run), operations_of(run)
    image_size = run.data.image_size if run.data.kind == "images" else None
    with torch.device("meta"):
        model = build_model(run.model, classes=outputs, image_size=image_size, seed=0)
        if image_size:
            inputs = torch.empty(2, 3, image_size, image_size)
        else:
            inputs = torch.zeros(2, run.model.context_length, dtype=torch.int64)
    assert found.parameters == sum(weight.numel() for weight in model.parameters())
    counter = FlopCounterMode(display=False)
    with counter:
        loss = model(inputs).square().mean()
        assert found.forward == counter.get_total_flops() / 2
        loss.backward()
    assert found.step == counter.get_total_flops() / 2


def test_a_run_is_its_steps_and_its_evaluations():
    run = spec(TEXT, steps=1000, evaluation={"every": 500, "train_examples": 10, "examples": 20})
    operations = operations_of(run)
    assert evaluated_examples(run) == 3 * 30
    assert run_flops(run) == 1000 * 4 * operations.step + 3 * 30 * operations.forward
    assert evaluated_examples(run.model_copy(update={"ema": 0.9})) == 2 * 3 * 30


def test_classes_may_be_known_better():
    run = spec(IMAGES)
    assert operations_of(run, 200).parameters == operations_of(run).parameters + 190 * (run.model.width * 2 + 1)


def test_counting_needs_no_torch():
    program = "import sys, decaylab.operations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
