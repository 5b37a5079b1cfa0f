"""GPT-2 (Radford et al. 2019): pre-norm transformer with learned positions.

Initialised as GPT-2: normal(0, 0.02), projections into the residual stream divided by sqrt(2 layers), biases 0.
GELU is exact, as in nanoGPT and the EPFL experiments. OpenAI and Thomas ("Writing an LLM from scratch") use its tanh
approximation, and Thomas also torch's default initialisation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from decaylab import spec
from decaylab.errors import InputError

_STD = 0.02


def dropped(x: Tensor, probability: float, training: bool) -> Tensor:
    """F.dropout, without its cost if nothing is dropped."""
    return F.dropout(x, probability, training) if probability else x


class HeadNorm(nn.RMSNorm):
    """RMS norm in the precision of its weights; on a CPU, autocast would mix two precisions."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Causal multi-head self-attention: B sequences of T positions, one row each, [B T, width] -> the same."""

    role = "attention"
    """for parameter groups and probes"""

    def __init__(self, model: spec.GPT):
        super().__init__()
        self.heads = model.heads
        self.qkv = nn.Linear(model.width, 3 * model.width, bias=model.bias and model.qkv_bias)
        self.output = nn.Linear(model.width, model.width, bias=model.bias)
        self.dropout = model.dropout
        size = model.width // model.heads
        self.query_norm = HeadNorm(size, eps=1e-5) if model.qk_norm else None
        self.key_norm = HeadNorm(size, eps=1e-5) if model.qk_norm else None

    def query_key_value(self, x: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors [B, heads, T, width / heads]; attention logits are query . key / sqrt(width / heads)."""
        parts = self.qkv(x).view(-1, length, 3, self.heads, x.shape[1] // self.heads)
        # transposed after the split, so that gradients of attention need no copy
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        return query, key, value

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Values averaged by the softmax of the logits: [B, heads, T, width / heads] three times -> the same."""
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)

    def forward(self, x: Tensor, length: int) -> Tensor:
        """`length` is T."""
        mixed = self.mix(*self.query_key_value(x, length))
        return dropped(self.output(mixed.transpose(1, 2).reshape(x.shape)), self.dropout, self.training)


class FeedForward(nn.Module):
    """Two linear layers with GELU, four times as wide inside: [B T, width] -> the same."""

    def __init__(self, model: spec.GPT):
        super().__init__()
        self.input = nn.Linear(model.width, 4 * model.width, bias=model.bias)
        self.output = nn.Linear(4 * model.width, model.width, bias=model.bias)
        self.dropout = model.dropout

    def forward(self, x: Tensor) -> Tensor:
        return dropped(self.output(F.gelu(self.input(x))), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, model: spec.GPT):
        super().__init__()
        self.norm1 = nn.LayerNorm(model.width, bias=model.bias)
        self.attention = Attention(model)
        self.norm2 = nn.LayerNorm(model.width, bias=model.bias)
        self.mlp = FeedForward(model)

    def forward(self, x: Tensor, length: int) -> Tensor:
        x = x + self.attention(self.norm1(x), length)
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, model: spec.GPT, tokens: int):
        super().__init__()
        vocabulary = model.vocabulary or tokens
        self.tokens = tokens
        """of the tokenizer; larger ids only pad the embedding"""
        self.context_length = model.context_length
        self.dropout = model.dropout
        self.token_embedding = nn.Embedding(vocabulary, model.width)
        self.position_embedding = nn.Embedding(model.context_length, model.width)
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.layers))
        self.norm = nn.LayerNorm(model.width, bias=model.bias)
        self.head = nn.Linear(model.width, vocabulary, bias=False)
        if model.tied:
            self.head.weight = self.token_embedding.weight
        self._initialise(model.layers)

    def _initialise(self, layers: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            for output in (block.attention.output, block.mlp.output):
                nn.init.normal_(output.weight, std=_STD / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, T], T at most context_length -> logits [B, T, vocabulary] of each next token."""
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(f"{length} tokens are more than the context of {self.context_length}")
        x = self.token_embedding(tokens) + self.position_embedding.weight[:length]
        # one row per position: two-dimensional matmuls are faster than batched ones, above all backward
        x = dropped(x.flatten(0, 1), self.dropout, self.training)
        for block in self.blocks:
            x = block(x, length)
        return self.head(self.norm(x)).view(*tokens.shape, -1)

    @torch.no_grad()
    def generate(
        self, prompt_tokens: Tensor, length: int, temperature: float = 0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Continue each prompt by `length` tokens: int64 [B, T] -> [B, T + length].

        Only the last context_length tokens are used, and ids that pad the vocabulary are never chosen. The caller sets
        the module's mode.

        Args:
            temperature: 0 takes the likeliest token, else tokens are drawn from softmax(logits / temperature).
            generator: of the random draws, on the tokens' device.
        """
        tokens = prompt_tokens
        for _ in range(length):
            logits = self(tokens[:, -self.context_length :])[:, -1, : self.tokens].float()
            if temperature > 0:
                following = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            else:
                following = logits.argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, following], dim=1)
        return tokens


def build(model: spec.GPT, classes: int, image_size: int | None) -> GPT:
    """Raises InputError if the vocabulary has no room for the tokenizer's tokens."""
    if model.vocabulary is not None and model.vocabulary < classes:
        raise InputError(f"model.vocabulary: expected at least {classes} (the tokenizer's), got {model.vocabulary}")
    return GPT(model, classes)
