"""What a run will cost, against formulas written out."""

import json

import pytest
import torch

from decaylab.files import Layout
from decaylab.training.cost import pricing
from decaylab.training.cost.calibration import time_steps
from decaylab.training.cost.counting import shape_of
from decaylab.training.cost.gpus import GPUS
from decaylab.training.cost.pricing import Pricer
from decaylab.training.kernels import LAUNCH_BOUND
from tests.training.cases import IMAGES, TEXT, spec

GPT2 = {
    "data": {"tokenizer": "gpt2"},
    "model": {"layers": 12, "heads": 12, "width": 768, "context_length": 1024, "vocabulary": 50304},
    "batch_size": 8,
}


def test_flops_of_gpt2_small_are_those_of_its_products():
    """Per token: 2 FLOP for each weight of a product, and attention over the context; three times that to train."""
    run = spec(TEXT, **GPT2)
    shape = shape_of(run)
    assert shape.parameters == 50304 * 768 + 1024 * 768 + 12 * (12 * 768**2 + 2 * 768) + 768
    block = 2 * 12 * 768**2 + 2 * 2 * 1024 * 768
    token = 12 * block + 2 * 768 * 50304
    assert shape.example_flops == pytest.approx(1024 * token, rel=0.01)
    # the backward pass of fused attention multiplies once more
    assert 3 * 8 * shape.example_flops <= shape.step_flops < 3.2 * 8 * shape.example_flops


def test_flops_of_a_network_of_convolutions():
    run = spec(IMAGES, model={"blocks": [1], "width": 4})
    pixels = 8 * 8
    products = 3 * 9 * 4 + 2 * 4 * 9 * 4
    assert shape_of(run).example_flops == 2 * (pixels * products + 4 * 10)


def test_counting_is_kept_and_follows_what_it_depends_on(tmp_path, monkeypatch):
    pricer = Pricer(Layout(tmp_path), "cpu")
    runs = spec(TEXT), spec(TEXT, seed=3, optimizer={"learning_rate": 1e-5}), spec(TEXT, model={"width": 32})
    shapes = [pricer.shape(run) for run in runs]
    assert shapes[0] == shapes[1] != shapes[2]
    counted = []
    monkeypatch.setattr(pricing, "shape_of", lambda run: counted.append(run))
    again = Pricer(Layout(tmp_path), "cpu")
    assert [again.shape(run) for run in runs] == shapes
    assert counted == []
    monkeypatch.setattr(pricing, "package_digest", lambda *_: "edited")
    with pytest.raises(TypeError):
        again.shape(runs[0])
    assert counted == [runs[0]]


def test_seconds_are_steps_times_what_a_step_took(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "time_steps", lambda run, device, threads: (0.01, 0.001))
    pricer = Pricer(Layout(tmp_path), "cpu")
    run = spec(TEXT, steps=1000, evaluation={"every": 500, "train_examples": 10, "examples": 20})
    price = pricer.price(run)
    assert price.predicted_seconds == pytest.approx(pricing.FIXED_SECONDS + 1000 * 0.01 + 3 * 30 * 0.001)
    assert price.flops == pytest.approx(1000 * shape_of(run).step_flops + 3 * 30 * shape_of(run).example_flops)
    kept = json.loads((tmp_path / "calibration.json").read_text())
    assert {"step": 0.01, "example": 0.001} in kept.values()


@pytest.mark.parametrize("base", [IMAGES, TEXT], ids=["images", "text"])
def test_steps_are_timed_by_the_code_that_trains(base):
    step, example = time_steps(spec(base), torch.device("cpu"), 1)
    assert step > 0
    assert example > 0


def test_convolutions_are_priced_below_the_peak_that_products_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "time_steps", lambda *_: (0.0, 0.0))
    h200 = GPUS[0]
    run = spec(IMAGES, model={"blocks": [2, 2, 2, 2], "width": 64}, batch_size=64, precision="bfloat16", steps=1000)
    price = Pricer(Layout(tmp_path), "cpu").price(run)
    least = price.flops / (h200.bfloat16 * h200.convolutions)
    assert price.gpu_seconds[h200.name] >= least > price.flops / (h200.bfloat16 * h200.utilisation)


def test_how_many_fill_a_gpu(tmp_path, monkeypatch):
    pricer = Pricer(Layout(tmp_path), "cpu")
    run = spec(TEXT)
    assert pricer.together(run) == 1
    monkeypatch.setattr(pricer, "device", torch.device("cuda"))
    assert pricer.together(run) == pricing.MOST_TOGETHER
    assert pricer.together(spec(TEXT, **GPT2)) == 1
    middle = spec(TEXT, model={"width": 256, "heads": 4, "context_length": 256}, batch_size=32)
    assert 1 < pricer.together(middle) < pricing.MOST_TOGETHER
    assert pricer.together(middle) == round(LAUNCH_BOUND / shape_of(middle).step_flops)
