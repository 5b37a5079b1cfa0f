"""Random numbers that are a function of what they are for, not of what was drawn before."""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.files import sha256_json


def generator(*purpose: int | float | str) -> torch.Generator:
    """A CPU generator seeded by its purpose, for example ("order", seed, epoch)."""
    return torch.Generator().manual_seed(int(sha256_json(list(purpose))[:15], 16))


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for it; a tensor that is there already is returned as it is."""
    if tensor.device.type == device.type and device.index in (None, tensor.device.index):
        return tensor
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
