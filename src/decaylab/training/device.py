"""The device that a training runs on."""

from __future__ import annotations

import torch

from decaylab.errors import InputError


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA if there is one. A CUDA device has its index, so that it equals that of its tensors.

    Raises:
        InputError: this machine lacks the device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if (name == "auto" or name.startswith("cuda")) and torch.cuda.is_available():
        device = torch.device("cuda" if name == "auto" else name)
        return torch.device("cuda", torch.cuda.current_device()) if device.index is None else device
    raise InputError(f"device: expected auto, cpu or cuda (if this machine has one), got {name!r}")
