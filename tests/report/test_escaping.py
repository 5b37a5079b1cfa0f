"""Nothing that stands in a file or a result becomes markup: a script is planted in each, and every page is parsed."""

import ast
import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from decaylab.analysis import filing, restoring
from decaylab.analysis.judge import judge
from decaylab.errors import InputError
from decaylab.files import Layout, read_json, write_json
from decaylab.ledger import ledger_file
from decaylab.replication import expand, load_replication, replication_file
from decaylab.report import notebook
from decaylab.report.archive_pages import build_archive_site
from decaylab.report.output import _no_formula
from decaylab.report.site import build_site
from decaylab.sources import choose
from decaylab.workspace import Workspace

NAME = "planted"


def planted(field: str) -> str:
    """Leaves an attribute, an element and a script, if anything is not escaped; and is a formula for mathtext."""
    return f"$x$ \"'></title></script><planted onplanted=1>{field}</planted> <b"


class Page(HTMLParser):
    """What a browser would make of a page: its text, and what was let in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.let_in: list[str] = []
        self.inside = ""
        self.said: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        if "planted" in tag or any("planted" in name or re.match("on", name) for name, _ in attrs):
            self.let_in.append(str(self.get_starttag_text()))
        if any(
            name in ("href", "src") and re.match(r"\s*(javascript|data:text)", value or "") for name, value in attrs
        ):
            self.let_in.append(str(self.get_starttag_text()))
        self.note(" ".join(value or "" for _, value in attrs))

    def handle_data(self, data):
        if self.inside in ("script", "style") and "planted" in data:
            self.let_in.append(data)
        self.note(data)

    def handle_endtag(self, tag):
        self.inside = ""

    def note(self, text: str) -> None:
        self.said |= set(re.findall(r"<planted onplanted=1>\s*([a-z ]+)", text))


def replication(source: str, digest: str) -> dict[str, Any]:
    arm = {"grid": "main", "weight_decay": 0.1}
    return {
        "title": planted("title"),
        "question": planted("question"),
        "row": 1,
        "references": [
            {
                "id": "X",
                "title": planted("reference title"),
                "authors": planted("authors"),
                "year": 2020,
                "url": "https://example.org/paper",
                "locator": planted("reference locator"),
            },
            # its id is a word of the markup that stands for the first
            {"id": "href", "title": "Another", "url": "https://example.org/other", "locator": "all"},
        ],
        "base": {
            "data": {"kind": "images", "source": source, "sha256": digest},
            "model": {"kind": "mlp", "width": 8},
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "steps": 100,
            "batch_size": 10,
            "evaluation": {"every": 10, "log_every": 5},
        },
        "grids": {
            "main": {
                "label": planted("grid label"),
                "axes": {
                    "weight_decay": [0, 0.1],
                    "net": {planted("level"): {"model": {"width": 8}}, "other": {"model": {"width": 9}}},
                    "seed": [0, 1, 2, 3],
                },
            }
        },
        "scales": {"smoke": {"note": planted("scale note")}},
        "regimes": {planted("regime label"): {"among": arm | {"net": "other"}}},
        "claims": [
            {
                "id": f"claim-{number}",
                "statement": planted("statement"),
                "locator": planted("locator") + " X",
                "unit": planted("unit"),
                "source_value": {"value": -0.1, "text": planted("source value"), "same_setting": ["smoke"]},
                "tests": [
                    {
                        "name": planted("test name") + extra,
                        "metric": "test_error",
                        "arm": arm | {"net": "other"},
                        "minus": {"grid": "main", "weight_decay": 0, "net": "other"},
                        "direction": "below",
                        "smallest_effect": 0.01,
                    }
                    for extra in ("", "2")
                ],
                "also": [{"label": planted("variant"), "arm": {"net": planted("level")}}],
                "preconditions": [
                    {
                        "name": planted("precondition"),
                        "metric": "train_error",
                        "among": arm | {"net": "other"},
                        "expect": f"below {threshold}",
                    }
                ],
                "scales": ["smoke", "gpu"],
                "note": planted("claim note"),
            }
            for number, threshold in enumerate((1, 0))  # the second cannot be tested
        ],
    }


LEDGER = {
    "sources": {"S000": {"title": planted("ledger title"), "authors": planted("ledger authors"), "year": 2020}},
    "entries": [
        {"id": "S000-1", "statement": planted("entry"), "claims": [f"{NAME}/claim-0"], "partly": planted("partly")},
        {
            "id": "S000-2",
            "statement": "x",
            "document": {"outcome": "refuted", "name": planted("document"), "finding": planted("finding")},
        },
        {"id": "S000-3", "statement": "y", "untestable": planted("untestable")},
    ],
}
CELLS = f"""
from decaylab.report import figures, open_report
report = open_report("{NAME}", workspace)
---
report.show(figures.final_values(report.select(grid="main"), "test_error", x="net", hue="weight_decay"), CAPTION)
---
report.show(figures.training_curves(report.curves("train_loss", grid="main")), CAPTION)
---
report.show(figures.grid_heatmap(report.select(grid="main"), "test_error", rows="net"), CAPTION)
"""


def executed_here(source: Path, executed: Path, parameters: dict[str, Any], cwd: Path, change: Any) -> None:
    """What papermill does, in this process; and the output of a cell that warned and one that failed."""
    opened = nbformat.read(source, as_version=4)
    change(opened, str(source))
    namespace: dict[str, Any] = {"CAPTION": planted("caption")} | parameters
    for cell in opened.cells:
        if cell.cell_type != "code" or "parameters" in cell.metadata.get("tags", []):
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), namespace)
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace) if last else None
        if hasattr(shown, "bundles"):
            cell.outputs = [new_output("display_data", data=dict(bundle)) for bundle in shown.bundles()]
        elif shown is not None:
            cell.outputs = [new_output("display_data", data={"text/html": str(shown)})]
    text = planted("printed")
    opened.cells.append(
        new_code_cell(
            "1",
            outputs=[
                new_output("stream", name="stdout", text=text),
                new_output("stream", name="stderr", text=planted("warned")),
                new_output("error", ename="ValueError", evalue=text, traceback=[planted("traceback")]),
                new_output("display_data", data={"text/plain": planted("plain")}),
            ],
        )
    )
    executed.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(opened, executed)


@pytest.fixture(scope="module")
def site(tmp_path_factory, inventor):
    """All pages of a clone in which every text is hostile: index, report, runs, ledger, docs, YAML, evidence."""
    root = tmp_path_factory.mktemp("clone")
    file = root / "a <planted onplanted=1>data file.npz"
    file.write_bytes(b"hostile by its name only")
    choice = choose("images", str(file))
    value = replication(choice.source, choice.sha256)
    path = replication_file(root, NAME)
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    ledger_file(root).write_text(yaml.safe_dump(LEDGER), encoding="utf-8")
    (root / "docs").mkdir()
    (root / "docs" / "a.md").write_text(f"# {planted('heading')}\n\nText.\n")
    cells = [new_markdown_cell("# A title"), new_code_cell('workspace = ""', metadata={"tags": ["parameters"]})]
    (root / "notebooks").mkdir()
    book = root / "notebooks" / f"{NAME}.ipynb"
    nbformat.write(new_notebook(cells=cells + [new_code_cell(text.strip()) for text in CELLS.split("---")]), book)

    def make(layout: Layout, scale: str) -> Workspace:
        space = Workspace(root, scale, layout, {"images": choice})
        rep = load_replication(path)
        for spec, _, _ in expand(rep, scale):
            inventor[0](layout, spec)
            summary = read_json(layout.summary(spec.run_id))
            summary["texts"] = {"completion": planted("completion")}
            summary["hardware"]["name"] = planted("hardware")
            summary["versions"]["torch"] = planted("version")
            write_json(layout.summary(spec.run_id), summary)
        write_json(
            layout.results / "data" / "0" / "meta.json",
            {
                "source": choice.fields()["source"],
                "found": {"read": {}, "skipped": {}, "notes": [planted("class name")]},
            },
        )
        judge(rep, space).write(layout)
        return space

    layout = Layout(root / "results", root / "reports")
    space = make(layout, "smoke")
    elsewhere = make(Layout(root / "elsewhere"), "gpu")
    filing.collect(load_replication(path), elsewhere)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "execute", executed_here)
        notebook.render(NAME, space)
    build_site(space)
    (filed,) = {item.stem for item in (path.parent / "evidence").glob("*.json")}
    restoring.restore(filed, layout.filed(filed), root)
    build_archive_site(Workspace(root, layout=layout))
    return root / "reports"


def test_nothing_is_let_in_on_any_page(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    kinds = {path.relative_to(site).parts[1 if path.is_relative_to(site / "smoke") else 0] for path in pages}
    assert {"index.html", "ledger.html", f"{NAME}.html", "runs", "docs", "yaml", "archive", "evidence"} <= kinds
    assert {str(path): page.let_in for path, page in pages.items() if page.let_in} == {}
    said = set().union(*(page.said for page in pages.values()))
    planted_in = set(re.findall(r'planted\("([a-z ]+)"\)', Path(__file__).read_text(encoding="utf-8")))
    missing = planted_in - said
    assert missing == set(), "never shown, so nothing is known of it"
    assert "data file" in said


def test_tables_of_data_run_nothing_in_a_spreadsheet(tmp_path):
    frame = pd.DataFrame({"a": ["=1+1", "@x", "plain", "+1", "-1"], "b": [-1.0] * 5})
    assert frame["a"].map(_no_formula).tolist() == ["'=1+1", "'@x", "plain", "'+1", "'-1"]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", 'https://x" onclick="y', "//x"])
def test_pages_link_to_the_web_only(tmp_path, url):
    path = replication_file(tmp_path, NAME)
    path.parent.mkdir(parents=True)
    value = copy.deepcopy(replication("procedural", ""))
    value["references"][0]["url"] = url
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"references\.0\.url: "):
        load_replication(path)
