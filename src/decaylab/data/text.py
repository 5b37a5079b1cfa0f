"""Text as flat token arrays, split by document.

Prepared folder: `train.bin`, `validation.bin`, `test.bin` (raw little-endian tokens, memory-mapped) and meta.json.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from decaylab.data.base import Dataset
from decaylab.data.checks import HELD_OUT, document_digest
from decaylab.data.draws import generator, move
from decaylab.data.overlap import without_overlap
from decaylab.data.store import meta
from decaylab.data.tokenizers import Tokenizer, tokenizer
from decaylab.errors import InputError
from decaylab.files import sha256_file, sha256_json
from decaylab.sources import source_of
from decaylab.spec import TextData

SPLITS = ("train", "validation", "test")
_FEW_DOCUMENTS = 20
_BLOCKS = 100
_BLOCK_CHARACTERS = 2000
_LARGE = 0.1
"""share of the tokens beyond which a document would upset the splits"""
# Larger arrays stay on the disk when training on a GPU.
_DEVICE_BYTES = 4 << 30
_OFFSET_STEPS = 256
# Tokens that are gathered at once for several steps; few on a CPU, whose cache they would take.
_BLOCK_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 22}
# Evaluation batches are limited by their logits: tokens x vocabulary.
_LOGITS = {"cpu": 1 << 26, "cuda": 1 << 30}


def write(data: TextData, folder: Path, documents: Iterable[str], *, streamed: bool = False) -> dict[str, Any]:
    """Tokenise the documents of a source into `folder`; returns its meta.json.

    Args:
        streamed: keep the source's order and decide each document's split by its own digest, in one pass.

    Raises:
        InputError: too little text, or what `documents` raises.
    """
    encoder = tokenizer(data.tokenizer)
    counts = (_write_stream if streamed else _write_sorted)(documents, encoder, folder)
    empty = [split for split in SPLITS if not counts[split]]
    if empty:
        raise InputError(
            f"data source {data.source}: too little text: nothing is left for {' and '.join(empty)}; "
            f"expected at least 3 different documents, or {3 * _BLOCK_CHARACTERS} characters"
        )
    overlap = _leave_out_overlap(data, encoder, folder)
    size = np.dtype(encoder.dtype).itemsize
    return {
        "kind": "text",
        "source": data.source,
        "source_sha256": data.sha256,
        "tokenizer": data.tokenizer,
        "vocabulary": encoder.vocabulary,
        "dtype": encoder.dtype,
        "separator": encoder.separator,
        "documents": counts,
        "tokens": {split: _file(folder, split).stat().st_size // size for split in SPLITS},
        "overlap": overlap,
        "licence": source_of("text", data.source).licence,
        "data_sha256": sha256_json([sha256_file(_file(folder, split)) for split in SPLITS]),
    }


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.bin"


def _leave_out_overlap(data: TextData, encoder: Tokenizer, folder: Path) -> dict[str, Any]:
    """Remove from the held-out splits what also stands in the training text; returns what was found."""
    held_out = ("validation", "test")
    tokens = {split: np.fromfile(_file(folder, split), dtype=encoder.dtype) for split in held_out}
    window = encoder.overlap_window
    training = np.memmap(_file(folder, "train"), dtype=encoder.dtype, mode="r")
    found = without_overlap(
        training, list(tokens.values()), window=window, line_ends=encoder.line_ends, separator=encoder.separator
    )
    for split, part in zip(held_out, found, strict=True):
        if not len(part.tokens):
            raise InputError(
                f"data source {data.source}: nothing is left of the {split} split without what stands in the "
                f"training text ({window} consecutive tokens); expected a text that repeats itself less"
            )
        part.tokens.tofile(_file(folder, split))
    return {
        "window_tokens": window,
        "windows_found": {split: part.windows_found for split, part in zip(held_out, found, strict=True)},
        "tokens_left_out": {split: part.tokens_left_out for split, part in zip(held_out, found, strict=True)},
    }


def _write_sorted(texts: Iterable[str], encoder: Tokenizer, folder: Path) -> dict[str, int]:
    """Documents in the order of their digests: shuffled, yet the same wherever the files came from.

    The first 5 % are for validation, the next 5 % for testing. Equal documents are kept once, so that no split
    contains a document of another.
    """
    places: dict[bytes, tuple[int, int]] = {}
    unsorted = folder / "unsorted.bin"
    end = 0
    with open(unsorted, "wb") as file:
        for text, tokens in encoder.documents(_as_documents(filter(None, texts))):
            digest = document_digest(text)
            if digest not in places:
                places[digest] = (end, len(tokens))
                tokens.tofile(file)
                end += len(tokens)
    tokens = np.memmap(unsorted, dtype=encoder.dtype, mode="r") if end else np.empty(0, encoder.dtype)
    _cut_large(places, tokens, encoder)
    order = sorted(places)
    held_out = max(1, round(HELD_OUT * len(order)))
    parts = {
        "validation": order[:held_out],
        "test": order[held_out : 2 * held_out],
        "train": order[2 * held_out :],
    }
    for split, digests in parts.items():
        with open(_file(folder, split), "wb") as file:
            for start, length in map(places.__getitem__, digests):
                tokens[start : start + length].tofile(file)
                if tokens[start + length - 1] != encoder.separator:
                    np.array(encoder.separator, dtype=encoder.dtype).tofile(file)
    del tokens
    unsorted.unlink()
    return {split: len(parts[split]) for split in SPLITS}


def _cut_large(places: dict[bytes, tuple[int, int]], tokens: np.ndarray, encoder: Tokenizer) -> None:
    """Replace documents that hold much of all tokens [n] by blocks of them, cut after a line."""
    large = max(_LARGE * len(tokens), 4 * _BLOCK_CHARACTERS)
    size = max(len(tokens) // _BLOCKS, _BLOCK_CHARACTERS)
    for digest, (start, length) in list(places.items()):
        if length <= large:
            continue
        del places[digest]
        end = start + length
        while start < end:
            near = np.flatnonzero(encoder.line_ends[tokens[start + size - 1 : min(start + 2 * size, end)]])
            stop = min(start + size + int(near[0]) if len(near) else start + size, end)
            block = tokens[start:stop]
            places[hashlib.sha256(block.tobytes()).digest()] = (start, len(block))
            start = stop


def _as_documents(texts: Iterable[str]) -> Iterator[str]:
    """The texts themselves or, where they are fewer than 20, contiguous blocks of them cut after a line."""
    texts = iter(texts)
    first = list(itertools.islice(texts, _FEW_DOCUMENTS))
    if len(first) == _FEW_DOCUMENTS:
        yield from first
        yield from texts
        return
    size = max(math.ceil(sum(map(len, first)) / _BLOCKS), _BLOCK_CHARACTERS)
    for text in first:
        start = 0
        while start < len(text):
            line_end = text.find("\n", start + size - 1, start + 2 * size) + 1
            end = line_end or start + size
            yield text[start:end]
            start = end


def _write_stream(texts: Iterable[str], encoder: Tokenizer, folder: Path) -> dict[str, int]:
    """Documents in the source's order, each sent to a split by its own digest: one pass, little memory."""
    counts = dict.fromkeys(SPLITS, 0)
    files = {split: open(_file(folder, split), "wb") for split in SPLITS}  # noqa: SIM115 (closed below)
    try:
        for text, tokens in encoder.documents(filter(None, texts)):
            place = int.from_bytes(document_digest(text)[:8]) / 2**64
            split = "validation" if place < HELD_OUT else "test" if place < 2 * HELD_OUT else "train"
            tokens.tofile(files[split])
            counts[split] += 1
    finally:
        for file in files.values():
            file.close()
    return counts


class PreparedText(Dataset):
    """Windows of context_length tokens and the same windows one token further on."""

    kind = "text"
    evaluation_splits = SPLITS

    def __init__(
        self, data: TextData, folder: Path, device: torch.device, *, batch_size: int, seed: int, context_length: int
    ) -> None:
        about = meta(folder)
        self.classes = about["vocabulary"]
        self.sha256 = about["data_sha256"]
        self._data = data
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._seed = seed
        self._length = context_length
        self._tokens: dict[str, Tensor] = {}
        for split in SPLITS:
            tokens = np.memmap(_file(folder, split), dtype=about["dtype"], mode="c")
            if split == "train" and data.train_tokens is not None:
                if data.train_tokens > len(tokens):
                    raise InputError(
                        f"data.train_tokens {data.train_tokens}: {data.source} has {len(tokens)} for training"
                    )
                tokens = tokens[: data.train_tokens]
            if len(tokens) <= context_length:
                raise InputError(
                    f"data {data.source}: {split} has {len(tokens)} tokens, "
                    f"expected more than context_length {context_length}"
                )
            self._tokens[split] = _place(tokens, self._device)
        self.steps_per_epoch = self._windows("train") / batch_size
        tokens = _BLOCK_TOKENS.get(self._device.type, _BLOCK_TOKENS["cpu"])
        most = max(1, tokens // (batch_size * (context_length + 1)))
        # a power of two, so that it divides the block of offsets
        self._steps_together = min(_OFFSET_STEPS, 1 << (most.bit_length() - 1))
        # one block or permutation is kept; any other is drawn again when asked for
        self._starts = lru_cache(maxsize=1)(self._draw_starts)
        self._drawn = lru_cache(maxsize=1)(self._draw)

    def _windows(self, split: str) -> int:
        """Number of disjoint windows."""
        return (len(self._tokens[split]) - 1) // self._length

    def check_steps(self, steps: int) -> None:
        if self._data.order == "one_pass" and steps * self._batch_size > self._windows("train"):
            raise InputError(
                f"data.order one_pass: {steps} steps of {self._batch_size} windows of {self._length} tokens need "
                f"{steps * self._batch_size * self._length + 1} tokens; {self._data.source} has "
                f"{len(self._tokens['train'])} for training"
            )

    def _draw_starts(self, block: int) -> Tensor:
        """First tokens of the windows of a block of steps [steps, batch], or of the whole pass."""
        if self._data.order == "one_pass":
            steps = self._windows("train") // self._batch_size
            order = torch.randperm(self._windows("train"), generator=generator("one_pass", self._seed))
            starts = order[: steps * self._batch_size].view(steps, self._batch_size) * self._length
        else:
            high = len(self._tokens["train"]) - self._length
            draws = generator("random_offsets", self._seed, block)
            starts = torch.randint(high, (_OFFSET_STEPS, self._batch_size), generator=draws)
        return move(starts, self._tokens["train"].device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        self.check_steps(step + 1)
        windows = self._drawn(step // self._steps_together)[step % self._steps_together]
        return windows[:, :-1], windows[:, 1:]

    def _draw(self, block: int) -> Tensor:
        """Windows of a block of steps [steps, batch, length + 1]: many small gathers cost more than a large one."""
        first = block * self._steps_together
        if self._data.order == "one_pass":
            starts = self._starts(0)[first : first + self._steps_together]
        else:
            starts = self._starts(first // _OFFSET_STEPS)[first % _OFFSET_STEPS :][: self._steps_together]
        return self._windows_at("train", starts.flatten()).view(*starts.shape, -1)

    def _windows_at(self, split: str, starts: Tensor) -> Tensor:
        """int64 [windows, length + 1] on the device."""
        windows = self._tokens[split].unfold(0, self._length + 1, 1).index_select(0, starts).long()
        return move(windows, self._device)

    def evaluation(self, split: str, examples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        self._check_split(split)
        available = self._windows(split)
        count = available if examples is None else min(examples, available)
        # evenly spaced over the split
        starts = torch.arange(count) * available // count * self._length
        limit = _LOGITS.get(self._device.type, _LOGITS["cpu"])
        for part in starts.split(max(1, limit // (self.classes * self._length))):
            windows = self._windows_at(split, part.to(self._tokens[split].device))
            yield windows[:, :-1], windows[:, 1:]


def _place(tokens: np.ndarray, device: torch.device) -> Tensor:
    """On a CPU the memory map itself, shared by all processes; on a GPU a copy there, if it is not too large."""
    if device.type == "cpu":
        return torch.from_numpy(tokens)
    # uint16 is indexed on few devices other than a CPU
    dtype = np.uint8 if tokens.dtype == np.uint8 else np.int32
    if tokens.size * np.dtype(dtype).itemsize > _DEVICE_BYTES:
        return torch.from_numpy(tokens)
    return torch.from_numpy(tokens.astype(dtype)).to(device)
