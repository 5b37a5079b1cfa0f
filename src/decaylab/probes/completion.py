"""What a language model makes of a prompt: the sample text of Thomas, "Writing an LLM from scratch", part 32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from decaylab.probes._mode import evaluation_mode
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "text"
LENGTH = 20
"""tokens after the prompt, each of which takes at most one pass of a whole window"""


class Probe(BaseProbe):
    """The likeliest continuation of a prompt, as text, at the end of the run."""

    moment = "end"

    def measure(self, view: View) -> dict[str, str]:
        from decaylab.data.tokenizers import tokenizer

        tokens = tokenizer(view.spec.data.tokenizer)
        with view.autocast():
            text = completion(view.model, lambda words: tokens.encode([words])[0].tolist(), tokens.decode)
        return {"completion": text}

    def example_passes(self, spec: RunSpec) -> float:
        return float(LENGTH)


def completion(
    model: nn.Module,
    encode: Callable[[str], list[int]],
    decode: Callable[[list[int]], str],
    prompt: str = "Every effort moves you",
    length: int = LENGTH,
) -> str:
    """The prompt and the likeliest `length` tokens after it, one at a time.

    Args:
        model: has `generate(tokens, length)`, as decaylab.models.gpt.
        encode, decode: the tokenizer's; `prompt` must have at least one token.
    """
    device = next(model.parameters()).device
    with evaluation_mode(model):
        tokens = model.generate(torch.tensor([encode(prompt)], dtype=torch.int64, device=device), length)
    return decode(tokens[0].tolist())
