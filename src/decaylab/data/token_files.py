"""Texts that others have tokenised for GPT-2: nanoGPT's `train.bin`, and shards of modded-nanogpt or llm.c."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

import numpy as np

from decaylab.files import printable

_SPLIT = re.compile(r"(^|[^a-z])(train|val|valid|validation|test)([^a-z]|$)")
_MAGIC, _VERSION, _HEADER = 20240520, 1, 1024
"""modded-nanogpt, data/cached_fineweb10B.py: 256 int32, of which the third is the number of tokens"""
_END_OF_TEXT = 50256
_BYTES = 256
"""the first GPT-2 tokens are single bytes"""


def is_tokens(name: str) -> bool:
    """Whether a file is named like one: `train.bin`, `fineweb_val_000000.bin`."""
    base = posixpath.basename(name).lower()
    return base.endswith(".bin") and bool(_SPLIT.search(base))


def documents(name: str, content: bytes | np.ndarray, decode: Callable[[list[int]], str]) -> Iterator[str]:
    """The text of each document; end-of-text tokens stand between them.

    Args:
        content: bytes, or uint8 [n] in a memory map.
        decode: text of GPT-2 tokens.

    Raises:
        ValueError: other tokens, or damaged; the message names the file.
    """
    data = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content
    try:
        tokens = _tokens(data)
    except ValueError as error:
        raise ValueError(f"{printable(name)}: {error}") from None
    ends = [*np.flatnonzero(tokens == _END_OF_TEXT).tolist(), len(tokens)]
    start = 0
    for end in ends:
        if end > start:
            yield decode(tokens[start:end].tolist())
        start = end + 1


def _tokens(data: np.ndarray) -> np.ndarray:
    """uint16 [n]"""
    header = data[:_HEADER].tobytes()
    if len(header) == _HEADER and np.frombuffer(header, "<i4")[0] == _MAGIC:
        _, version, count = np.frombuffer(header, "<i4")[:3].tolist()
        if version != _VERSION:
            raise ValueError(f"version {version} of a token shard: expected {_VERSION}, GPT-2 tokens of 16 bits")
        if len(data) != _HEADER + 2 * count:
            raise ValueError(f"its header announces {count} tokens, found {(len(data) - _HEADER) / 2:g}; cut off?")
        data = data[_HEADER:]
    if not len(data) or len(data) % 2:
        raise ValueError(f"expected GPT-2 tokens of 16 bits, found {len(data)} bytes")
    tokens = data.view("<u2")
    largest = int(tokens.max())
    if largest > _END_OF_TEXT:
        raise ValueError(f"expected GPT-2 tokens up to {_END_OF_TEXT}, found {largest}")
    if largest < _BYTES:
        raise ValueError(f"numbers up to {largest} are no GPT-2 tokens (characters?): give the text itself")
    return tokens
