"""Data: prepared once below results/data/, then drawn batch by batch as a pure function of (seed, step).

Nothing here imports torch until a data set is prepared or loaded, so a workflow can ask for keys cheaply.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from decaylab import plugins
from decaylab.data.base import Dataset
from decaylab.errors import InputError
from decaylab.files import Layout, sha256_json
from decaylab.sources import Choice, source_of
from decaylab.spec import Data

if TYPE_CHECKING:
    import torch

__all__ = ["Dataset", "load", "prepare", "prepared_key"]

# Raised when the same source would be prepared into other bytes, so that old folders are not reused.
_FORMAT = {"images": 1, "text": 2}


def prepared_key(data: Data) -> str:
    """Name of the prepared folder: a readable part, and a hash of the fields that decide its content.

    What is decided when batches are drawn (subsets of files, order, augmentation) is not part of it.
    """
    about = source_of(data.kind, data.source)
    fields: dict[str, Any] = {"format": _FORMAT[data.kind], "kind": data.kind, "source": data.source}
    if about.generated:
        detail = f"{data.image_size}px-{data.train_examples}"
    elif data.kind == "text":
        fields |= {"sha256": data.sha256, "tokenizer": data.tokenizer}
        detail = data.tokenizer
    else:
        fields |= {"sha256": data.sha256, "image_size": data.image_size}
        detail = f"{data.image_size}px"
    if about.reader_version > 1:
        fields["reader_version"] = about.reader_version
    for name in about.key_fields:
        fields[name] = platform.python_version() if name == "python" else getattr(data, name)
    source = re.sub(r"[^A-Za-z0-9]+", "-", data.source)[:40].strip("-")
    return f"{data.kind}-{source}-{detail}-{sha256_json(fields)[:10]}"


def prepare(data: Data, layout: Layout, choice: Choice | None = None) -> Path:
    """Make the prepared folder of `data` unless it is there; return it.

    Safe when several processes do it at once: one builds, the others wait for it. The folder has `meta.json`
    (source, counts, classes or vocabulary, licence, `data_sha256` of the content) and the arrays, if any.

    Raises:
        InputError: the source is missing, unreadable, corrupt, unsafe or not what its sha256 says.
    """
    from decaylab.data import store

    folder = layout.prepared(prepared_key(data))
    return store.build(folder, data, choice, _plugin(data).prepare)


def load(
    data: Data,
    layout: Layout,
    device: torch.device,
    *,
    batch_size: int,
    seed: int,
    context_length: int | None = None,
    choice: Choice | None = None,
) -> Dataset:
    """The data set ready to be drawn from on `device`, prepared first if needed.

    Args:
        batch_size: images, or windows of context_length tokens, in a batch.
        seed: decides the order, augmentation and fresh images; never the evaluation examples.
        context_length: tokens in a window; text only, and needed there.

    Raises:
        InputError: as `prepare`; or more examples or tokens are asked for than there are.
    """
    folder = prepare(data, layout, choice)
    sizes: dict[str, int] = {"batch_size": batch_size}
    if data.kind == "text":
        if context_length is None:
            raise InputError(f"data {data.source}: text needs a model with a context_length")
        sizes["context_length"] = context_length
    return _plugin(data).Prepared(data, folder, device, seed=seed, **sizes)


def _plugin(data: Data) -> ModuleType:
    return plugins.load("data/sources", source_of(data.kind, data.source).name)
