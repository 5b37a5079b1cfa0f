"""A pack: the finished runs of one machine in one small file that travels.

A zip of three members: the manifest `pack.json` (scale, data, commit, time), `claims.jsonl` (when claims were
registered there) and `runs.parquet` (see run_table). It has no snapshots: to start from one, train its parent again.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from decaylab.analysis.archive import read_choices, write_choices
from decaylab.analysis.results import load_runs
from decaylab.analysis.run_table import restore_table, to_table, write_table
from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, git_commit
from decaylab.limits import Allowance
from decaylab.replication import PlannedRun
from decaylab.sources import Choice
from decaylab.workspace import SCALES, Scale, Workspace

FORMAT = 1
MANIFEST, CLAIMS, RUNS = "pack.json", "claims.jsonl", "runs.parquet"
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""what zipfile raises for damage, truncation, a password, an unknown compression, or text that is not UTF-8"""


@dataclass(frozen=True)
class Pack:
    """What a pack says of its runs."""

    scale: Scale
    choices: dict[str, Choice]
    run_ids: list[str]


def write_pack(path: Path, planned: Mapping[str, PlannedRun], workspace: Workspace) -> int:
    """Pack the planned runs that have finished; returns how many. If there are none, nothing is written.

    Raises:
        InputError: a result is damaged.
    """
    layout = workspace.layout
    runs = load_runs(layout, [(run.spec, {}) for run in planned.values()]).runs
    if not runs:
        return 0
    manifest = {
        "format": FORMAT,
        "scale": workspace.scale,
        "choices": write_choices(workspace.choices),
        "runs": len(runs),
        "commit": git_commit(workspace.root),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
        archive.writestr(CLAIMS, layout.claims.read_bytes() if layout.claims.exists() else b"")
        # parquet is compressed already
        table = write_table(to_table(runs[run_id] for run_id in sorted(runs)))
        archive.writestr(RUNS, table, compress_type=zipfile.ZIP_STORED)
    return len(runs)


def read_pack(path: Path, layout: Layout) -> Pack:
    """Restore a pack's runs and claims into an empty results folder; nothing else of it is written to disk.

    Raises:
        InputError: no such file, not a pack, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(archive.namelist())
            if names != sorted((MANIFEST, CLAIMS, RUNS)):
                odd = next((name for name in names if name not in (MANIFEST, CLAIMS, RUNS)), None)
                what = f"got {odd!r}" if odd else "one is missing, or stands twice"
                raise InputError(f"{path}: expected a pack with members {MANIFEST}, {CLAIMS} and {RUNS}; {what}")
            Allowance(path.stat().st_size).take(sum(member.file_size for member in archive.infolist()))
            manifest, claims, runs = archive.read(MANIFEST), archive.read(CLAIMS).decode(), archive.read(RUNS)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGE as error:
        raise InputError(f"{path}: not a pack, or a damaged one ({error})") from None
    scale, choices = _read_manifest(manifest, f"{path}: {MANIFEST}")
    layout.results.mkdir(parents=True, exist_ok=True)
    layout.claims.write_text(claims, encoding="utf-8")
    return Pack(scale, choices, restore_table(runs, layout, f"{path}: {RUNS}"))


def _read_manifest(content: bytes, where: str) -> tuple[Scale, dict[str, Choice]]:
    try:
        manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise InputError(f"{where}: format: expected {FORMAT}, got {manifest['format']!r}")
        scale, choices = manifest["scale"], read_choices(manifest["choices"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{where}: expected JSON with format, scale and choices") from None
    if scale not in SCALES:
        raise InputError(f"{where}: scale: expected one of {', '.join(SCALES)}, got {scale!r}")
    return scale, choices
