"""The device path without a device: a training on `cuda` under FakeTensorMode, see fake_cuda.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from decaylab.data.draws import move
from decaylab.training.device import resolve_device

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "bfloat16_weights")


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_training_stays_on_the_device(case, precision, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.fake_cuda", case, precision, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "all on the device", done.stderr[-2000:]


@pytest.mark.parametrize("name", ["cuda", "auto", "cuda:0"])
def test_a_device_equals_that_of_its_tensors(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with FakeTensorMode():
        device = resolve_device(name)
        assert torch.zeros(1, device=device).device == device


def test_what_is_there_already_is_not_moved(monkeypatch):
    """`cuda` and `cuda:0` are one device here; a CUDA tensor cannot be pinned."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    cuda = torch.device("cuda", 0)
    with FakeTensorMode():
        there = torch.zeros(3, device=cuda)
        assert move(there, torch.device("cuda")) is there
        assert move(there, cuda) is there
        assert move(torch.zeros(3), cuda).device == cuda
