"""States on disk: the checkpoint a killed run continues from, and snapshots that other runs start from.

Both are written beside their final name and renamed, so that a kill or a full disk leaves the old one whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from decaylab.errors import InputError
from decaylab.files import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values. Raises OSError (a full disk) with the old checkpoint untouched."""
    with atomic_path(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's own writer wraps the system's error
            raise OSError(f"{path}: cannot be written ({error})") from error


def load_checkpoint(path: Path, key: dict[str, str]) -> dict[str, Any] | None:
    """The checkpoint, or None if there is none, it is unreadable, or it belongs to other code or another spec."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception:
        # whatever is wrong with it, the run can begin anew; it is only a shortcut
        return None
    return state if state.get("key") == key else None


def save_snapshot(
    path: Path, model: torch.nn.Module, ema: torch.nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    """Weights, buffers, EMA and optimizer state, as safetensors: loads anywhere without running code."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{name}": tensor for name, tensor in ema.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": v for name, v in state.items() if isinstance(v, torch.Tensor)}
    # safetensors refuses shared storage (tied weights) and strides (channels_last)
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with atomic_path(path) as temporary:
        save_file(plain, temporary)


def load_snapshot(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """Put a snapshot's weights and buffers (and, if an optimizer is given, its state) in place.

    Raises:
        InputError: the file is missing, damaged or of another model.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such snapshot; train the run it belongs to first") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable snapshot ({error})") from None
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path}: snapshot of another model ({str(error).splitlines()[-1].strip()})") from None
    if optimizer is None:
        return
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
