"""Names of devices."""

import pytest
import torch

from decaylab.errors import InputError
from decaylab.training.device import resolve_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.mark.parametrize(("name", "index"), [("auto", 1), ("cuda", 1), ("cuda:0", 0), ("cuda:1", 1), ("cpu", None)])
def test_a_gpu_has_an_index(two_gpus, name, index):
    device = resolve_device(name)
    assert device == (torch.device("cpu") if index is None else torch.device("cuda", index))


@pytest.mark.parametrize("name", ["cuda:2", "cuda:", "cudas", "cuda:-1", "tpu"])
def test_a_gpu_that_is_not_there_is_one_line(two_gpus, name):
    with pytest.raises(InputError, match=rf"^device: expected auto, cpu or cuda, cuda:0 to cuda:1, got '{name}'$"):
        resolve_device(name)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="if this machine has one"):
        resolve_device("cuda:0")
