"""Locks between processes, on file systems of every kind. The system frees a lock when its process ends.

NFS turns flock into a lock of bytes, which asks for a file opened for reading if it is shared and for writing if it is
exclusive, so files are opened for both. Some file systems (Lustre without `-o flock`, some in user space) have no
locks at all; there, processes go on without one. Every file is written whole or not at all, so what can be lost is
work that two processes do twice. docs/reliability.md says more.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}


def open_lock(path: Path) -> IO[Any]:
    """The lock file of that path, made if it is missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "a+")


def wait_exclusive(file: IO[Any]) -> bool:
    """Wait until no other process has the lock. False where the file system has no locks."""
    return _flock(file, fcntl.LOCK_EX)


def hold_shared(file: IO[Any]) -> bool:
    """Hold the lock together with others. False where the file system has no locks."""
    return _flock(file, fcntl.LOCK_SH)


def try_exclusive(file: IO[Any]) -> bool:
    """Whether the lock is now ours alone. False where somebody else has it, or there are no locks."""
    try:
        return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """One process at a time in this block; others wait. Yields False where the file system has no locks."""
    with open_lock(path) as file:
        yield wait_exclusive(file)


def _flock(file: IO[Any], operation: int) -> bool:
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True
