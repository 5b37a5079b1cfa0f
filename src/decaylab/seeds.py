"""Seeds added to arms beyond those of replication.yaml, because claims were still undecided.

They are recorded in results/seeds/<scale>.json, so that planning, judging and reporting see the added runs like any
other. Data that the user chose instead of the replications' own have a record of their own in the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import read_json, write_json
from decaylab.locks import exclusive
from decaylab.workspace import Workspace

Seeds = Mapping[str, int]
"""arm (see `replication.arm_key`): how many seeds it has, in planned order"""


@dataclass
class Round:
    """How far the claims of a set of replications have come."""

    number: int = 0
    """how often seeds were added to them"""
    complete: bool = False
    """no claim is left that more seeds could decide"""


@dataclass
class SeedRecord:
    """What is recorded for one scale and one choice of data."""

    seeds: dict[str, dict[str, int]] = field(default_factory=dict)
    """replication: arm: number of finished seeds"""
    rounds: dict[str, Round] = field(default_factory=dict)
    """key of a set of claims: how far they have come"""


def seeds_file(workspace: Workspace) -> Path:
    return workspace.layout.results / "seeds" / f"{workspace.scale}.json"


def read_seeds(workspace: Workspace) -> SeedRecord:
    """What is recorded; empty if nothing is. Raises InputError naming a damaged file."""
    return _parse(seeds_file(workspace)).get(_data(workspace), SeedRecord())


def added_seeds(workspace: Workspace) -> dict[str, dict[str, int]]:
    """Replication: arm: number of seeds, for the arms that have more than replication.yaml says."""
    return read_seeds(workspace).seeds


@contextmanager
def changing_seeds(workspace: Workspace) -> Iterator[SeedRecord]:
    """The record, to be changed inside the block and written at its end. Other processes wait."""
    path = seeds_file(workspace)
    with exclusive(path.with_name(f".{path.name}.lock")):
        records = _parse(path)
        yield records.setdefault(_data(workspace), SeedRecord())
        write_json(path, {data: _to_json(record) for data, record in records.items()})


def _data(workspace: Workspace) -> str:
    return " ".join(f"{kind}={choice.text}" for kind, choice in sorted(workspace.choices.items()))


def _to_json(record: SeedRecord) -> dict[str, Any]:
    return {"seeds": record.seeds, "rounds": {key: vars(item) for key, item in record.rounds.items()}}


def _parse(path: Path) -> dict[str, SeedRecord]:
    if not path.exists():
        return {}
    value = read_json(path)
    try:
        return {
            data: SeedRecord(
                {name: {arm: int(count) for arm, count in arms.items()} for name, arms in record["seeds"].items()},
                {key: Round(**item) for key, item in record["rounds"].items()},
            )
            for data, record in value.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"{path}: expected added seeds of each replication; delete the file to forget them") from None
