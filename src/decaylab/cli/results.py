"""After training: verdicts, reports and the site."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

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


def judge(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Judge the claims of replications by the runs that exist. Writes results/verdicts/<scale>/<name>.json."""
    from decaylab.analysis.judge import judge as judge_claims

    space = workspace(scale, images, text, results)
    table = Table(title=f"scale {space.scale}")
    for head in ("claim", "verdict", "estimate", "95 % interval", "n", "unit"):
        table.add_column(head)
    for rep in selected(names):
        verdicts = judge_claims(rep, space)
        verdicts.write(space.layout)
        for claim in verdicts.claims:
            table.add_row(
                f"{rep.name}/{claim.claim}",
                claim.verdict,
                "" if claim.estimate is None else f"{claim.estimate:.4g}",
                "" if claim.interval is None else " to ".join(f"{end:.4g}" for end in claim.interval),
                str(claim.n),
                claim.unit,
            )
    Console().print(table)


def render(
    name: Name,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    reports: ReportsOption = REPORTS,
) -> None:
    """Execute a replication's notebook and write reports/<scale>/<name>.html."""
    from decaylab.report.notebook import render as render_notebook

    space = workspace(scale, images, text, results, reports)
    rep = selected([name])[0]
    typer.echo(render_notebook(rep.name, space))


def site(
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    reports: ReportsOption = REPORTS,
) -> None:
    """Write reports/<scale>/index.html and a page for every run."""
    from decaylab.report.site import build_site

    space = workspace(scale, images, text, results, reports)
    typer.echo(build_site(space))
