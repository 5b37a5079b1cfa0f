"""Look at a network without disturbing its training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout, stored batch statistics; every module's mode is restored, also after an error."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`evaluating`, without gradients."""
    with evaluating(model), torch.no_grad():
        yield


@contextlib.contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """`evaluating`; afterwards buffers and the global random state are as before, too."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [device] if device.type == "cuda" else []
    with evaluating(model), torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
