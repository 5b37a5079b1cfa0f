"""The archive of evidence: measured runs on named hardware, committed under replications/<name>/evidence/.

A record is two files named <scale>-<data>-<hardware>: a .json manifest that people can read, with everything but
curves, and a .parquet with the runs themselves. This module only reads files, so the workflow can call it cheaply;
`filing` writes records and `restoring` turns them back into a results folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.analysis.verdict import VerdictFile
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.sources import Choice
from decaylab.workspace import SCALES, Scale, Workspace

FORMAT = 2
"""of the manifest; records of format 1 have no runs and can only be quoted"""
REQUIRED = ("replication", "scale", "hardware", "data", "made_at", "runs", "runs_planned", "verdicts", "arms")

Manifest = dict[str, Any]


def folder(root: Path, name: str) -> Path:
    """Where the evidence of a replication is filed."""
    return root / "replications" / name / "evidence"


def manifest_file(record: Path) -> Path:
    """The manifest of a record, whose path is given without a suffix."""
    return record.with_name(f"{record.name}.json")


def runs_file(record: Path) -> Path:
    """The runs of a record, whose path is given without a suffix."""
    return record.with_name(f"{record.name}.parquet")


def load_evidence(root: Path, name: str) -> list[Manifest]:
    """All manifests of a replication, by file name. Raises InputError."""
    return [read_manifest(path, root) for path in sorted(folder(root, name).glob("*.json"))]


def read_manifest(path: Path, root: Path) -> Manifest:
    """One manifest. `verdicts` is a VerdictFile, and `file` its own path relative to `root`. Raises InputError."""
    value = read_json(path)
    name = path.parents[1].name
    for key in REQUIRED:
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{path}: {key}: this key is required")
    if value["replication"] != name:
        raise InputError(f"{path}: replication: expected {name}, as the folder, got {value['replication']}")
    verdicts = VerdictFile.parse(value["verdicts"], f"{path}: verdicts")
    return value | {"verdicts": verdicts, "file": path.relative_to(root).as_posix()}


def filed_names(root: Path) -> dict[str, list[str]]:
    """Name of each record that has runs: the replications that it is filed under. Both sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted((root / "replications").glob("*/evidence/*.parquet")):
        found.setdefault(path.stem, []).append(path.parents[1].name)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Origin:
    """The record that a results folder was restored from."""

    name: str
    """<scale>-<data>-<hardware>"""
    scale: Scale
    choices: dict[str, Choice]
    """data sources in place of the replications' own"""
    filed: dict[str, dict[str, Any]]
    """replication: file, hardware, data, commits, made_at, runs_planned and thinned of its manifest; runs, a number"""

    def workspace(self, layout: Layout, root: Path) -> Workspace:
        """The workspace in which the restored runs are judged and shown."""
        return Workspace(root, self.scale, layout, self.choices)


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
    """Choices from JSON. Raises KeyError, TypeError or AttributeError if it has none."""
    return {kind: Choice(item["source"], item["sha256"]) for kind, item in value.items()}
