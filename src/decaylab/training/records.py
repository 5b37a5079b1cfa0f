"""What a finished run leaves: records in its state folder, linked into the results.

The workflow may delete results without losing a training: the same call puts them back from the records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, read_json, sha256_json
from decaylab.spec import RunSpec


def checkpoint_path(specs: Sequence[RunSpec], layout: Layout) -> Path:
    """The checkpoint of one run, or of several that are trained together."""
    names = [spec.run_id for spec in specs]
    name = names[0] if len(names) == 1 else f"together-{sha256_json(names)[:16]}"
    return layout.state(name) / "checkpoint.pt"


def snapshot_record(spec: RunSpec, layout: Layout, step: int) -> Path:
    return layout.state(spec.run_id) / layout.snapshot(spec.run_id, step).name


def finished(spec: RunSpec, layout: Layout, key: dict[str, str]) -> dict[str, Any] | None:
    """The summary of a run whose records are complete and of this spec and code, else None."""
    files = _kept_files(spec, layout)
    if not all(record.exists() for record, _ in files):
        return None
    try:
        done = read_json(layout.state(spec.run_id) / "done.json")
        return read_json(files[-1][0]) if done == key else None
    except InputError:
        return None


def publish(spec: RunSpec, layout: Layout) -> None:
    """Link the records to their places in the results."""
    for record, place in _kept_files(spec, layout):
        if place.exists() and os.path.samefile(record, place):
            continue
        with atomic_path(place) as temporary:  # several processes may do this at once
            temporary.unlink()
            try:
                os.link(record, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(record, temporary)


def _kept_files(spec: RunSpec, layout: Layout) -> list[tuple[Path, Path]]:
    """(record in the state folder, place in the results) of everything a finished run leaves."""
    places = [layout.metrics(spec.run_id), *(layout.snapshot(spec.run_id, step) for step in spec.snapshots)]
    places.append(layout.summary(spec.run_id))
    return [(layout.state(spec.run_id) / place.name, place) for place in places]
