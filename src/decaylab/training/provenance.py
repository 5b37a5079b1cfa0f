"""What a result must say about where it came from: commit, versions, hardware."""

import functools
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from decaylab.files import git_commit


@functools.cache
def commit() -> str | None:
    """The git commit of the code that runs, asked once; see `git_commit`."""
    return git_commit(Path(__file__).parent)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what decides numbers."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("decaylab", "torchvision", "numpy", "tiktoken"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> dict[str, Any]:
    """Device name, cores, threads; for a GPU its memory and driver as well."""
    value: dict[str, Any] = {
        "device": device.type,
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        value |= {"memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
        value["capability"] = f"{properties.major}.{properties.minor}"
    return value


@functools.cache
def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory so far: allocated on the GPU since the last reset, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
