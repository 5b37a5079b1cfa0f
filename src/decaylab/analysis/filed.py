"""Evidence that is filed under replications/<name>/evidence/: where it lies and what it says of itself.

Two files of one name, <scale>-<data>-<hardware>: a .json to be read by people, with everything but curves, and a
.parquet with the runs themselves. Only files are looked at here, so that a workflow may ask cheaply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.sources import Choice
from decaylab.workspace import SCALES

FORMAT = 2
"""of the .json; files of format 1 have no runs beside them and can only be quoted"""
REQUIRED = ("replication", "scale", "hardware", "data", "made_at", "runs", "runs_planned", "verdicts", "arms")


def folder(root: Path, name: str) -> Path:
    return root / "replications" / name / "evidence"


def load_evidence(root: Path, name: str) -> list[dict[str, Any]]:
    """All evidence of a replication, by file name, each with its `file` relative to `root`. Raises InputError."""
    return [read_evidence_file(path, root) for path in sorted(folder(root, name).glob("*.json"))]


def read_evidence_file(path: Path, root: Path) -> dict[str, Any]:
    """One .json of evidence, with its `file` relative to `root`. Raises InputError."""
    value = read_json(path)
    name = path.parents[1].name
    for key in REQUIRED:
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{path}: {key}: this key is required")
    if value["replication"] != name:
        raise InputError(f"{path}: replication: expected {name}, as the folder, got {value['replication']}")
    return value | {"file": path.relative_to(root).as_posix()}


def filed_names(root: Path) -> dict[str, list[str]]:
    """Name of each evidence that has its runs: the replications that have it, both sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "replications").glob("*/evidence/*.parquet")):
        found.setdefault(path.stem, []).append(path.parents[1].name)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Origin:
    """What a results folder was restored from."""

    name: str
    """<scale>-<data>-<hardware>"""
    scale: str
    choices: dict[str, Choice]
    """data sources in place of the replications' own"""
    filed: dict[str, dict[str, Any]]
    """replication: the head of its evidence: file, hardware, data, commits, made_at, runs_planned, runs (a number)"""


def read_origin(layout: Layout) -> Origin | None:
    """The origin of a results folder, or None if its runs were made there. Raises InputError if it is damaged."""
    if not layout.origin.exists():
        return None
    value = read_json(layout.origin)
    try:
        origin = Origin(value["name"], value["scale"], read_choices(value["choices"]), value["filed"])
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{layout.origin}: expected name, scale, choices and filed") from None
    if origin.scale not in SCALES:
        raise InputError(f"{layout.origin}: scale: expected one of {', '.join(SCALES)}, got {origin.scale!r}")
    return origin


def write_choices(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Choices as JSON."""
    return {kind: choice.fields() for kind, choice in sorted(choices.items())}


def read_choices(value: Mapping[str, Any]) -> dict[str, Choice]:
    """Choices from JSON; KeyError or TypeError if it is none."""
    return {kind: Choice(item["source"], item["sha256"]) for kind, item in value.items()}
