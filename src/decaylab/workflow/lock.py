"""Snakemake's lock on the working directory, after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from decaylab.locks import hold_shared, open_lock, try_exclusive

_held: list[Any] = []


def clear_stale_lock(folder: Path = Path(".snakemake")) -> bool:
    """Remove the lock that a killed snakemake left in this working directory. True if there was one.

    Every snakemake of this project holds a shared lock on one file until its process ends, for whatever reason. A
    process that gets it exclusively knows that no other one is alive, so any lock file left is stale. Where the file
    system has no locks, nothing is removed, and snakemake itself says what to do (`--unlock`).
    """
    file = open_lock(folder / "alive")
    _held.append(file)
    stale: list[Path] = []
    if try_exclusive(file):
        stale = sorted((folder / "locks").glob("*.lock"))
        for path in stale:
            path.unlink(missing_ok=True)
    hold_shared(file)
    return bool(stale)
