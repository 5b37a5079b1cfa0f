"""One training process for each GPU. Snakemake counts GPUs but does not say which one a job gets."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.locks import open_lock, try_exclusive, wait_exclusive

POLL_SECONDS = 0.5
_held: list[Any] = []


def visible_gpus(devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. Asks no driver, since that is slow."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name for name in (part.strip() for part in allowed.split(",")) if name and name != "-1"]
    numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in devices.glob("nvidia*"))
    return [str(number) for number in sorted(int(match[1]) for match in numbers if match)]


def take_gpu(device: str, folder: Path | None = None) -> str | None:
    """Where there are several GPUs, wait for one that no other decaylab uses, and let this process see no other.

    With a single GPU nothing happens: several small runs may well share it. A scheduler that gave this process one GPU
    has decided already. See `take_gpus`.
    """
    return take_gpus(device, 1, folder) if len(visible_gpus()) > 1 else None


def take_gpus(device: str, count: int, folder: Path | None = None) -> str | None:
    """Wait for that many GPUs that no other decaylab uses, and let this process and those it starts see no other.

    The GPUs are free again when the process ends, for whatever reason.

    Args:
        device: as in the configuration; only `auto` and `cuda` leave a choice.
        folder: for the locks; of this machine.

    Returns:
        The GPUs, separated by commas, or None if there was nothing to choose, or no way to know.

    Raises:
        InputError: there are some, but fewer.
    """
    names = visible_gpus()
    if device not in ("auto", "cuda") or not names:
        return None
    if len(names) < count:
        raise InputError(f"{count} GPUs are asked for, and this machine shows {len(names)}")
    folder = folder or Path(tempfile.gettempdir()) / f"decaylab-gpus-{os.getuid()}"
    files = {name: open_lock(folder / re.sub(r"\W", "_", name)) for name in names}
    taken: list[str] = []
    with open_lock(folder / "queue") as queue:
        if not wait_exclusive(queue):  # first come, first served
            return None  # no locks on this file system, so nobody can know
        while True:
            for name, file in files.items():
                if name not in taken and len(taken) < count and try_exclusive(file):
                    taken.append(name)
            if len(taken) == count:
                break
            time.sleep(POLL_SECONDS)
    for name, file in files.items():
        if name in taken:
            _held.append(file)
        else:
            file.close()
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    return os.environ["CUDA_VISIBLE_DEVICES"]
