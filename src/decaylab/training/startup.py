"""torch without its compiler, for as long as nothing is compiled.

Building an optimizer imports torch._dynamo, only to tell the compiler to leave the optimizer alone. That takes four
seconds on a laptop, longer than many a run. Until something else is asked of that module, a stand-in answers.
"""

from __future__ import annotations

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
