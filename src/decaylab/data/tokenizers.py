"""From documents to token numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from decaylab.errors import InputError

_BATCH_CHARACTERS = 1 << 23


@dataclass(frozen=True)
class Tokenizer:
    vocabulary: int
    dtype: str
    separator: int
    """token put after every document"""
    encode: Callable[[list[str]], list[np.ndarray]]
    decode: Callable[[list[int]], str]
    """tokens to text; bytes that are no UTF-8 are replaced"""
    line_ends: np.ndarray
    """bool [vocabulary]: the token contains an end of line"""
    overlap_window: int
    """tokens, about 64 bytes: held-out text that shares so many with the training text is left out"""

    def documents(self, texts: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Each text with its tokens and a separator, in order; encoded many at a time."""
        batch: list[str] = []
        size = 0
        for text in texts:
            batch.append(text)
            size += len(text)
            if size >= _BATCH_CHARACTERS:
                yield from self._encode(batch)
                batch, size = [], 0
        yield from self._encode(batch)

    def _encode(self, batch: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        for text, tokens in zip(batch, self.encode(batch), strict=True):
            yield text, np.append(tokens, np.array(self.separator)).astype(self.dtype)


def tokenizer(name: Literal["bytes", "gpt2"]) -> Tokenizer:
    """`bytes`: UTF-8, separated by byte 0. `gpt2`: GPT-2's byte pairs, separated by its end-of-text token.

    Raises:
        InputError: gpt2, and tiktoken is not installed or cannot get its vocabulary.
    """
    if name == "bytes":
        line_ends = np.arange(256) == ord("\n")
        return Tokenizer(256, "uint8", 0, _bytes, _text, line_ends, overlap_window=64)
    try:
        import tiktoken
    except ImportError:
        raise InputError("tokenizer gpt2 needs tiktoken: pip install decaylab[text]") from None
    try:
        encoding = tiktoken.get_encoding("gpt2")
    except Exception as error:  # whatever the HTTP library, the proxy or the cache folder raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            "tokenizer gpt2: its vocabulary can neither be downloaded nor found in TIKTOKEN_CACHE_DIR "
            f"({os.environ.get('TIKTOKEN_CACHE_DIR', 'not set')}): {reason:.120}"
        ) from None
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def encode(texts: list[str]) -> list[np.ndarray]:
        return [np.array(t, dtype=np.uint16) for t in encoding.encode_ordinary_batch(texts, num_threads=threads)]

    line_ends = np.array([b"\n" in encoding.decode_single_token_bytes(token) for token in range(encoding.n_vocab)])
    return Tokenizer(encoding.n_vocab, "uint16", encoding.eot_token, encode, encoding.decode, line_ends, 16)


def _bytes(texts: list[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode("utf-8", errors="replace"), dtype=np.uint8) for text in texts]


def _text(tokens: list[int]) -> str:
    return bytes(tokens).decode("utf-8", errors="replace")
