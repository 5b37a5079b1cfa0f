"""Networks: `build_model` makes the one of a spec, `parameter_groups` assigns each parameter to a group.

A network maps a batch of inputs to logits, and its last linear layer is its attribute `head`. Its file is named as its
kind and is imported only when it is used, so a run depends on the code of its own network only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decaylab.spec import Group, Model

CHANNELS = 3
"""of an image"""

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.RMSNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm in float32, with float32 statistics, inside a network that is stored in bfloat16.

    In bfloat16, running statistics would lose every change below four per cent.
    """

    narrow = False
    """whether inputs and weights have a type of fewer bits than float32"""

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchNorm2d:
        # what the statistics would have become
        dtype = function(self.running_mean.new_empty(0, dtype=torch.bfloat16 if self.narrow else None)).dtype
        super()._apply(function, recurse)
        wide = torch.promote_types(dtype, torch.float32)
        self.narrow = dtype != wide
        self.running_mean, self.running_var = self.running_mean.to(wide), self.running_var.to(wide)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if not self.narrow:
            return super().forward(x)
        if self.training:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var
        affine = (self.weight.float(), self.bias.float()) if self.affine else (None, None)
        # torch cannot stack networks whose statistics and inputs differ in type
        return F.batch_norm(x.float(), *statistics, *affine, self.training, self.momentum, self.eps).to(x.dtype)


def build_model(model: Model, *, classes: int, image_size: int | None = None, seed: int) -> nn.Module:
    """A float32 network on the CPU, initialised from `seed` alone; the global random state does not change.

    Under `torch.device("meta")` the network has shapes but no memory, which is enough to count its parameters.

    Args:
        classes: classes of the images, or tokens of the tokenizer.
        image_size: height and width in pixels; text models take None.

    Returns:
        A module in training mode. Images: [B, 3, image_size, image_size] -> [B, classes];
        text: int64 [B, T] -> [B, T, vocabulary].

    Raises:
        InputError: the network does not fit the data.
    """
    kind = importlib.import_module(f"{__name__}.{model.kind}")
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the GPUs
        torch.default_generator.manual_seed(seed)
        return kind.build(model, classes, image_size)


def parameter_groups(module: nn.Module) -> dict[str, Group]:
    """Group of every parameter, by its name in `module.named_parameters()`.

    The type of a layer and its role decide. Scale and shift of a norm are `norm`; `bias` means biases of linear and
    convolutional layers. The weight of a linear layer is `head` in the last layer, `attention` inside a module that
    declares `role = "attention"`, and `mlp` elsewhere. A head tied to the token embedding appears once, as `embedding`.

    Raises:
        TypeError: a layer of a type that has no group.
    """
    attention = tuple(f"{name}." for name, part in module.named_modules() if getattr(part, "role", None) == "attention")
    groups: dict[str, Group] = {}
    for name, _ in module.named_parameters():
        path, _, kind = name.rpartition(".")
        layer = module.get_submodule(path)
        if isinstance(layer, nn.Embedding):
            group: Group = "embedding"
        elif isinstance(layer, _NORMS):
            group = "norm"
        elif kind == "bias":
            group = "bias"
        elif isinstance(layer, _CONVOLUTIONS):
            group = "convolution"
        elif layer is module.head:
            group = "head"
        elif isinstance(layer, nn.Linear):
            group = "attention" if name.startswith(attention) else "mlp"
        else:
            raise TypeError(f"parameter {name} of {type(layer).__name__} belongs to no group")
        groups[name] = group
    return groups
