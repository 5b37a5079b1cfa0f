"""File evidence: check runs from a results folder or from packs, and write them to the archive."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.analysis import preregistration
from decaylab.analysis.archive import Manifest, folder, manifest_file, runs_file
from decaylab.analysis.manifest import distinct, make_manifest, metrics_read
from decaylab.analysis.pack import read_pack
from decaylab.analysis.restoring import copy_run, errors_name, restore_record
from decaylab.analysis.results import RunResult, load_run, load_runs
from decaylab.analysis.run_table import thin, to_table, write_table
from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, git_commit, write_json
from decaylab.replication import Replication, expand, expand_here, plan_runs, record_seeds, seeds_of, select
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale, Workspace

BUDGET = 400_000
"""bytes of a .parquet above which curves that no claim reads are thinned"""
THINNEST = 64

Located = tuple[str, RunResult]
"""a run and the pack or folder that it comes from"""
Lines = Iterable[dict[str, Any]]
"""of a registry of claims"""


@dataclass(frozen=True)
class _Record:
    """A record of one replication, composed but not yet written."""

    path: Path
    """without a suffix"""
    manifest: Manifest
    runs: bytes

    def write(self) -> Path:
        # the manifest has the digest of the runs, so a pair that does not belong together is found out
        with atomic_path(runs_file(self.path)) as temporary:
            temporary.write_bytes(self.runs)
        write_json(manifest_file(self.path), self.manifest)
        return manifest_file(self.path)


def collect(rep: Replication, workspace: Workspace, replace: bool = False) -> Path:
    """File the finished runs of a replication that lie in the workspace's results.

    Args:
        replace: take the new numbers where a run is already filed with others.

    Returns:
        the path of the manifest.

    Raises:
        InputError: there are no results at this scale, a result is damaged, or a run is filed with other numbers.
    """
    layout, scale = workspace.layout, workspace.scale
    planned = [(spec, parameters) for spec, parameters, _ in expand_here(rep, workspace)]
    found = load_runs(layout, planned).runs
    if not found:
        raise InputError(f"{layout.results}: no run of {rep.name} at {scale} scale; run `snakemake {rep.name}` first")
    with errors_name(layout.results, layout):
        for run in found.values():
            _check(run)
    runs = [(str(layout.results), run) for run in found.values()]
    with tempfile.TemporaryDirectory() as stage:
        lines = preregistration.registered(layout).values()
        staged = Workspace(workspace.root, scale, Layout(Path(stage)), workspace.choices)
        return _compose(rep, staged, runs, lines, replace).write()


@dataclass(frozen=True)
class _Unpacked:
    """A pack whose runs and registry were restored into a scratch folder."""

    path: Path
    layout: Layout
    run_ids: list[str]


def add(
    packs: Iterable[Path], root: Path, replace: bool = False, code: Callable[[RunSpec], str] | None = None
) -> list[Path]:
    """Check the runs of packs and file them for each replication that plans them, with the runs already filed.

    Packs that are given together are filed together, whatever hardware made them.

    Args:
        replace: take the packs' numbers where a run is already filed with others.
        code: digest of the code that this clone would execute for a spec. A run whose machine had no git has no
            commit; if its digest is this one, it was made by the code of this clone's commit.

    Returns:
        the paths of the manifests.

    Raises:
        InputError: a pack or a run in it is damaged or incomplete, no replication plans a run, or a run is filed
            with other numbers. Nothing has been written then.
    """
    reps = select(root, "all")
    together: dict[tuple[Scale, tuple[tuple[str, Choice], ...]], list[_Unpacked]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(packs):
            layout = Layout(Path(scratch) / f"pack-{number}")
            pack = read_pack(path, layout)
            key = pack.scale, tuple(sorted(pack.choices.items()))
            together.setdefault(key, []).append(_Unpacked(path, layout, pack.run_ids))
        records: list[_Record] = []
        for (scale, items), group in together.items():
            choices = dict(items)
            ids = {run_id for unpacked in group for run_id in unpacked.run_ids}
            seeds = {rep.name: seeds_of(rep, scale, choices, ids) for rep in reps}
            planned = plan_runs(reps, scale, choices, seeds)
            runs, lines = [], []
            for unpacked in group:
                runs += _runs_of(unpacked, {run_id: run.spec for run_id, run in planned.items()}, scale, root, code)
                lines += preregistration.registered(unpacked.layout).values()
            for rep in reps:
                wanted = [(where, run) for where, run in runs if rep.name in planned[run.run_id].wanted]
                if wanted:
                    stage = Workspace(root, scale, Layout(Path(scratch) / f"stage-{len(records)}"), choices)
                    records.append(_compose(rep, stage, wanted, lines, replace))
        # one pack may name as its choice of data what is a replication's own in another
        if twice := [path for path, count in Counter(record.path for record in records).items() if count > 1]:
            raise InputError(f"{twice[0]}: packs that were made with different options go there; add one at a time")
        return [record.write() for record in records]


def _runs_of(
    pack: _Unpacked, planned: dict[str, RunSpec], scale: Scale, root: Path, code: Callable[[RunSpec], str] | None
) -> list[Located]:
    """The checked runs of a pack."""
    runs = []
    with errors_name(pack.path, pack.layout):
        for run_id in pack.run_ids:
            run = load_run(pack.layout, run_id)
            if run_id not in planned:
                raise InputError(f"run {run_id}: no replication plans it at {scale} scale with its data")
            _check(run)
            if code and run.summary.get("commit") is None and run.summary.get("code"):
                known = run.summary["code"] == code(planned[run_id])
                run.summary["commit"] = git_commit(root) if known else None
            runs.append((str(pack.path), run))
    return runs


def slug(text: str) -> str:
    """`NVIDIA H200` as `nvidia-h200`: safe and short in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "unknown"


def _check(run: RunResult) -> None:
    """Check that a run is complete and its files agree. Raises InputError."""
    where = f"run {run.run_id}"
    summary, metrics = run.summary, run.metrics
    done = summary.get("steps_done")
    if done != run.steps and run.diverged_at_step is None:
        raise InputError(f"{where}: summary.json: steps_done: expected {run.steps} unless it diverged, got {done}")
    last = int(metrics["step"].iloc[-1]) if len(metrics) else None
    if last != done:
        raise InputError(f"{where}: metrics end at step {last}, but the summary says that {done} were done")
    for name, value in run.final.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{where}: summary.json: final.{name}: expected a finite number or null, got {value!r}")
        recorded = metrics[name].dropna() if name in metrics else ()
        if len(recorded) and not math.isclose(recorded.iloc[-1], value, rel_tol=1e-6):
            raise InputError(f"{where}: final.{name} is {value:g}, but its metrics end with {recorded.iloc[-1]:g}")


def _compose(rep: Replication, stage: Workspace, runs: list[Located], lines: Lines, replace: bool) -> _Record:
    """The record of `runs` and of all runs that are filed under the same name.

    Args:
        stage: a workspace with an empty results folder, where the runs are judged.
        lines: when claims were registered where the runs were made.
    """
    root, layout = stage.root, stage.layout
    planned = [(spec, parameters) for spec, parameters, _ in expand(rep, stage.scale, dict(stage.choices))]
    # a choice that the replication makes anyway, or of a kind that it does not use, changes no run: leave it out
    own = {spec.run_id for spec, _, _ in expand(rep, stage.scale)}
    kinds = {spec.data.kind for spec, _ in planned if spec.run_id not in own}
    choices = {kind: choice for kind, choice in stage.choices.items() if kind in kinds}
    stage = Workspace(root, stage.scale, layout, choices)
    sources = sorted({spec.data.source for spec, _ in planned})
    hardware = distinct(run.hardware_name for _, run in runs)
    path = folder(root, rep.name) / f"{stage.scale}-{slug('-'.join(sources))}-{slug('-'.join(hardware))}"
    thinned = False
    if manifest_file(path).exists():
        filed = restore_record(path, layout, root)
        thinned = filed["thinned"]
        for kind, choice in choices.items():
            other = filed["choices"].get(kind, {}).get("sha256")
            if choice.sha256 != other:
                raise InputError(f"{manifest_file(path)}: {kind}: filed are runs on other content, with sha256 {other}")
    for where, run in runs:
        copy_run(run, where, layout, replace)
    preregistration.merge(layout, [line for line in lines if line["replication"] == rep.name])
    every = [load_run(layout, place.name) for place in sorted(layout.run("").iterdir())]
    record_seeds(rep, stage, [run.run_id for run in every])
    planned = [(spec, parameters) for spec, parameters, _ in expand_here(rep, stage)]
    content, thinner = _within_budget(every, set(metrics_read(rep.claims)))
    manifest = make_manifest(rep, stage, planned, every)
    manifest |= {"thinned": thinned or thinner, "sha256": hashlib.sha256(content).hexdigest()}
    return _Record(path, manifest, content)


def _within_budget(runs: list[RunResult], names: set[str]) -> tuple[bytes, bool]:
    """The table of some runs, and whether curves were thinned; curves of metrics in `names` never are."""
    table = to_table(runs)
    content, every = write_table(table), 1
    while len(content) > BUDGET and every < THINNEST:
        every *= 2
        content = write_table(thin(table, every, names))
    return content, every > 1
