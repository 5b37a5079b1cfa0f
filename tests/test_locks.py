"""Locks on NFS, which asks for the right mode of opening, and where there are none at all."""

import errno
import fcntl
import os

import pytest

from decaylab import locks
from decaylab.files import Layout
from decaylab.seeds import Round, changing_seeds, read_seeds
from decaylab.workflow import lock as stale
from decaylab.workspace import Workspace


def nfs(file, operation: int) -> None:
    """flock as Linux emulates it on NFS: a lock of all bytes, shared only for readers, exclusive only for writers."""
    mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
    wrong = os.O_WRONLY if operation & fcntl.LOCK_SH else os.O_RDONLY
    if mode == wrong:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    fcntl.lockf(file, operation)


def without(number: int):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


FLOCKS = {"nfs": nfs, "no locks": without(errno.ENOSYS), "not supported": without(errno.EOPNOTSUPP)}


@pytest.fixture(params=FLOCKS)
def file_system(request, monkeypatch) -> str:
    monkeypatch.setattr(locks.fcntl, "flock", FLOCKS[request.param])
    return request.param


def test_a_block_is_entered_on_every_file_system(file_system, tmp_path):
    with locks.exclusive(tmp_path / "new" / "lock") as alone:
        assert alone is (file_system == "nfs")


def test_the_workflow_starts_on_every_file_system(file_system, tmp_path, monkeypatch):
    monkeypatch.setattr(stale, "_held", held := [])
    left = tmp_path / "locks" / "0.input.lock"
    left.parent.mkdir()
    left.touch()
    assert stale.clear_stale_lock(tmp_path) is (file_system == "nfs")
    assert left.exists() is (file_system != "nfs"), "without locks nobody knows whether it is stale"
    held[-1].close()


def test_seeds_are_recorded_on_every_file_system(file_system, tmp_path):
    space = Workspace(tmp_path, "laptop", Layout(tmp_path))
    with changing_seeds(space) as record:
        record.rounds["key"] = Round(1, True)
    assert read_seeds(space).rounds == {"key": Round(1, True)}


def test_another_process_is_not_taken_for_a_file_system_without_locks(tmp_path):
    with locks.open_lock(tmp_path / "lock") as first, locks.open_lock(tmp_path / "lock") as second:
        assert locks.hold_shared(first)
        assert not locks.try_exclusive(second)
    with locks.open_lock(tmp_path / "lock") as third:
        assert locks.try_exclusive(third)


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", without(errno.EIO))
    with locks.open_lock(tmp_path / "lock") as file, pytest.raises(OSError, match="Input/output"):
        locks.wait_exclusive(file)
