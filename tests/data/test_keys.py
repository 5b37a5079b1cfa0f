"""Names of prepared folders stay what they were: results and evidence were made from these."""

import platform

import pytest

from decaylab.data import prepared_key
from decaylab.spec import ImageData, TextData

DIGEST = "0123456789abcdef" * 4
KEYS = [
    (ImageData(train_examples=1000, test_examples=500), "images-procedural-16px-1000-6cd8afaca7"),
    (
        ImageData(
            train_examples=5000,
            test_examples=2000,
            image_size=32,
            classes=5,
            clutter=1.0,
            noise=0.1,
            subset_seed=3,
            fresh=True,
            augmentation="flip_translate",
        ),
        "images-procedural-32px-5000-5c87b3388d",
    ),
    (ImageData(source="cifar10"), "images-cifar10-16px-fc6dfc7e30"),
    (ImageData(source="cifar10", image_size=32, train_examples=100), "images-cifar10-32px-ff1e85049f"),
    (ImageData(source="cifar100", image_size=32), "images-cifar100-32px-1bb21d58cd"),
    (
        ImageData(source="cifar10-images.tar.xz", sha256=DIGEST, image_size=16),
        "images-cifar10-images-tar-xz-16px-f3e96c71f3",
    ),
    (ImageData(source="zoo"), "images-zoo-16px-3f991e6fc3"),
    (TextData(), "text-stdlib-bytes-6c18a9c1a2"),
    (TextData(tokenizer="gpt2", train_tokens=5), "text-stdlib-gpt2-be5c137ed8"),
    (TextData(source="openwebtext", tokenizer="gpt2"), "text-openwebtext-gpt2-52decbd52b"),
    (TextData(source="fineweb"), "text-fineweb-bytes-afef9ccafb"),
    (
        TextData(source="books-1.tar.xz+books-2.tar.xz", sha256=DIGEST, tokenizer="gpt2"),
        "text-books-1-tar-xz-books-2-tar-xz-gpt2-e82605f38c",
    ),
    (
        TextData(source="tinyshakespeare.txt", sha256=DIGEST, order="one_pass"),
        "text-tinyshakespeare-txt-bytes-36d1eeceb1",
    ),
]


@pytest.mark.parametrize(("data", "key"), KEYS, ids=[key for _, key in KEYS])
def test_keys_are_those_of_commit_bd71bb5(data, key, monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.7")
    assert prepared_key(data) == key
