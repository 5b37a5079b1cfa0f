"""The short form of `python -m tests.faults`: nothing is lost and nothing is wrong."""

from __future__ import annotations

import signal

import pytest

from tests.faults.harness import Harness


@pytest.fixture(scope="module")
def harness(tmp_path_factory) -> Harness:
    return Harness(tmp_path_factory.mktemp("faults"), steps=40)


def clean(outcome) -> None:
    assert outcome.times
    assert (outcome.lost, outcome.wrong, outcome.problems) == (0, 0, [])


def test_kills(harness):
    clean(harness.kills(signal.SIGKILL, 4))
    clean(harness.kills(signal.SIGTERM, 2))


@pytest.mark.parametrize("fault", ["crash", "full_disk", "no_locks", "clock"])
def test_a_process_that_breaks(harness, fault):
    clean(harness.broken(fault, 1, getattr(harness, fault)))


@pytest.mark.parametrize("kind", ["checkpoint", "data", "snapshot", "metrics", "summary"])
def test_one_wrong_bit(harness, kind):
    clean(harness.damage(kind, "bit flipped in", 1))


def test_a_truncated_file_is_named(harness):
    outcome = harness.damage("metrics", "truncated", 1)
    clean(outcome)
    assert "metrics.parquet: damaged" in outcome.message


def test_a_folder_that_cannot_be_written_to(harness):
    clean(harness.read_only(1))


def test_two_at_once(harness):
    clean(harness.two_at_once(1))
