"""Settings of a training process: import torch's compiler late, and let the allocator keep memory.

Building an optimizer imports torch._dynamo, only to tell the compiler to leave the optimizer alone. On a laptop that
takes four seconds, longer than many a run. So a stand-in answers until the compiler is really wanted.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _Postponed(ModuleType):
    """Leaves functions as they are. Any other question imports the real module, which then takes its place."""

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        return (lambda inner: inner) if function is None else function

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def postpone_compiler() -> None:
    """Put the stand-in in place, unless torch._dynamo is imported already.

    It replaces a module of torch, so only commands that train call it, and nothing calls it on import.
    """
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Postponed(NAME)


@functools.cache
def keep_memory() -> bool:
    """Let glibc keep freed memory for the next step; False where there is no glibc.

    By default it returns the activations of a step to the kernel and asks for them again in the next step, and the
    kernel clears each page: a quarter of the step of a ResNet-8 on 32x32 images.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # 32 MiB is the largest threshold that glibc accepts
    wanted = {mmap_threshold: 1 << 25, trim_threshold: 1 << 30, top_pad: 1 << 26}
    return all(mallopt(name, value) == 1 for name, value in wanted.items())
