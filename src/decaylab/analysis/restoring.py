"""Restore filed evidence: turn records of the archive back into a results folder.

Whatever judges and shows runs works on a restored folder as on any other.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from decaylab.analysis import preregistration
from decaylab.analysis.archive import (
    FORMAT,
    Manifest,
    filed_names,
    folder,
    manifest_file,
    read_choices,
    read_manifest,
    runs_file,
)
from decaylab.analysis.judge import judge
from decaylab.analysis.results import RunResult, load_run
from decaylab.analysis.run_table import restore_table
from decaylab.analysis.verdict import VerdictFile
from decaylab.errors import InputError
from decaylab.files import Layout, write_json
from decaylab.replication import Replication, load_replication, record_seeds, replication_file
from decaylab.workspace import Workspace

SHOWN = ("file", "hardware", "data", "commits", "made_at", "runs_planned", "thinned")
"""what a restored folder keeps of each manifest"""


def restore(name: str, layout: Layout, root: Path) -> list[str]:
    """Restore the runs of all records of that name into one results folder; returns the replications.

    An earlier restoration there is replaced. Claims keep their times of registration. Verdicts and pages are not
    restored; they are made from the runs.

    Raises:
        InputError: there is no such record, it is damaged, or the folder has results of its own.
    """
    filed = filed_names(root)
    if name not in filed:
        raise InputError(
            f"evidence {name!r}: expected one of {', '.join(filed) or 'those filed with their runs: none'}"
        )
    trained = not layout.origin.exists() or layout.state("").exists()
    if layout.results.exists() and any(layout.results.iterdir()) and trained:
        raise InputError(f"{layout.results}: has results of its own; evidence is restored into a folder for itself")
    manifests: dict[str, Manifest] = {}
    layout.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.results.parent) as scratch:
        whole = Layout(Path(scratch) / "whole")
        for rep in filed[name]:
            record = folder(root, rep) / name
            one = Layout(Path(scratch) / rep)
            manifests[rep] = restore_record(record, one, root)
            for run in manifests[rep]["runs"]:
                copy_run(load_run(one, run["run_id"]), str(manifest_file(record)), whole, replace=False)
            preregistration.merge(whole, preregistration.registered(one).values())
        _write_origin(name, manifests, whole)
        for rep, manifest in manifests.items():
            workspace = Workspace(root, manifest["scale"], whole, read_choices(manifest["choices"]))
            replication = load_replication(replication_file(root, rep))
            record_seeds(replication, workspace, [run["run_id"] for run in manifest["runs"]])
        shutil.rmtree(layout.results, ignore_errors=True)
        whole.results.rename(layout.results)
    return list(manifests)


def restored_verdicts(rep: Replication, name: str, workspace: Workspace) -> VerdictFile:
    """Verdicts of a replication in a restored workspace.

    They are judged anew from the runs, unless the record was judged under an earlier rule: it was preregistered under
    that rule and planned for it, so its own verdicts stand, with a note.

    Raises:
        InputError: the record or a restored run is damaged.
    """
    filed: VerdictFile = read_manifest(manifest_file(folder(workspace.root, rep.name) / name), workspace.root)[
        "verdicts"
    ]
    old = any(claim.rule_note for claim in filed.claims)
    return filed if old else judge(rep, workspace)


def _write_origin(name: str, manifests: dict[str, Manifest], layout: Layout) -> None:
    first = next(iter(manifests.values()))
    settings = ("scale", "choices")
    if any(manifest[key] != first[key] for manifest in manifests.values() for key in settings):
        raise InputError(f"evidence {name}: its replications have runs at different scales or on different data")
    filed = {
        rep: {key: manifest[key] for key in SHOWN} | {"runs": len(manifest["runs"])}
        for rep, manifest in manifests.items()
    }
    write_json(layout.origin, {"name": name, "scale": first["scale"], "choices": first["choices"], "filed": filed})


def restore_record(record: Path, layout: Layout, root: Path) -> Manifest:
    """Restore the runs and registered claims of one record into an empty results folder; returns its manifest.

    Raises:
        InputError: the record is damaged, or was filed without its runs.
    """
    manifest_path, runs_path = manifest_file(record), runs_file(record)
    manifest = read_manifest(manifest_path, root)
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{manifest_path}: filed without its runs (format {manifest.get('format', 1)}); remove it, file again"
        )
    try:
        content = runs_path.read_bytes()
    except OSError as error:
        raise InputError(f"{runs_path}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != manifest.get("sha256"):
        raise InputError(f"{runs_path}: is not the file that {manifest_path.name} was filed with")
    try:
        read_choices(manifest["choices"])
        preregistration.merge(layout, manifest["registered"])
        filed = sorted(run["run_id"] for run in manifest["runs"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(f"{manifest_path}: expected choices, registered and runs, as they were filed") from None
    with errors_name(runs_path, layout):
        if sorted(restore_table(content, layout, "table")) != filed:
            raise InputError(f"has other runs than {manifest_path.name}")
        for run_id in filed:
            load_run(layout, run_id)
    return manifest


def copy_run(run: RunResult, where: str, layout: Layout, replace: bool) -> None:
    """Copy a run into a results folder; a run that is there already must be the same. Raises InputError."""
    if layout.summary(run.run_id).exists() and not replace:
        there = load_run(layout, run.run_id)
        ours, theirs = ({"diverged_at_step": item.diverged_at_step} | item.final for item in (there, run))
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                raise InputError(
                    f"{where}: run {run.run_id}: is there already with another {name}, {ours.get(name)} and not "
                    f"{theirs.get(name)}; --replace takes the new numbers"
                )
        return
    layout.run(run.run_id).mkdir(parents=True, exist_ok=True)
    write_json(layout.summary(run.run_id), run.summary)
    run.metrics.to_parquet(layout.metrics(run.run_id), index=False)


@contextmanager
def errors_name(path: Path, layout: Layout) -> Iterator[None]:
    """Make errors name a pack or record instead of the folder into which it was unpacked."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: " + str(error).replace(f"{layout.results}/", "")) from None
