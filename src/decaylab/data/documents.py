"""Where documents come from: Python's standard library, the Hugging Face hub, or the user's files."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from decaylab.data.archives import contents, is_archive
from decaylab.errors import InputError

HUB = {
    "openwebtext": ("Skylion007/openwebtext", None),
    "fineweb": ("HuggingFaceFW/fineweb", "sample-10BT"),
}
"""repository and configuration"""
SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex", ".py")
_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"}


def standard_library() -> Iterator[str]:
    """Python sources of the standard library: no tests, no installed packages, no file that names this machine."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = False
    for _, content in contents(root, _is_library):
        found = True
        yield _decode(content)
    if not found:
        raise InputError(f"data source stdlib: no Python sources in {root}; give a text of your own with --text")


def _is_library(name: str) -> bool:
    return name.endswith(".py") and _NOT_LIBRARY.isdisjoint(name.split("/")) and not name.startswith("_sysconfigdata")


def hub(source: str) -> Iterator[str]:
    """Documents of `openwebtext` or `fineweb`, streamed."""
    try:
        import datasets
    except ImportError:
        raise InputError(f"data source {source} needs Hugging Face datasets: pip install decaylab[hub]") from None
    repository, configuration = HUB[source]
    try:
        for row in datasets.load_dataset(repository, name=configuration, split="train", streaming=True):
            yield row["text"]
    except Exception as error:  # network, authentication, cache: the library raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"data source {source}: cannot be read from huggingface.co/{repository}: {reason}") from None


def local(paths: Iterable[Path]) -> Iterator[str]:
    """Documents of the user's archives, folders and files, in this order. Raises InputError if there are none."""
    paths = tuple(paths)
    found = False
    for path in paths:
        if path.is_dir() or is_archive(path):
            documents = (content for _, content in contents(path, lambda name: name.lower().endswith(SUFFIXES)))
        else:
            documents = iter([_read(path)])
        for content in documents:
            found = True
            yield _decode(content)
    if not found:
        raise InputError(f"{' + '.join(map(str, paths))}: no files ending in {' '.join(SUFFIXES)}")


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if b"\0" in content[:8192]:
        raise InputError(f"{path}: expected text, or an archive (.tar, .tar.gz, .tar.xz, .tar.bz2, .zip)")
    return content


def _decode(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
