"""The device that a training runs on."""

from __future__ import annotations

import torch

from decaylab.errors import InputError


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA if there is one. A CUDA device has its index, so that it equals that of its tensors.

    Raises:
        InputError: the name is none of a device, or this machine lacks it.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if gpus and name in ("auto", "cuda"):
        return torch.device("cuda", torch.cuda.current_device())
    known = [f"cuda:{index}" for index in range(gpus)]
    if name in known:
        return torch.device(name)
    gpu = f"cuda, {known[0]} to {known[-1]}" if known else "cuda (if this machine has one)"
    raise InputError(f"device: expected auto, cpu or {gpu}, got {name!r}")
