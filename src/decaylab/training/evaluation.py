"""Losses and errors on fixed examples, and batch statistics for averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from decaylab.data import Dataset
from decaylab.training.learner import cross_entropy

_BATCH_NORM = nn.modules.batchnorm._BatchNorm
STATISTICS_BATCH = 500
"""examples in one pass for batch statistics, on every device: statistics of deep layers depend on it"""


@torch.no_grad()
def losses(
    model: nn.Module,
    data: Dataset,
    split: str,
    examples: int | None,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Tensor]:
    """Mean `<split>_loss` (nats) and `<split>_error`, 0-d float64. The model is left in evaluation mode."""
    model.eval()
    loss: Tensor | None = None
    wrong: Tensor | None = None
    count = 0
    for inputs, targets in data.evaluation(split, examples):
        with autocast():
            logits = model(inputs)
        if loss is None:
            loss, wrong = torch.zeros(2, device=logits.device, dtype=torch.float64)
        loss += cross_entropy(logits, targets).double() * targets.numel()
        wrong += (logits.argmax(-1) != targets).sum()
        count += targets.numel()
    return {f"{split}_loss": loss / count, f"{split}_error": wrong / count}


@torch.no_grad()
def refresh_batch_norm(average: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], model: nn.Module) -> None:
    """Recompute the batch statistics of averaged weights, as they differ from those of any weights averaged.

    Parts of equal size up to one are weighted by their examples, so that no short part counts like a full one.

    Args:
        average: the averaged weights; its statistics are replaced.
        batches: fixed training examples.
        model: whose statistics are taken where a single example has none.
    """
    norms = [module for module in average.modules() if isinstance(module, _BATCH_NORM)]
    if not norms:
        return
    inputs = [batch for batch, _ in batches]
    examples = sum(len(batch) for batch in inputs)
    if examples < 2:
        for mine, its in zip(average.buffers(), model.buffers(), strict=True):
            mine.copy_(its)
        return
    parts = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
    momenta = [norm.momentum for norm in norms]
    training = average.training
    average.train()
    seen = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
        for part in parts.tensor_split(math.ceil(examples / STATISTICS_BATCH)):
            seen += len(part)
            for norm in norms:
                norm.momentum = len(part) / seen
            average(part)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        average.train(training)
