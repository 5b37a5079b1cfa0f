import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from decaylab.errors import InputError
from decaylab.report import sections
from decaylab.report.load import open_report
from decaylab.workspace import Workspace

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


def test_prospects_say_what_the_planned_seeds_can_decide(clone):
    root, layout = clone
    html = sections.prospects(open_report("tiny_run", Workspace(root, "smoke", layout)))
    assert html.startswith('<details class="fold"><summary>What the planned seeds can decide</summary>')
    assert '<a href="#claim-decay-helps">Decay of 0.1 lowers the test error &lt;at the end&gt;.</a>' in html
    assert "<td>6</td>" in html  # seeds
    assert "(6 seeds)</td><td>0.5 points</td>" in html
    assert "<td>\u22125 points</td>" in html  # the source's number
    assert "This is judged at paper scale only." not in html
    assert sections.prospects(open_report("tiny_run", Workspace(root, "laptop", layout))) == ""
