"""Snakemake's lock on the working directory, after a kill."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

_held: list[Any] = []


def clear_stale_lock(folder: Path = Path(".snakemake")) -> bool:
    """Remove the lock that a killed snakemake left in this working directory. True if there was one.

    Every snakemake of this project holds a shared flock on one file until its process ends, for whatever reason. A
    process that gets the flock exclusively knows that no other one is alive, so any lock file left is stale.
    """
    folder.mkdir(exist_ok=True)
    file = open(folder / "alive", "w")  # noqa: SIM115  (held until the process ends)
    _held.append(file)
    stale: list[Path] = []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = sorted((folder / "locks").glob("*.lock"))
        for path in stale:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # another snakemake is alive; if their files clash, snakemake itself says what to do
    fcntl.flock(file, fcntl.LOCK_SH)
    return bool(stale)
