"""CIFAR through torchvision, whose checksums are checked."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from decaylab.data.images import SPLITS, Arrays
from decaylab.data.pixels import pillow, resize
from decaylab.errors import InputError
from decaylab.sources import data_home


def read(source: str, name: str, size: int, folder: Path) -> tuple[Arrays, list[str]]:
    """Images and classes of `torchvision.datasets.<name>`, from DECAYLAB_DATA or its own host.

    Args:
        source: what error messages call it.
        size: height and width to resize to.
        folder: may hold a download for a while.

    Raises:
        InputError: torchvision is missing, the archive is damaged, or it cannot be downloaded.
    """
    try:
        from torchvision import datasets
        from torchvision.datasets.utils import check_integrity
    except ImportError:
        raise InputError(f"data source {source} needs torchvision: pip install decaylab[images]") from None
    image = pillow()
    kind = getattr(datasets, name)
    archive = data_home() / kind.filename
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root = data_home() if (data_home() / kind.base_folder).is_dir() else Path(temporary)
        here = archive.is_file() or root == data_home()
        if root == Path(temporary) and here:
            if not check_integrity(str(archive), kind.tgz_md5):
                raise InputError(f"{archive}: not the file that torchvision expects (md5 {kind.tgz_md5}); corrupt?")
            (root / kind.filename).symlink_to(archive.resolve())
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                parts = {split: kind(root, train=split == "train", download=root != data_home()) for split in SPLITS}
        except (OSError, RuntimeError) as error:
            tried = f"{archive.parent / kind.base_folder}" if here else f"{archive}, then {kind.url}"
            raise InputError(f"data source {source}: tried {tried}: {error}") from None
        if not here:
            _keep(Path(temporary) / kind.filename, archive)
    splits = {
        split: (
            np.stack([resize(image.fromarray(pixels), size) for pixels in part.data]),
            np.array(part.targets, dtype=np.int64),
        )
        for split, part in parts.items()
    }
    return splits, list(parts["train"].classes)


def _keep(download: Path, archive: Path) -> None:
    """Save a download for the next time, if the folder may be written."""
    with contextlib.suppress(OSError):
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_name(f".{archive.name}.{os.getpid()}")
        try:
            shutil.copyfile(download, partial)
            partial.replace(archive)
        finally:
            partial.unlink(missing_ok=True)
