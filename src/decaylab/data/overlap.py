"""Passages of held-out text that also stand in the training text.

Licences, tables and copied documents would let a model that remembers its training text look as if it generalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_CHUNK = 1 << 22
_FILTER_BITS = 27
_BASE = np.uint64(0x9E3779B97F4A7C15)
"""odd multiplier of the rolling hash, modulo 2**64"""


@dataclass(frozen=True)
class HeldOut:
    """A held-out split after its overlap with the training text was removed."""

    tokens: np.ndarray
    windows_found: float
    """share of its windows that stand verbatim in the training text"""
    tokens_left_out: float
    """share of its tokens that were left out"""


def without_overlap(
    training: np.ndarray, held_out: list[np.ndarray], *, window: int, line_ends: np.ndarray, separator: int
) -> list[HeldOut]:
    """Leave out of held-out splits the lines that hold the middle of a window that stands in the training text.

    No window of what remains stands in the training text. A document is cut where lines are missing, so no window
    joins what was apart. What a cut leaves is left out too if it is no longer than a window.

    Args:
        training: tokens [n], may be memory-mapped; read once, in chunks.
        held_out: tokens of each split, [n] each, documents ended by `separator`.
        window: consecutive tokens, a power of two. GPT-3 used 13 words (Brown et al. 2020, appendix C).
        line_ends: bool [vocabulary], tokens that contain an end of line.
        separator: token that ends a document.
    """
    hashes = [_window_hashes(np.asarray(tokens), window) for tokens in held_out]
    shared = _shared(training, np.concatenate(hashes), window)
    return [
        _without(np.asarray(tokens), np.isin(values, shared), window, line_ends, separator)
        for tokens, values in zip(held_out, hashes, strict=True)
    ]


def _window_hashes(tokens: np.ndarray, window: int) -> np.ndarray:
    """uint64 [n - window + 1]: a polynomial hash of each window; doubling the width takes log2(window) passes."""
    codes = np.random.default_rng(0).integers(0, 2**64, np.iinfo(tokens.dtype).max + 1, dtype=np.uint64)
    values, width, power = codes[tokens], 1, _BASE
    with np.errstate(over="ignore"):
        while width < window:
            values = values[:-width] * power + values[width:]
            width, power = 2 * width, power * power
    return values


def _shared(training: np.ndarray, wanted: np.ndarray, window: int) -> np.ndarray:
    """Sorted hashes of `wanted` that occur in the training text."""
    wanted = np.unique(wanted)
    shift = np.uint64(64 - _FILTER_BITS)
    # one look-up discards nearly all windows, before the binary search
    possible = np.zeros(1 << _FILTER_BITS, dtype=bool)
    possible[wanted >> shift] = True
    found = np.zeros(len(wanted), dtype=bool)
    for start in range(0, len(training), _CHUNK):
        values = _window_hashes(np.asarray(training[start : start + _CHUNK + window - 1]), window)
        values = values[possible[values >> shift]]
        places = np.searchsorted(wanted, values)
        places[places == len(wanted)] = 0
        found[places[wanted[places] == values]] = True
    return wanted[found]


def _without(tokens: np.ndarray, matches: np.ndarray, window: int, line_ends: np.ndarray, separator: int) -> HeldOut:
    if not matches.any():
        return HeldOut(tokens, 0.0, 0.0)
    bounds = _line_bounds(tokens, line_ends, separator)
    # the line in the middle breaks a window; its neighbours would go for one letter in common
    middles = np.flatnonzero(matches) + window // 2
    touched = np.zeros(len(bounds) - 1, dtype=bool)
    touched[np.searchsorted(bounds, middles, side="right") - 1] = True
    pieces = list(_pieces(tokens, bounds, touched, window, separator))
    kept = np.concatenate(pieces) if pieces else tokens[:0]
    return HeldOut(kept, float(matches.mean()), 1 - min(len(kept), len(tokens)) / len(tokens))


def _line_bounds(tokens: np.ndarray, line_ends: np.ndarray, separator: int) -> np.ndarray:
    """First token of each line, and the end of the text."""
    ends = np.flatnonzero(line_ends[tokens] | (tokens == separator)) + 1
    return np.unique(np.concatenate([[0], ends, [len(tokens)]]))


def _pieces(
    tokens: np.ndarray, bounds: np.ndarray, touched: np.ndarray, window: int, separator: int
) -> Iterator[np.ndarray]:
    """Runs of untouched lines; a separator ends a document that was cut."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], touched, [True]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2):
        start, end = bounds[first], bounds[last]
        ends = start + np.flatnonzero(tokens[start:end] == separator) + 1
        # whole documents may be short, but not what a cut leaves of one
        if start > 0 and tokens[start - 1] != separator:
            head = ends[0] if len(ends) else end
            start = start if head - start > window else head
        cut = tokens[end - 1] != separator
        if cut and end - (ends[-1] if len(ends) else start) <= window:
            end, cut = (ends[-1] if len(ends) else start), False
        if end > start:
            piece = tokens[start:end]
            yield np.append(piece, np.array(separator, dtype=tokens.dtype)) if cut else piece
