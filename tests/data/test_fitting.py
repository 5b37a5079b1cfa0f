"""Prepared data that are too small for a run are refused with the words that name the setting."""

import pytest

from decaylab.data.fitting import check_fit
from decaylab.errors import InputError
from decaylab.spec import parse_spec

COMMON = {
    "decay": {},
    "steps": 10,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "evaluation": {"every": 10, "log_every": 10, "train_examples": 4, "examples": 4},
    "seed": 0,
}
IMAGES = {"examples": {"train": 20, "test": 10}}
TEXT = {"tokens": {"train": 1001, "validation": 50, "test": 60}}


def images(batch_size: int = 5, **data):
    model = {"kind": "mlp", "width": 4}
    return parse_spec(
        {"data": {"kind": "images", "source": "zoo"} | data, "model": model, **COMMON, "batch_size": batch_size}, "x"
    )


def text(context_length: int = 8, batch_size: int = 2, **data):
    model = {"kind": "gpt", "layers": 1, "heads": 1, "width": 8, "context_length": context_length}
    return parse_spec(
        {"data": {"kind": "text", "source": "zoo"} | data, "model": model, **COMMON, "batch_size": batch_size}, "x"
    )


@pytest.mark.parametrize(
    ("spec", "about"),
    [
        (images(), IMAGES),
        (images(train_examples=20, test_examples=10, batch_size=20), IMAGES),
        (images(source="procedural", train_examples=4, test_examples=4, fresh=True, batch_size=90), IMAGES),
        (text(context_length=49, train_tokens=1001), TEXT),
        (text(context_length=10, batch_size=10, order="one_pass"), TEXT),
    ],
)
def test_enough(spec, about):
    check_fit(spec, about)


@pytest.mark.parametrize(
    ("spec", "about", "message"),
    [
        (images(train_examples=128), IMAGES, r"data\.train_examples 128, found 20"),
        (images(test_examples=11), IMAGES, r"data\.test_examples 11, found 10"),
        (images(train_examples=4), IMAGES, r"batch_size 5, found 4 training images"),
        (images(batch_size=21), IMAGES, r"batch_size 21, found 20 training images"),
        (text(train_tokens=1002), TEXT, r"data\.train_tokens 1002, found 1001"),
        (text(context_length=50), TEXT, r"context_length 50, found 50 tokens in validation"),
        (text(train_tokens=8), TEXT, r"context_length 8, found 8 tokens in train"),
        (
            text(context_length=10, batch_size=11, order="one_pass"),
            TEXT,
            r"one pass of 10 steps of 11, found 100 windows",
        ),
    ],
)
def test_too_small(spec, about, message):
    with pytest.raises(InputError, match=rf"^zoo is too small for \S+: {message}$"):
        check_fit(spec, about)
