"""Parts of a GPT that compute in float32 while the rest computes in bfloat16.

Under autocast, a part leaves it. Where weights are stored in bfloat16, they are float32 tensors that hold numbers of
bfloat16 (`optim/rounding.py`); those of the other parts are cast where they are used. Without any part in float32,
the numbers are those of a network stored in bfloat16; with embedding, norms, optimizer and residual, those of autocast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from decaylab.spec import Group, Part, RunSpec

GROUPS: Mapping[Part, tuple[Group, ...]] = {
    "embedding": ("embedding",),
    "linear": ("attention", "mlp", "bias"),
    "logits": ("head",),
    "norms": ("norm",),
}
"""parameter groups that are stored in float32 with a part; a head tied to the embedding is stored with that"""


class _WideAttention:
    """Before the attention of a network: logits, softmax and the mixing of values in float32."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            return super().mix(query.float(), key.float(), value.float())


class _WideLinear:
    """Before a linear layer: in float32, also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def rounded_groups(spec: RunSpec, groups: Mapping[Group, nn.Parameter]) -> list[nn.Parameter]:
    """The weights of the optimizer that a run with `casts_weights` stores in bfloat16."""
    parts = spec.float32_parts or ()
    if "optimizer" in parts:
        return []
    wide = {group for part in parts for group in GROUPS.get(part, ())}
    return [weight for group, weight in groups.items() if group not in wide]


class Parts:
    """Changes the layers of a GPT so that some of its parts compute in float32.

    Args:
        spec: with `float32_parts` or `rounding`.
        model: its weights are float32.
    """

    def __init__(self, spec: RunSpec, model: nn.Module) -> None:
        self.model, self.parts = model, frozenset(spec.float32_parts or ())
        self._narrow: list[tuple[str, nn.Module, str]] = []
        """weights that are used in bfloat16: path of their layer, the layer, and their name in it"""
        first = {id(weight): name for name, weight in model.named_parameters()}
        self._owners = {name: first[id(weight)] for name, weight in model.named_parameters(remove_duplicate=False)}
        """every name of a weight: the name under which it is trained"""
        self._active = False
        for module in model.modules():
            if getattr(module, "role", None) == "attention" and "attention" in self.parts:
                _extend(module, _WideAttention)
            if isinstance(module, nn.Linear) and self._part(module) in self.parts:
                _extend(module, _WideLinear)
        if spec.casts_weights:
            self._cast_weights()

    def _part(self, module: nn.Module) -> Part:
        if isinstance(module, nn.Linear):
            return "logits" if module is self.model.head else "linear"
        return "embedding" if isinstance(module, nn.Embedding) else "norms"

    def _cast_weights(self) -> None:
        for path, module in self.model.named_modules():
            own = dict(module.named_parameters(recurse=False))
            if own and self._part(module) not in self.parts:
                self._narrow += [(path, module, name) for name in own]
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.register_forward_pre_hook(_like_weight)
        self.model.blocks[0].register_forward_pre_hook(self._into_stream)
        for block in self.model.blocks:
            for branch in (block.attention, block.mlp):
                branch.register_forward_hook(self._onto_stream)

    def _into_stream(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._streamed(inputs[0]), *inputs[1:])

    def _onto_stream(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._streamed(output)

    def _streamed(self, x: Tensor) -> Tensor:
        if not self._active:
            return x
        return x.float() if "residual" in self.parts else x.bfloat16()

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Use each weight as it is stored. Outside, the network computes in float32."""
        if not self._narrow:
            yield
            return
        before = [(module, name, module._parameters[name]) for _, module, name in self._narrow]
        with self._activated():
            try:
                for module, name, weight in before:
                    module._parameters[name] = weight.bfloat16()
                yield
            finally:
                for module, name, weight in before:
                    module._parameters[name] = weight

    @contextlib.contextmanager
    def _activated(self) -> Iterator[None]:
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def call(self, weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """The network's output with these weights by name, each used as it is stored."""
        used = {name: weights[owner] for name, owner in self._owners.items()}
        for path, _, name in self._narrow:
            used[f"{path}.{name}"] = used[f"{path}.{name}"].bfloat16()
        with self._activated():
            return torch.func.functional_call(self.model, used | dict(buffers), (inputs,), tie_weights=False)


def _extend(module: nn.Module, mixin: type) -> None:
    module.__class__ = type(type(module).__name__, (mixin, type(module)), {})


def _like_weight(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(module.weight.dtype) for x in inputs)
