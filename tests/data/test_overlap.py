"""Held-out text that stands in the training text: found by a hash, left out by the line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decaylab.data.overlap import without_overlap
from decaylab.data.tokenizers import tokenizer

WINDOW = 4
LINE_ENDS = np.arange(256) == ord("\n")


def clean(training: bytes, *held_out: bytes, window: int = WINDOW):
    return without_overlap(
        np.frombuffer(training, dtype=np.uint8),
        [np.frombuffer(text, dtype=np.uint8) for text in held_out],
        window=window,
        line_ends=LINE_ENDS,
        separator=0,
    )


def windows(text: bytes, window: int = WINDOW) -> list[bytes]:
    return [text[i : i + window] for i in range(len(text) - window + 1)]


def test_a_shared_line_is_left_out_whole_and_the_document_is_cut_there():
    training = b"one two three\nMIT licence\n\0"
    held_out = b"a first line\nthe MIT licence too\nthe other line\n\0"
    (found,) = clean(training, held_out, window=8)
    assert found.tokens.tobytes() == b"a first line\n\0the other line\n\0"
    assert found.windows_found == sum(w in training for w in windows(held_out, 8)) / len(windows(held_out, 8))
    assert found.tokens_left_out == pytest.approx(1 - len(found.tokens) / len(held_out))


def test_short_remains_of_a_cut_document_go_and_short_documents_stay():
    training = b"0123456789\n\0"
    held_out = b"ab\n\0x\n0123456789\ny\n\0cd\n\0"
    (found,) = clean(training, held_out, window=8)
    assert found.tokens.tobytes() == b"ab\n\0cd\n\0"


def test_text_without_overlap_is_kept_to_the_byte():
    splits = [b"abcdefgh\n\0", b"ijklmnop\n\0"]
    for split, found in zip(splits, clean(b"qrstuvwx\n\0", *splits), strict=True):
        assert (found.tokens.tobytes(), found.windows_found, found.tokens_left_out) == (split, 0.0, 0.0)


def test_overlap_across_the_chunks_of_a_long_training_text(monkeypatch):
    monkeypatch.setattr("decaylab.data.overlap._CHUNK", 5)
    training = b"the quick brown fox jumps over the lazy dog"
    for start in range(len(training) - 8):
        assert not len(clean(training, training[start : start + 8], window=8)[0].tokens)


documents = st.lists(st.text("ab\n", min_size=1, max_size=30), min_size=1, max_size=4).map(
    lambda texts: b"".join(text.encode() + b"\0" for text in texts)
)


@settings(max_examples=200)
@given(training=documents, held_out=documents)
def test_no_window_of_what_is_kept_stands_in_the_training_text(training, held_out):
    (found,) = clean(training, held_out)
    kept = found.tokens.tobytes()
    assert not any(w in training for document in kept.split(b"\0") for w in windows(document))
    expected = [w in training for w in windows(held_out)]
    assert found.windows_found == pytest.approx(np.mean(expected) if expected else 0.0)
    # every line that is kept is one of the held-out text, and a document is only ever cut
    assert all(piece in held_out for piece in kept.split(b"\0"))


def test_line_ends_of_the_tokenizers():
    encoder = tokenizer("bytes")
    assert encoder.line_ends.nonzero()[0].tolist() == [10]
    assert encoder.overlap_window == 64
