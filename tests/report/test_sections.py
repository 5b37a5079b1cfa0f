import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from decaylab.errors import InputError
from decaylab.report import sections

OPEN = "from decaylab.report import open_report\n\nreport = open_report('x', workspace)"


def headings(notebook):
    return [cell.source.partition("\n")[0] for cell in notebook.cells if cell.cell_type == "markdown"]


def test_shared_sections_stand_around_a_notebooks_own():
    cells = [
        new_markdown_cell("# Title"), new_code_cell("workspace = ''"), new_code_cell(OPEN), new_markdown_cell("## Own"),
        new_code_cell("1"), new_markdown_cell("## What it means"),
    ]  # fmt: skip
    composed = sections.compose(new_notebook(cells=cells), "x.ipynb")
    order = ["# Title", "## What we ran", "## Own", "## Claims and verdicts", "## What it means", "## Cost"]
    assert headings(composed) == order


def test_a_notebook_of_nothing_but_a_report_has_all_sections():
    composed = sections.compose(new_notebook(cells=[new_code_cell(OPEN)]), "x.ipynb")
    assert headings(composed) == ["## What we ran", "## Claims and verdicts", "## Cost"]


def test_a_notebook_without_a_report_is_refused():
    with pytest.raises(
        InputError, match=r"x\.ipynb: expected a code cell with `report = open_report\(NAME, workspace\)`"
    ):
        sections.compose(new_notebook(cells=[new_code_cell("1")]), "x.ipynb")
