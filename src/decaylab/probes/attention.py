"""How large logits and weights have grown: what comes before a divergence in low precision.

Attention logits that grow without bound precede it (Dehghani et al. 2023; Wortsman et al. 2023), and so do
output logits; weights matter because the spacing of bfloat16 numbers grows with them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from decaylab.probes._mode import evaluation_mode
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

COLUMNS = {
    "max_weight": ("largest weight (absolute)", ""),
    "max_logit": ("largest output logit (absolute)", ""),
    "attention_logit": ("largest attention logit (absolute)", ""),
}
PARAMETERS = {"examples": {"default": 64, "ge": 1}}

_BLOCK = 1 << 24
"""logits held in memory at once"""


class Probe(BaseProbe):
    """Largest weight, output logit and attention logit, over the first `examples` of the training examples."""

    examples: int

    def measure(self, view: View) -> dict[str, Tensor]:
        inputs, _ = next(view.batches("train", view.spec.evaluation.train_examples))
        with view.autocast():
            return attention_logits(view.model, inputs[: self.examples])

    def example_passes(self, spec: RunSpec) -> float:
        return float(min(self.examples, spec.evaluation.train_examples))


def attention_logits(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Largest absolute values over a batch and the whole model, as 0-d float32 tensors on its device.

    Nothing waits for the device, and neither results nor modes change. Logits are products in float32 of queries
    and keys as the model computes them (under the caller's autocast). NaN, if there is one, is the largest.

    Args:
        inputs: a batch that the model takes.

    Returns:
        max_logit: of the output; max_weight: of the parameters; attention_logit: after scaling and before softmax, in
        causal attention of keys not after their query, absent in models without attention.
    """
    largest: list[Tensor] = []

    def watch(module: Any, arguments: tuple[Any, ...]) -> None:
        query, key, _ = module.query_key_value(*arguments)
        with torch.autocast(query.device.type, enabled=False):
            largest.append(_largest_logit(query.float(), key.float(), getattr(module, "causal", True)))

    handles = [
        module.register_forward_pre_hook(watch)
        for module in model.modules()
        if getattr(module, "role", None) == "attention"
    ]
    try:
        with evaluation_mode(model):
            output = model(inputs).abs().amax().float()
    finally:
        for handle in handles:
            handle.remove()
    weights = [parameter.detach() for parameter in model.parameters()]
    result = {"max_logit": output, "max_weight": torch.nn.utils.get_total_norm(weights, math.inf).float()}
    if largest:
        result["attention_logit"] = torch.stack(largest).amax()
    return result


def _largest_logit(query: Tensor, key: Tensor, causal: bool = True) -> Tensor:
    """Largest |query . key| / sqrt(size), if `causal` over keys not after their query; both [B, heads, T, size]."""
    _, heads, length, size = query.shape
    rows = max(1, _BLOCK // (heads * length**2))
    parts = [
        (logits.tril() if causal else logits).abs().amax()
        for logits in (q @ k.transpose(-2, -1) for q, k in zip(query.split(rows), key.split(rows), strict=True))
    ]
    return torch.stack(parts).amax() / math.sqrt(size)
