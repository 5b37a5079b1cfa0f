"""What a run will cost."""

import json

import pytest
import torch

from decaylab.data import prepared_key
from decaylab.files import Layout, write_json
from decaylab.operations import operations_of, run_flops
from decaylab.training.cost import pricing
from decaylab.training.cost.calibration import time_steps
from decaylab.training.cost.counting import UPDATE_KERNELS, footprint_of
from decaylab.training.cost.gpus import GPUS
from decaylab.training.cost.pricing import Pricer
from decaylab.training.kernels import LAUNCH_BOUND
from tests.training.cases import IMAGES, TEXT, spec

GPT2 = {
    "data": {"tokenizer": "gpt2"},
    "model": {"layers": 12, "heads": 12, "width": 768, "context_length": 1024, "vocabulary": 50304},
    "batch_size": 8,
}


def test_a_footprint_is_kept_and_follows_what_it_depends_on(tmp_path, monkeypatch):
    pricer = Pricer(Layout(tmp_path), "cpu")
    runs = spec(TEXT), spec(TEXT, seed=3, optimizer={"learning_rate": 1e-5}), spec(TEXT, model={"width": 32})
    footprints = [pricer.footprint(run) for run in runs]
    assert footprints[0] == footprints[1] != footprints[2]
    counted = []
    monkeypatch.setattr(pricing, "footprint_of", lambda run, classes: counted.append(run))
    again = Pricer(Layout(tmp_path), "cpu")
    assert [again.footprint(run) for run in runs] == footprints
    assert counted == []
    monkeypatch.setattr(pricing, "package_digest", lambda *_: "edited")
    with pytest.raises(TypeError):
        again.footprint(runs[0])
    assert counted == [runs[0]]


def test_micro_batches_keep_less_and_launch_more():
    whole, parts = (footprint_of(spec(TEXT, micro_batch_size=size), 256) for size in (None, 2))
    assert parts.activation_bytes == whole.activation_bytes / 2
    assert parts.kernels - UPDATE_KERNELS == 2 * (whole.kernels - UPDATE_KERNELS)


def test_seconds_are_steps_times_what_a_step_took(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "time_steps", lambda *_: (0.01, 0.001))
    pricer = Pricer(Layout(tmp_path), "cpu")
    run = spec(TEXT, steps=1000, evaluation={"every": 500, "train_examples": 10, "examples": 20})
    price = pricer.price(run)
    assert price.predicted_seconds == pytest.approx(pricing.FIXED_SECONDS + 1000 * 0.01 + 3 * 30 * 0.001)
    assert price.flops == run_flops(run)
    kept = json.loads((tmp_path / "calibration.json").read_text())
    assert {"step": 0.01, "example": 0.001} in kept.values()


def test_images_of_the_user_are_priced_with_their_own_classes(tmp_path, monkeypatch):
    """As soon as they are prepared; until then with ten."""
    monkeypatch.setattr(pricing, "time_steps", lambda *_: (0.01, 0.001))
    data = {"kind": "images", "source": "tiny-imagenet-200.zip", "sha256": "0" * 64, "image_size": 8}
    run = spec(IMAGES | {"data": data})
    layout = Layout(tmp_path)
    before = Pricer(layout, "cpu").price(run)
    assert before.parameters == operations_of(run, 10).parameters
    meta = layout.prepared(prepared_key(run.data)) / "meta.json"
    write_json(meta, {"classes": [str(number) for number in range(200)]})
    after = Pricer(layout, "cpu").price(run)
    assert after.parameters == operations_of(run, 200).parameters
    assert after.flops == run_flops(run, 200) > before.flops
    assert Pricer(layout, "cpu").outputs(spec(IMAGES | {"data": data | {"source": "cifar100"}})) == 100


@pytest.mark.parametrize("base", [IMAGES, TEXT], ids=["images", "text"])
def test_steps_are_timed_by_the_code_that_trains(base):
    step, example = time_steps(spec(base), 256, torch.device("cpu"), 1)
    assert step > 0
    assert example > 0


def test_convolutions_are_priced_below_the_peak_of_matmuls(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "time_steps", lambda *_: (0.0, 0.0))
    h200 = GPUS[0]
    run = spec(IMAGES, model={"blocks": [2, 2, 2, 2], "width": 64}, batch_size=64, precision="bfloat16", steps=1000)
    price = Pricer(Layout(tmp_path), "cpu").price(run)
    least = price.flops / (h200.bfloat16 * h200.convolutions)
    assert price.gpu_seconds[h200.name] >= least > price.flops / (h200.bfloat16 * h200.utilisation)


def test_gpus_share_the_steps_but_not_the_averaging_nor_the_evaluations(tmp_path, monkeypatch):
    pricer = Pricer(Layout(tmp_path), "cpu")
    monkeypatch.setattr(pricer, "_seconds", lambda _: (0.01, 0.0))
    run = spec(TEXT, **GPT2 | {"batch_size": 64, "micro_batch_size": 8, "steps": 1000}, precision="bfloat16")
    run = run.model_copy(update={"model": run.model.model_copy(update={"layers": 2})})
    one, eight = pricer.price(run), pricer.price(run, gpus=8)
    assert (one.gpus, eight.gpus) == (1, 8)
    assert one.flops == eight.flops
    assert one.predicted_seconds == eight.predicted_seconds, "a machine without GPUs shares nothing"
    for gpu in GPUS:
        averaging = 1000 * gpu.averaging_seconds(one.parameters, 8)
        assert averaging == pytest.approx(1000 * 4 * one.parameters * 1.75 / (0.7 * gpu.link))
        assert eight.gpu_seconds[gpu.name] - averaging > one.gpu_seconds[gpu.name] / 8
        assert eight.gpu_seconds[gpu.name] - averaging == pytest.approx(one.gpu_seconds[gpu.name] / 8, rel=0.2)
    assert eight.memory_bytes == one.memory_bytes, "a micro-batch on each"
    assert pricer.price(run, gpus=16).memory_bytes < one.memory_bytes, "half a micro-batch on each"
    monkeypatch.setattr(pricer, "device", torch.device("cuda"))
    monkeypatch.setattr(pricing, "hardware", lambda _: {"name": "NVIDIA H200 NVL"})
    expected = one.predicted_seconds - 1000 * 0.01 * 7 / 8 + 1000 * GPUS[0].averaging_seconds(one.parameters, 8)
    assert pricer.seconds(run, gpus=8) == pytest.approx(expected)


def test_how_many_fill_a_gpu(tmp_path, monkeypatch):
    pricer = Pricer(Layout(tmp_path), "cpu")
    run = spec(TEXT)
    assert pricer.together(run) == 1
    monkeypatch.setattr(pricer, "device", torch.device("cuda"))
    assert pricer.together(run) == pricing.MOST_TOGETHER
    assert pricer.together(spec(TEXT, **GPT2)) == 1
    middle = spec(TEXT, model={"width": 256, "heads": 4, "context_length": 256}, batch_size=32)
    assert 1 < pricer.together(middle) < pricing.MOST_TOGETHER
    assert pricer.together(middle) == round(LAUNCH_BOUND / (operations_of(middle).step * middle.batch_size))
