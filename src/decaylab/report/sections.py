"""The sections that every report has: what we ran, the claims and what it cost. A notebook holds only its own."""

from __future__ import annotations

import re

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell

from decaylab.errors import InputError
from decaylab.report.html import Html, claims_table, join, note, table
from decaylab.report.load import Report
from decaylab.report.output import Figure
from decaylab.report.regimes import FAR, regimes

GENERATED = "generated"
"""tag of cells that `compose` adds"""

RAN = ("## What we ran", "sections.what_we_ran(report)")
CLAIMS = (
    "## Claims and verdicts\n\n"
    "Every claim has an axis of its own, in its own unit. Where a claim has several tests, all of them must hold.",
    "sections.claims_forest(report)",
    "sections.claims(report)",
)
COST = ("## Cost\n\nWhat `decaylab plan` predicted, and what the runs took.", "sections.cost(report)")


def what_we_ran(report: Report) -> Html:
    """What this scale makes smaller, the grids with their planned and finished runs, and how far the source is."""
    parts = [note(report.note) if report.note else "", table(report.arms, "Planned and finished runs at this scale")]
    numbers = regimes(report) if report.scale != "paper" else pd.DataFrame()
    if not numbers.empty:
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
