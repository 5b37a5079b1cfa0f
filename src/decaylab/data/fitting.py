"""Whether prepared data hold what a run asks for: said once they are prepared, not when the run starts."""

from __future__ import annotations

from typing import Any

from decaylab.errors import InputError
from decaylab.spec import RunSpec


def check_fit(spec: RunSpec, about: dict[str, Any]) -> None:
    """Raise InputError if a run asks for more than there is.

    Args:
        about: the meta.json of its prepared data.
    """
    where = f"{spec.data.source} is too small for {spec.run_id}"
    if spec.data.kind == "images":
        _check_images(spec, about, where)
    else:
        _check_text(spec, about, where)


def _check_images(spec: RunSpec, about: dict[str, Any], where: str) -> None:
    there = about["examples"]
    for split, wanted in (("train", spec.data.train_examples), ("test", spec.data.test_examples)):
        if wanted is not None and wanted > there[split]:
            raise InputError(f"{where}: data.{split}_examples {wanted}, found {there[split]}")
    images = spec.data.train_examples or there["train"]
    # images that are drawn anew in each step have no end
    if not spec.data.fresh and spec.batch_size > images:
        raise InputError(f"{where}: batch_size {spec.batch_size}, found {images} training images")


def _check_text(spec: RunSpec, about: dict[str, Any], where: str) -> None:
    there = dict(about["tokens"])
    if spec.data.train_tokens is not None:
        if spec.data.train_tokens > there["train"]:
            raise InputError(f"{where}: data.train_tokens {spec.data.train_tokens}, found {there['train']}")
        there["train"] = spec.data.train_tokens
    length = spec.model.context_length
    for split, tokens in there.items():
        if tokens <= length:
            raise InputError(f"{where}: context_length {length}, found {tokens} tokens in {split}")
    windows = (there["train"] - 1) // length
    if spec.data.order == "one_pass" and spec.steps * spec.batch_size > windows:
        raise InputError(f"{where}: one pass of {spec.steps} steps of {spec.batch_size}, found {windows} windows")
