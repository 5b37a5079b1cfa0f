import ast
import json
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import list_replications
from decaylab.report import notebook
from decaylab.report.sections import compose
from decaylab.workspace import Workspace

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def run_cells(path: Path, workspace: Workspace) -> list[str]:
    """What each code cell shows on a page, run in this process: no kernel to wait for."""
    shown: list = []
    namespace: dict = {"display": shown.append}
    for cell in compose(nbformat.read(path, as_version=4), path.name).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), namespace)
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), path.name, "eval"), namespace))
        elif "parameters" in cell.metadata.get("tags", []):
            namespace[notebook.PARAMETER] = workspace.to_json()
    return [getattr(item, "html", item) for item in shown if item is not None]


def test_every_replication_has_a_notebook():
    assert {path.stem for path in NOTEBOOKS} == set(list_replications(NOTEBOOKS[0].parents[1]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestCommitted:
    def test_is_stripped(self, path):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
            assert set(cell["metadata"]) <= {"tags"}

    def test_has_the_environments_kernel_and_nothing_of_a_machine(self, path):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        assert metadata["kernelspec"]["name"] == notebook.KERNEL
        assert set(metadata) == {"kernelspec", "language_info"}

    def test_takes_what_render_passes(self, path):
        parameters = papermill.inspect_notebook(str(path))
        assert {name: item["default"] for name, item in parameters.items()} == {notebook.PARAMETER: '""'}
        opened = f'report = open_report("{path.stem}", {notebook.PARAMETER})'
        assert opened in path.read_text(encoding="utf-8").replace('\\"', '"')

    def test_does_not_import_torch(self, path):
        code = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        assert not re.search(r"\btorch\b", code)

    @pytest.mark.parametrize("skip", [None, 0, 3], ids=["no runs", "all runs", "some runs"])
    def test_survives_what_has_run(self, path, skip, repository, inventor, tmp_path):
        root, _ = repository
        if skip is not None:
            inventor[1](root, Layout(tmp_path), path.stem, "smoke", skip)
        shown = run_cells(path, Workspace(root, "smoke", Layout(tmp_path, tmp_path / "reports")))
        assert len(shown) > 5
        # a claim that is not judged at smoke scale has no estimate to show
        absent = [text for text in shown if "No run at this scale" in text]
        missing = sum("Estimate and interval over seeds." not in text for text in absent)
        assert missing == 0 if skip == 0 else True
        if skip is None:
            assert not any("<svg " in text.replace('<svg class="icon"', "") for text in shown)


@pytest.fixture
def small(clone, tmp_path):
    """A notebook that takes the parameters and shows one of each kind of output."""
    cells = [
        new_markdown_cell("# Title\n\nSome *text*, and a table:\n\n| a | b |\n|---|---|\n| 1 | 2 |"),
        new_code_cell(f'{notebook.PARAMETER} = ""  # type: str'),
        new_code_cell('from decaylab.report import open_report\nreport = open_report("tiny_run", workspace)'),
        new_code_cell(
            'from decaylab.report import figures\nprint("a < b")\nruns = report.select(learning_rate=0.1)\n'
            'report.show(figures.final_values(runs, "test_error"), "Test error <at the end>.")'
        ),
        new_code_cell("import os\nassert os.path.samefile(os.getcwd(), report.workspace.root)\n1 + 1"),
        new_markdown_cell("The last word."),
    ]
    cells[1].metadata["tags"] = ["parameters"]
    path = tmp_path / "small.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_unknown_parameters_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"small\.ipynb: parameter scael: unknown; its parameters cell has workspace"):
        notebook.execute(small, tmp_path / "out.ipynb", {"scael": "smoke"}, tmp_path)
    assert not (tmp_path / "out.ipynb").exists()
    with pytest.raises(InputError, match=r"none\.ipynb: no such notebook"):
        notebook.execute(tmp_path / "none.ipynb", tmp_path / "out.ipynb", {}, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b"{}", b'{"cells": 3, "nbformat": 4}', b"\xff\xfe\x00"])
def test_a_file_that_is_no_notebook_is_one_line(tmp_path, content):
    path = tmp_path / "damaged.ipynb"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged\.ipynb: expected a notebook") as caught:
        notebook.execute(path, tmp_path / "out.ipynb", {}, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.ipynb").exists()


@pytest.mark.slow
def test_a_notebook_without_a_kernel_gets_the_environments_own(small, tmp_path):
    bare = nbformat.read(small, as_version=4)
    bare.metadata.clear()
    bare.cells = bare.cells[:2]
    nbformat.write(bare, small)
    notebook.execute(small, tmp_path / "out.ipynb", {notebook.PARAMETER: "given"}, tmp_path)
    assert "given" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.slow
def test_render_makes_a_page_without_traces_of_the_run(small, clone, tmp_path):
    root, layout = clone
    layout = Layout(layout.results, tmp_path / "reports")
    path = notebook.render("tiny_run", Workspace(root, "smoke", layout), notebook=small)
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "reports/smoke/tiny_run.html"
    assert "a &lt; b" in text
    assert text.count("<h1>") == 1
    contents = text.split('<nav class="contents"')[1].split("</nav>")[0]
    assert re.findall(r'href="#([^"]+)"', contents) == [
        "found", "what-we-ran", "claims-and-verdicts", "cost", "references",
    ]  # fmt: skip
    assert "Does not hold here: decay of 0.01 raises the test error." in text
    assert "An invented paper" in text
    assert "<h1>Tiny run</h1>" in text
    assert "An invented processor" in text
    assert '<details class="code">' in text
    assert str(root) not in text
    assert (root / "logs/notebooks/smoke/tiny_run.ipynb").exists()
    again = notebook.render("tiny_run", Workspace(root, "smoke", layout), notebook=small)
    assert again.read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_a_failing_cell_leaves_the_notebook_to_read_and_no_page(small, clone, tmp_path):
    root, layout = clone
    broken = nbformat.read(small, as_version=4)
    broken.cells.append(new_code_cell("1 / 0"))
    nbformat.write(broken, small)
    layout = Layout(layout.results, tmp_path / "reports")
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        notebook.render("tiny_run", Workspace(root, "smoke", layout), notebook=small)
    assert not layout.report("smoke", "tiny_run").exists()
    assert "ZeroDivisionError" in (root / "logs/notebooks/smoke/tiny_run.ipynb").read_text(encoding="utf-8")


@pytest.mark.slow
def test_notebooks_at_the_same_moment_have_sockets_of_their_own(tmp_path):
    """With jupyter's names of sockets, in the working directory, one of two waited for the other's kernel for good."""
    source = tmp_path / "where.ipynb"
    cells = [new_code_cell("from ipykernel.connect import get_connection_info\nget_connection_info(unpack=True)['ip']")]
    metadata = {"kernelspec": {"name": notebook.KERNEL, "display_name": "Python", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), source)
    places = [tmp_path / f"{number}.ipynb" for number in range(3)]
    # processes, as the workflow has them; papermill's loop wants a main thread
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(notebook.execute, [source] * 3, places, [{}] * 3, [tmp_path] * 3))
    found = {nbformat.read(place, as_version=4).cells[-1].outputs[0]["data"]["text/plain"] for place in places}
    assert len(found) == 3
    assert not any(name.strip("'").startswith("kernel") for name in found)
    assert not list(tmp_path.glob("*ipc*"))
