"""Runs that travel between machines: packs, and evidence filed under replications/<name>/evidence/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from decaylab.cli.options import (
    REPORTS,
    RESULTS,
    ImagesOption,
    Name,
    Names,
    ReportsOption,
    ResultsOption,
    Scale,
    ScaleOption,
    TextOption,
    selected,
    workspace,
)
from decaylab.replication import PlannedRun, plan_here
from decaylab.workspace import Workspace

ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="replace a filed run whose numbers differ, instead of refusing")
]
FiledArgument = Annotated[str, typer.Argument(help="<scale>-<data>-<hardware>, the name of the files")]


def pack(
    file: Annotated[Path, typer.Argument(help="the pack to write")],
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Pack finished runs into one small file, for `decaylab evidence add` on another machine."""
    space = workspace(scale, images, text, results)
    write(file, plan_here(selected(names), space), space)


def write(file: Path, planned: dict[str, PlannedRun], space: Workspace) -> None:
    """Pack the finished ones among some planned runs, and say how many there are."""
    from decaylab.analysis.pack import write_pack

    count = write_pack(file, planned, space)
    typer.echo(f"{file}: {count} runs packed" if count else f"{file}: not written, no run has finished", err=True)


def collect(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    replace: ReplaceOption = False,
) -> None:
    """File the finished runs of this machine."""
    from decaylab.analysis.filing import collect as collect_runs

    space = workspace(scale, images, text, results)
    for rep in selected(names):
        typer.echo(collect_runs(rep, space, replace))


def add(
    packs: Annotated[list[Path], typer.Argument(help="packs from `decaylab train --pack` or `decaylab pack`")],
    replace: ReplaceOption = False,
) -> None:
    """Check the runs of packs, and file them beside those already filed."""
    from decaylab.analysis.filing import add as add_packs
    from decaylab.fingerprint import fingerprint

    for path in add_packs(packs, workspace().root, replace, fingerprint):
        typer.echo(path)


def restore(filed: FiledArgument, results: ResultsOption = RESULTS) -> None:
    """Turn filed evidence back into a results folder: results/evidence/<filed>/."""
    from decaylab.analysis.restoring import restore as restore_runs

    space = workspace(results=results)
    layout = space.layout.filed(filed)
    restore_runs(filed, layout, space.root)
    typer.echo(layout.results)


def render(
    filed: FiledArgument, name: Name, results: ResultsOption = RESULTS, reports: ReportsOption = REPORTS
) -> None:
    """Judge restored evidence and write its report, as if the runs had been made here."""
    from decaylab.report.archive_pages import render_archived

    typer.echo(render_archived(filed, name, workspace(results=results, reports=reports)))


def site(results: ResultsOption = RESULTS, reports: ReportsOption = REPORTS) -> None:
    """Write the claims and runs of all restored evidence, and an index of it."""
    from decaylab.report.archive_pages import build_archive_site

    typer.echo(build_archive_site(workspace(results=results, reports=reports)))
