"""Before training: what would run and what it costs, the data it needs, and the claims it is judged by."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from decaylab.cli.options import (
    RESULTS,
    DeviceOption,
    ImagesOption,
    Names,
    ResultsOption,
    Scale,
    ScaleOption,
    TextOption,
    ThreadsOption,
    selected,
    workspace,
)
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.replication import Replication, plan_here
from decaylab.sources import found_lines
from decaylab.workflow.requests import shared_gpus

if TYPE_CHECKING:
    from decaylab.analysis.prospects import Prospect
    from decaylab.spec import RunSpec

SHOWN_GPUS = ("NVIDIA H200", "NVIDIA A100")
"""columns of the table; --json has all known GPUs"""


def plan(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    gpus: Annotated[
        int, typer.Option(min=1, help="most GPUs of one machine that train a run together; each run says how many")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="one object for each run")] = False,
) -> None:
    """Show what would run, what it costs (FLOPs, minutes, memory, disk), and what each claim could decide."""
    space = workspace(scale, images, text, results)
    reps = selected(names)
    runs = plan_here(reps, space)
    _check_fit([run.spec for run in runs.values()], space.layout)
    from decaylab.training.cost.pricing import Pricer, is_finished, plan_row
    from decaylab.training.startup import postpone_compiler

    postpone_compiler()
    pricer = Pricer(space.layout, device, threads)
    rows = [
        plan_row(
            run_id,
            run.wanted,
            run.spec,
            pricer.price(run.spec, shared_gpus([run.spec], gpus)),
            is_finished(space.layout, run_id),
        )
        for run_id, run in runs.items()
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    _print_plan(reps, rows, space.scale)
    from decaylab.analysis.prospects import prospects

    seconds = {row["run_id"]: row["predicted_seconds"] for row in rows}
    _print_prospects({rep.name: prospects(rep, space, seconds) for rep in reps}, space.scale)


def _print_plan(reps: list[Replication], rows: list[dict[str, Any]], scale: str) -> None:
    gpus = [gpu for gpu in rows[0]["gpu_seconds"] if gpu in SHOWN_GPUS] if rows else []
    most = max((row["gpus"] for row in rows), default=1)
    shared = f" Minutes and memory on GPUs are for up to {most} of them per run." if most > 1 else ""
    table = Table(
        title=f"scale {scale}: minutes, one run after another",
        caption="A run that several replications share counts in each of them, and once in the total." + shared,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    heads = ["replication", "runs", "done", "FLOPs", "here", *(gpu.removeprefix("NVIDIA ") for gpu in gpus)]
    for head in [*heads, "memory", "disk"]:
        table.add_column(head, justify="left" if head == "replication" else "right", no_wrap=True)

    def line(name: str, part: list[dict[str, Any]]) -> list[str]:
        return [
            name,
            str(len(part)),
            str(sum(row["finished"] for row in part)),
            f"{sum(row['flops'] for row in part):.2g}",
            f"{sum(row['predicted_seconds'] for row in part) / 60:.1f}",
            *(f"{sum(row['gpu_seconds'][gpu] for row in part) / 60:.1f}" for gpu in gpus),
            _bytes(max((row["memory_bytes"] for row in part), default=0)),
            _bytes(sum(row["disk_bytes"] for row in part)),
        ]

    for rep in reps:
        table.add_row(*line(rep.name, [row for row in rows if rep.name in row["replications"]]))
    table.add_section()
    table.add_row(*line("total", rows))
    Console().print(table)


def _print_prospects(found: dict[str, list[Prospect]], scale: str) -> None:
    table = Table(
        title=f"scale {scale}: what each claim could decide",
        caption="SD: between seeds, from results here or filed evidence (~: at other settings). Detectable: the "
        "smallest true effect that the planned seeds show to matter, at 80 % power. Seeds and core-minutes decide the "
        "source's own value.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for head in ("claim", "seeds", "SD", "of", "detectable", "source", "seeds", "minutes"):
        table.add_column(head, justify="left" if head == "claim" else "right", overflow="fold")
    for name, items in found.items():
        table.add_section()
        table.add_row(f"[bold]{name}[/bold]")
        for item in items:
            known = item.deviation is not None
            table.add_row(
                item.claim.rpartition("/")[2],
                str(item.seeds),
                f"{item.deviation:.2g}" if known else "unknown",
                ("" if item.same_runs else "~") + str(item.known_from) if known else "",
                "" if item.detectable is None else f"{item.detectable:.2g}",
                "" if item.source is None else f"{item.source:.2g}",
                "" if item.source_seeds is None else str(item.source_seeds),
                "" if item.source_minutes is None else f"{item.source_minutes:.1f}",
            )
    Console().print(table)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def data(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    key: Annotated[list[str] | None, typer.Option(help="only these data sets, by the names of their folders")] = None,
) -> None:
    """Prepare the data sets that the runs need: download, check, unpack, tokenise. Says what was read and left out."""
    space = workspace(scale, images, text, results)
    runs = plan_here(selected(names), space)
    from decaylab.data import prepare, prepared_key

    wanted: dict[str, list[RunSpec]] = defaultdict(list)
    for run in runs.values():
        wanted[prepared_key(run.spec.data)].append(run.spec)
    for name in key or wanted:
        if name not in wanted:
            raise InputError(f"data: --key {name}: expected one of {', '.join(wanted)}")
        source = wanted[name][0].data
        folder = prepare(source, space.layout, space.choices.get(source.kind))
        typer.echo(folder)
        found = read_json(folder / "meta.json").get("found")
        for line in found_lines(found) if found else ():
            typer.echo(f"  {line}", err=True)
        _check_fit(wanted[name], space.layout)


def _check_fit(specs: Iterable[RunSpec], layout: Layout) -> None:
    """Refuse runs that ask for more data than there are; what is not prepared yet is not known."""
    from decaylab.data import prepared_key
    from decaylab.data.fitting import check_fit

    prepared: dict[Path, dict[str, Any]] = {}
    for spec in specs:
        path = layout.prepared(prepared_key(spec.data)) / "meta.json"
        if path not in prepared and path.is_file():
            prepared[path] = read_json(path)
        if path in prepared:
            check_fit(spec, prepared[path])


def register(names: Names = None, results: ResultsOption = RESULTS) -> None:
    """Record the text of every claim in results/claims.jsonl, before its first run."""
    from decaylab.analysis.preregistration import register_claims

    space = workspace(results=results)
    count = register_claims(selected(names or ["all"]), space)
    typer.echo(f"{count} claims newly registered", err=True)
