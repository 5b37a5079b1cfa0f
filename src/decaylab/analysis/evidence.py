"""Evidence: measured runs on named hardware, checked, and filed beside the replication that wanted them.

Filing reads a results folder or packs; restoring makes a results folder again, so that whatever judges and shows
runs does so with evidence too, and knows no difference.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analysis import registry
from decaylab.analysis.filed import FORMAT, filed_names, folder, read_choices, read_evidence_file, write_choices
from decaylab.analysis.judge import hardware_name, judge
from decaylab.analysis.pack import read_pack
from decaylab.analysis.results import RunResult, load_run, load_runs
from decaylab.analysis.run_table import restore_table, thin, to_table, write_table
from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, git_commit, write_json
from decaylab.replication import Claim, Replication, Test, expand, plan_runs, select
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale

DIGITS = 6
"""significant digits of metrics in the .json: beyond what another machine would reproduce"""
BUDGET = 400_000
"""bytes of a .parquet above which curves that no claim reads are thinned"""
THINNEST = 64

Planned = list[tuple[RunSpec, dict[str, Any]]]


@dataclass(frozen=True)
class _Filing:
    """Evidence of one replication, composed and not yet written."""

    path: Path
    """without its ending"""
    head: dict[str, Any]
    runs: bytes

    def write(self) -> Path:
        # the .json names the other's digest, so that a pair that does not belong together is found out
        with atomic_path(_runs_file(self.path)) as temporary:
            temporary.write_bytes(self.runs)
        write_json(_head_file(self.path), self.head)
        return _head_file(self.path)


def collect(
    rep: Replication,
    scale: Scale,
    layout: Layout,
    root: Path,
    choices: Mapping[str, Choice] | None = None,
    replace: bool = False,
) -> Path:
    """File the finished runs of a replication that lie in a results folder; see `add`.

    Returns:
        the path of the .json.

    Raises:
        InputError: there are no results at this scale, a result is damaged, or one is filed with other numbers.
    """
    planned = [(spec, parameters) for spec, parameters, _ in expand(rep, scale, dict(choices or {}))]
    found = load_runs(layout, planned).runs
    if not found:
        raise InputError(f"{layout.results}: no run of {rep.name} at {scale} scale; run `snakemake {rep.name}` first")
    with _named(layout.results, layout):
        for run in found.values():
            _check(run)
    runs = [(str(layout.results), run) for run in found.values()]
    with tempfile.TemporaryDirectory() as stage:
        lines = registry.registered(layout).values()
        return _compose(rep, scale, choices or {}, runs, lines, Layout(Path(stage)), root, replace).write()


def add(
    packs: Iterable[Path], root: Path, replace: bool = False, code: Callable[[RunSpec], str] | None = None
) -> list[Path]:
    """Check the runs of packs and file them for each replication that wants them, together with what is filed.

    Packs that are given together belong together, on whatever hardware they were made.

    Args:
        replace: take the packs' numbers where a run is filed with others.
        code: digest of the code that this clone would execute for a spec. A run that knows no commit, since its
            machine had no git, and has this digest, was made by the code of this clone's commit.

    Returns:
        the paths of the .json files.

    Raises:
        InputError: a pack or a run in it is damaged, incomplete or planned by nobody, or a run is filed with other
            numbers. Nothing has been written then.
    """
    reps = select(root, "all")
    commit = git_commit(root)
    together: dict[tuple[str, tuple[tuple[str, Choice], ...]], list[tuple[Path, Layout, list[str]]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, path in enumerate(packs):
            layout = Layout(Path(scratch) / f"pack-{number}")
            pack = read_pack(path, layout)
            key = pack.scale, tuple(sorted(pack.choices.items()))
            together.setdefault(key, []).append((path, layout, pack.run_ids))
        filings = []
        for (scale, items), group in together.items():
            choices = dict(items)
            planned = plan_runs(reps, scale, choices)
            runs, lines = [], []
            for path, layout, run_ids in group:
                with _named(path, layout):
                    for run_id in run_ids:
                        run = load_run(layout, run_id)
                        if run_id not in planned:
                            raise InputError(f"run {run_id}: no replication plans it at {scale} scale with its data")
                        _check(run)
                        if code and run.summary.get("commit") is None and run.summary.get("code"):
                            known = run.summary["code"] == code(planned[run_id].spec)
                            run.summary["commit"] = commit if known else None
                        runs.append((str(path), run))
                    lines += registry.registered(layout).values()
            for rep in reps:
                wanted = [(where, run) for where, run in runs if rep.name in planned[run.run_id].wanted]
                if wanted:
                    stage = Layout(Path(scratch) / f"stage-{len(filings)}")
                    filings.append(_compose(rep, scale, choices, wanted, lines, stage, root, replace))
        # the same data may be a choice in one pack and the replication's own in another
        if twice := [path for path, count in Counter(filing.path for filing in filings).items() if count > 1]:
            raise InputError(f"{twice[0]}: packs that were made with different options go there; add one at a time")
        return [filing.write() for filing in filings]


def restore(name: str, layout: Layout, root: Path) -> list[str]:
    """Make a results folder of the evidence of that name, as its runs once left it; returns the replications.

    An earlier restoration there is replaced. Claims count as registered when they were; verdicts and pages are left to
    those who make them from any results.

    Raises:
        InputError: there is no such evidence, it is damaged, or the folder has results of its own.
    """
    filed = filed_names(root)
    if name not in filed:
        raise InputError(
            f"evidence {name!r}: expected one of {', '.join(filed) or 'those filed with their runs: none'}"
        )
    trained = not layout.origin.exists() or layout.state("").exists()
    if layout.results.exists() and any(layout.results.iterdir()) and trained:
        raise InputError(f"{layout.results}: has results of its own; evidence is restored into a folder for itself")
    heads: dict[str, dict[str, Any]] = {}
    layout.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.results.parent) as scratch:
        whole = Layout(Path(scratch) / "whole")
        for rep in filed[name]:
            path = folder(root, rep) / name
            one = Layout(Path(scratch) / rep)
            heads[rep] = _restore_filed(path, one, root)
            for run_id in [run["run_id"] for run in heads[rep]["runs"]]:
                _take(load_run(one, run_id), str(_head_file(path)), whole, replace=False)
            registry.merge(whole, registry.registered(one).values())
        first = next(iter(heads.values()))
        if any((head["scale"], head["choices"]) != (first["scale"], first["choices"]) for head in heads.values()):
            raise InputError(f"evidence {name}: its replications have runs at different scales or on different data")
        shown = ("file", "hardware", "data", "commits", "made_at", "runs_planned", "thinned")
        write_json(
            whole.origin,
            {
                "name": name,
                "scale": first["scale"],
                "choices": first["choices"],
                "filed": {
                    rep: {key: head[key] for key in shown} | {"runs": len(head["runs"])} for rep, head in heads.items()
                },
            },
        )
        shutil.rmtree(layout.results, ignore_errors=True)
        whole.results.rename(layout.results)
    return list(heads)


def slug(text: str) -> str:
    """`NVIDIA H200` as `nvidia-h200`: safe and short in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-") or "unknown"


def _head_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _runs_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.parquet")


@contextmanager
def _named(path: Path, layout: Layout) -> Iterator[None]:
    """Let errors name the pack instead of the folder into which it was unpacked."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: " + str(error).replace(f"{layout.results}/", "")) from None


def _check(run: RunResult) -> None:
    """That a run is whole and consistent with itself. Raises InputError."""
    where = f"run {run.run_id}"
    summary, metrics = run.summary, run.metrics
    lost, done = run.diverged_at_step, summary.get("steps_done")
    if done != run.steps and lost is None:
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


def _compose(
    rep: Replication,
    scale: Scale,
    choices: Mapping[str, Choice],
    runs: list[tuple[str, RunResult]],
    lines: Iterable[dict[str, Any]],
    stage: Layout,
    root: Path,
    replace: bool,
) -> _Filing:
    """Evidence of `runs` (each with where it comes from) and of all that are filed under the same name.

    Args:
        lines: when claims were registered where the runs were made.
        stage: an empty results folder, to be judged.
    """
    planned = [(spec, parameters) for spec, parameters, _ in expand(rep, scale, dict(choices))]
    # a choice of what the replication uses anyway, or of a kind that it does not use, is none
    own = {spec.run_id for spec, _, _ in expand(rep, scale)}
    kinds = {spec.data.kind for spec, _ in planned if spec.run_id not in own}
    choices = {kind: choice for kind, choice in choices.items() if kind in kinds}
    sources = sorted({spec.data.source for spec, _ in planned})
    hardware = _distinct(hardware_name(run.summary) for _, run in runs)
    path = folder(root, rep.name) / f"{scale}-{slug('-'.join(sources))}-{slug('-'.join(hardware))}"
    thinned = False
    if _head_file(path).exists():
        filed = _restore_filed(path, stage, root)
        thinned = filed["thinned"]
        for kind, choice in choices.items():
            other = filed["choices"].get(kind, {}).get("sha256")
            if choice.sha256 != other:
                raise InputError(f"{_head_file(path)}: {kind}: filed are runs on other content, with sha256 {other}")
    for where, run in runs:
        _take(run, where, stage, replace)
    registry.merge(stage, [line for line in lines if line["replication"] == rep.name])
    every = [load_run(stage, place.name) for place in sorted(stage.run("").iterdir())]
    names = set(_metrics_read(rep.claims))
    content, thinner = _within_budget(every, names)
    head = _head(rep, scale, choices, planned, every, names, stage, root)
    head |= {"thinned": thinned or thinner, "sha256": hashlib.sha256(content).hexdigest()}
    return _Filing(path, head, content)


def _take(run: RunResult, where: str, stage: Layout, replace: bool) -> None:
    """Copy a run into a results folder; one that is there already may only be the same. Raises InputError."""
    if stage.summary(run.run_id).exists() and not replace:
        there = load_run(stage, run.run_id)
        ours, theirs = ({"diverged_at_step": item.diverged_at_step} | item.final for item in (there, run))
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                raise InputError(
                    f"{where}: run {run.run_id}: is there already with another {name}, {ours.get(name)} and not "
                    f"{theirs.get(name)}; --replace takes the new numbers"
                )
        return
    stage.run(run.run_id).mkdir(parents=True, exist_ok=True)
    write_json(stage.summary(run.run_id), run.summary)
    run.metrics.to_parquet(stage.metrics(run.run_id), index=False)


def _restore_filed(path: Path, layout: Layout, root: Path) -> dict[str, Any]:
    """Put runs and claims of filed evidence into an empty results folder; returns its head. Raises InputError."""
    head_file, runs_file = _head_file(path), _runs_file(path)
    head = read_evidence_file(head_file, root)
    if head.get("format") != FORMAT:
        raise InputError(f"{head_file}: filed without its runs (format {head.get('format', 1)}); remove it, file again")
    try:
        content = runs_file.read_bytes()
    except OSError as error:
        raise InputError(f"{runs_file}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != head.get("sha256"):
        raise InputError(f"{runs_file}: is not the file that {head_file.name} was filed with")
    try:
        read_choices(head["choices"])
        registry.merge(layout, head["registered"])
        filed = sorted(run["run_id"] for run in head["runs"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(f"{head_file}: expected choices, registered and runs, as they were filed") from None
    with _named(runs_file, layout):
        if sorted(restore_table(content, layout, "table")) != filed:
            raise InputError(f"has other runs than {head_file.name}")
        for run_id in filed:
            load_run(layout, run_id)
    return head


def _within_budget(runs: list[RunResult], names: set[str]) -> tuple[bytes, bool]:
    """The table of some runs, and whether curves were thinned; those of metrics in `names` never are."""
    table = to_table(runs)
    content, every = write_table(table), 1
    while len(content) > BUDGET and every < THINNEST:
        every *= 2
        content = write_table(thin(table, every, names))
    return content, every > 1


def _head(
    rep: Replication,
    scale: Scale,
    choices: Mapping[str, Choice],
    planned: Planned,
    runs: list[RunResult],
    read: set[str],
    stage: Layout,
    root: Path,
) -> dict[str, Any]:
    """What the .json says. Metrics of single parameter groups (`weight_norm.mlp`) only where a claim reads them."""
    names = sorted({name for run in runs for name in run.final if "." not in name or name in read})
    by_id = {run.run_id: run for run in runs}
    return {
        "format": FORMAT,
        "replication": rep.name,
        "scale": scale,
        "hardware": " + ".join(_distinct(hardware_name(run.summary) for run in runs)),
        "machines": _distinct(run.summary.get("hardware", {}) for run in runs),
        "versions": _distinct(run.summary.get("versions", {}) for run in runs),
        "commits": _distinct(run.summary.get("commit") or "unknown" for run in runs),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "choices": write_choices(choices),
        "data": _distinct(
            {"source": run.summary["spec"]["data"]["source"], "sha256": run.summary.get("data_sha256")} for run in runs
        ),
        "runs_planned": len({spec.run_id for spec, _ in planned}),
        "seconds": round(sum(run.summary["seconds"] for run in runs), 1),
        "metrics": names,
        "arms": _arms(planned, by_id, names),
        "runs": [
            {
                "run_id": run.run_id,
                "started_at": run.summary["started_at"],
                "seconds": round(run.summary["seconds"], 2),
                "diverged_at_step": run.diverged_at_step,
                "final": [_rounded(run.final.get(name)) for name in names],
            }
            | ({"texts": run.summary["texts"]} if run.summary.get("texts") else {})
            for run in runs
        ],
        "verdicts": judge(rep, scale, stage, root, dict(choices)),
        # after judging, which registers claims that nobody registered before
        "registered": list(registry.registered(stage).values()),
    }


def _arms(planned: Planned, runs: dict[str, RunResult], names: list[str]) -> list[dict[str, Any]]:
    """Runs that differ only in seed, in one row: `mean` and `sd` are in the order of `names`; sd of n=1 is null."""
    arms: dict[str, dict[str, Any]] = {}
    for spec, parameters in planned:
        if spec.run_id not in runs:
            continue
        shown = {key: value for key, value in parameters.items() if key != "seed"}
        arm = arms.setdefault(f"{spec.arm_id()} {shown}", {"parameters": shown, "run_ids": []})
        if spec.run_id not in arm["run_ids"]:
            arm["run_ids"].append(spec.run_id)
    for arm in arms.values():
        members = [runs[run_id] for run_id in arm["run_ids"]]
        finals = pd.DataFrame([run.final for run in members], dtype=float).reindex(columns=names)
        arm["n"] = len(members)
        arm["seconds"] = round(sum(run.summary["seconds"] for run in members), 2)
        # a diverged member has no number; the mean of the others would hide that
        arm["mean"] = [_rounded(value) for value in finals.mean(skipna=False)]
        arm["sd"] = [_rounded(value) for value in finals.std(skipna=False)]
    return list(arms.values())


def _metrics_read(claims: Iterable[Claim]) -> Iterable[str]:
    def names(test: Test) -> Iterable[str]:
        yield from (metric.name for metric in (test.metric, test.best_by) if metric)
        yield from (term.metric.name for term in test.terms or [] if term.metric)

    for claim in claims:
        for test in [*claim.tests, *(test for variant in claim.also for test in variant.tests or [])]:
            yield from names(test)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Different values, sorted by their text."""
    return [value for _, value in sorted({repr(value): value for value in values}.items())]
