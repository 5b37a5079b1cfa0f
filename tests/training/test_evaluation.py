"""Batch statistics of averaged weights, weighted by examples."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from decaylab.files import Layout
from decaylab.training import evaluation
from decaylab.training.evaluation import refresh_batch_norm
from decaylab.training.loop import train
from tests.training.cases import IMAGES, spec


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def batches(images: torch.Tensor, size: int):
    return ((part, torch.zeros(len(part), dtype=torch.int64)) for part in images.split(size))


def statistics(net: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return net[1].running_mean.clone(), net[1].running_var.clone()


def test_a_short_last_batch_counts_by_its_examples():
    """501 images: as one batch of 500 and one of 1, the last image was half of the statistics."""
    images = torch.randn(501, 3, 4, 4)
    images[-1] += 100
    found, model = network().eval(), network()
    refresh_batch_norm(found, batches(images, 500), model)
    features = found[0](images)
    torch.testing.assert_close(found[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert not found.training
    assert found[1].momentum == 0.1


def test_the_size_of_evaluation_batches_does_not_matter():
    """A CPU evaluates 500 at a time, a GPU 2,000."""
    images = torch.randn(1200, 3, 4, 4)
    results = []
    for size in (500, 2000):
        net = network()
        refresh_batch_norm(net, batches(images, size), network())
        results.append(statistics(net))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_one_image_has_no_statistics_of_its_own():
    net, model = network(), network()
    model[1].running_mean.fill_(3.0)
    refresh_batch_norm(net, batches(torch.randn(1, 3, 4, 4), 500), model)
    assert torch.equal(net[1].running_mean, model[1].running_mean)
    pointwise = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    refresh_batch_norm(pointwise, batches(torch.randn(1, 3), 500), nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))


def test_equal_batches_give_what_torch_gives():
    images = torch.randn(1000, 3, 4, 4)
    ours, theirs = network(), network()
    refresh_batch_norm(ours, batches(images, 500), network())
    torch.optim.swa_utils.update_bn((part for part, _ in batches(images, 500)), theirs)
    for mine, its in zip(statistics(ours), statistics(theirs), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_snapshot_has_the_statistics_of_its_averaged_weights(tmp_path, monkeypatch):
    """Whoever loads `ema.*` gets the network that was evaluated, not the statistics of the evaluation before it."""
    seen = []
    plain = evaluation.refresh_batch_norm

    def watched(average, given, model):
        plain(average, given, model)
        seen.append({name: value.clone() for name, value in average.named_buffers()})

    monkeypatch.setattr("decaylab.training.training_run.refresh_batch_norm", watched)
    run = spec(IMAGES, snapshots=[12])
    layout = Layout(tmp_path)
    train(run, layout)
    saved = load_file(layout.snapshot(run.run_id, 12))
    for name, value in seen[-1].items():
        if "running" in name:
            assert torch.equal(saved[f"ema.{name}"], value), name
