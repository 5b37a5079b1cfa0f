"""The sections that every report has: what we ran, the claims and what it cost. A notebook holds only its own."""

from __future__ import annotations

import re

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell

from decaylab.analysis.prospects import prospects as prospects_of
from decaylab.errors import InputError
from decaylab.report.html import DASH, Html, claims_table, join, link, measured, note, number, table
from decaylab.report.load import Report
from decaylab.report.output import Figure
from decaylab.report.provenance import data_list
from decaylab.report.regimes import FAR, regimes

GENERATED = "generated"
"""tag of cells that `compose` adds"""

RAN = ("## What we ran", "sections.what_we_ran(report)")
CLAIMS = (
    "## Claims and verdicts\n\n"
    "Every claim has an axis of its own, in its own unit. Where a claim has several tests, all of them must hold.",
    "sections.claims_forest(report)",
    "sections.claims(report)",
    "sections.prospects(report)",
)
COST = ("## Cost\n\nWhat `decaylab plan` predicted, and what the runs took.", "sections.cost(report)")


def what_we_ran(report: Report) -> Html:
    """What this scale makes smaller, the grids with their planned and finished runs, and how far the source is."""
    parts = [note(report.note) if report.note else "", table(report.arms, "Planned and finished runs at this scale")]
    results = report.workspace.layout.results
    parts.append(data_list((spec.data.source for spec, _ in report.results.planned), results))
    numbers = regimes(report) if report.scale != "paper" else pd.DataFrame()
    if not numbers.empty:
        numbers["number"] = numbers["number"].str.replace(" x ", " \u00d7 ")
        far = list(dict.fromkeys(numbers.loc[numbers.pop("far"), "number"]))
        said = f" Far from the source's (more than a factor of {FAR:g}): {'; '.join(far)}." if far else ""
        left = ["source", f"{report.scale} scale"]
        parts.append(table(numbers, f"Dimensionless numbers that decide how far a claim carries over.{said}", left))
    return join(parts)


def claims_forest(report: Report) -> Figure | Html:
    """Estimate and interval of every claim that has one."""
    from decaylab.report import figures

    return report.show(
        figures.claims_forest(report.claims),
        "Estimate and interval over seeds. The claim says that the whole interval lies in the tinted area. "
        "Differences in the grey band are too small to matter. The diamond is the number that the source reports.",
    )


def claims(report: Report) -> Html:
    """All claims with their verdicts, variants and runs."""
    return claims_table(report.claims)


def prospects(report: Report) -> Html:
    """What the planned seeds can decide, folded; empty where no claim is judged at this scale."""
    seconds = {spec.run_id: float("nan") for spec, _ in report.results.planned}
    seconds |= {run.run_id: run.summary["seconds"] for run in report.results.runs.values()}
    claims = {f"{report.name}/{claim.id}": claim for claim in report.replication.claims}
    rows = []
    for item in prospects_of(report.replication, report.workspace, seconds):
        claim, unit = claims[item.claim], item.unit
        known = f" ({'' if item.same_runs else 'other settings, '}{item.known_from} seeds)"
        rows.append(
            {
                "claim": link(" ".join(claim.statement.split()), f"#claim-{claim.id}"),
                "seeds at most": item.seeds,
                "spread between seeds": measured(item.deviation, None, unit) + known if item.deviation else DASH,
                "smallest effect that matters": measured(claim.tests[0].smallest_effect, None, unit),
                "effect that these seeds show": measured(item.detectable, None, unit),
                "the source's number": measured(item.source, None, unit),
                "seeds that decide it": item.source_seeds or DASH,
                "their minutes": number(item.source_minutes, 2),
            }
        )
    if not rows:
        return Html("")
    caption = (
        "The spread is the standard deviation of the contrast between seeds, from runs here or filed at this scale. "
        "A true effect of the size shown is found to matter in four of five cases. The last columns say what it takes "
        "to decide the source's own number as often, in seeds and in minutes of one core."
    )
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})
    shown = table(frame, caption)  # of objects: the frame would turn links into plain text
    return Html(f'<details class="fold"><summary>What the planned seeds can decide</summary>{shown}</details>')


def cost(report: Report) -> Figure | Html:
    """Predicted and measured time of every run."""
    from decaylab.report import figures

    return report.show(
        figures.cost_scatter(report.runs),
        "Predicted and measured training time of every run. In the grey band, the prediction is right within a factor "
        "of two.",
    )


def compose(notebook: nbformat.NotebookNode, where: str) -> nbformat.NotebookNode:
    """Add the shared sections to a notebook, in place.

    "What we ran" comes right after the cell that opens the report. The claims come after the notebook's own figures
    and before the text with which it ends, if it ends with text; the cost comes last.

    Raises:
        InputError: no cell has `report = open_report(...)`.
    """
    cells = notebook.cells
    opens = re.compile(r"^report = open_report\(", re.M)
    opened = next(
        (index for index, cell in enumerate(cells) if cell.cell_type == "code" and opens.search(cell.source)), None
    )
    if opened is None:
        raise InputError(f"{where}: expected a code cell with `report = open_report(NAME, workspace)`")
    end = len(cells)
    while end > opened + 1 and cells[end - 1].cell_type == "markdown":
        end -= 1
    notebook.cells = [
        *cells[: opened + 1],
        _code("from decaylab.report import sections"),
        *_section(*RAN),
        *cells[opened + 1 : end],
        *_section(*CLAIMS),
        *cells[end:],
        *_section(*COST),
    ]
    return notebook


def _section(text: str, *calls: str) -> list[nbformat.NotebookNode]:
    return [new_markdown_cell(text), *map(_code, calls)]


def _code(source: str) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"tags": [GENERATED]})
