"""Checkouts of other people's code, given by their paths."""

from __future__ import annotations

from pathlib import Path

from decaylab.errors import InputError

# a file that tells which checkout a path is
PEERS = {
    "nanogpt": "train.py",
    "epfl": "large_language_models/train.py",
    "airbench": "airbench/utils.py",
}


def find_peers(values: list[str]) -> dict[str, Path]:
    """`NAME=PATH` of each checkout. Raises InputError."""
    peers = {}
    for value in values:
        name, _, path = value.partition("=")
        if name not in PEERS or not path:
            raise InputError(f"--peer {value}: expected NAME=PATH with a NAME of {', '.join(PEERS)}")
        if not (Path(path) / PEERS[name]).is_file():
            raise InputError(f"--peer {value}: no checkout of it, since {Path(path) / PEERS[name]} is missing")
        peers[name] = Path(path).resolve()
    return peers
