"""What a training process does first: leave out torch's compiler until something is compiled, and keep its memory.

Building an optimizer imports torch._dynamo, only to tell the compiler to leave the optimizer alone. That takes four
seconds on a laptop, longer than many a run. Until something else is asked of that module, a stand-in answers.
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
    """Leaves functions as they are; any other question loads the real module, which then takes its place."""

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
    """Put the stand-in in place, unless torch._dynamo is there already."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Postponed(NAME)


@functools.cache
def keep_memory() -> bool:
    """Let glibc keep freed memory for the next step; False where there is no glibc.

    By default it returns a step's activations to the kernel and asks for them anew, and the kernel clears each page: a
    quarter of a step of a ResNet-8 on 32x32 images.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # 32 MiB is the most that glibc takes from its heap instead of the kernel
    wanted = {mmap_threshold: 1 << 25, trim_threshold: 1 << 30, top_pad: 1 << 26}
    return all(mallopt(name, value) == 1 for name, value in wanted.items())
