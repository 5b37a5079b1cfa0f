"""What the workflow needs to know about this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def has_nvidia() -> bool:
    """Whether this machine has an NVIDIA driver. Asks the kernel, because importing torch takes seconds."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def find_programs() -> None:
    """Put this environment's programs on PATH, so that jobs find `decaylab` without activating it."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])
