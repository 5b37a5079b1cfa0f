"""What a finished run leaves: records in its state folder, linked into the results.

The workflow may delete results without losing a training: the same call puts them back from the records.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import DIGESTS, Layout, atomic_path, check_digest, read_json, sha256_json
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
    done = layout.state(spec.run_id) / "done.json"
    if not all(path.exists() for path in (done, *(record for record, _ in files))):
        return None
    try:
        if read_json(done) != key:
            return None
        for record, _ in files:
            check_digest(record, "the run is trained again")
        return read_json(files[-1][0])
    except InputError as error:
        print(f"decaylab: {error}", file=sys.stderr)
        return None


def publish(spec: RunSpec, layout: Layout) -> None:
    """Link the records to their places in the results, their digests last."""
    files = _kept_files(spec, layout)
    digests = [path.with_name(DIGESTS) for path in files[-1]]
    if digests[0].exists() and not (digests[1].exists() and os.path.samefile(*digests)):
        digests[1].unlink(missing_ok=True)
        files.append((digests[0], digests[1]))
    for record, place in files:
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
