"""The pages in a real browser without a network."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from decaylab.analysis.filing import collect
from decaylab.analysis.restoring import restore
from decaylab.files import Layout
from decaylab.replication import list_replications, load_replication, replication_file
from decaylab.report.archive_pages import build_archive_site, render_archived
from decaylab.report.notebook import render
from decaylab.report.site import build_site
from decaylab.workspace import Workspace

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Pages:
    """One page of each kind."""

    index: Path
    """of invented replications"""
    ledger: Path
    run: Path
    yaml: Path
    archive: Path
    """archived runs, summed up"""
    doc: Path
    report: Path
    """of a real notebook"""
    restored: Path
    """the same, from the same runs after they were filed and restored"""
    evidence: Path
    """the index of all archives"""


@pytest.fixture(scope="module")
def pages(clone, repository, inventor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    root, layout = clone
    index = build_site(Workspace(root, "smoke", Layout(layout.results, folder / "reports")))
    real_root, _ = repository
    real = Layout(folder / "results", folder / "real")
    workspace = Workspace(real_root, "smoke", real)
    name = list_replications(real_root)[0]
    inventor[1](real_root, real, name, "smoke")
    report = render(name, workspace)
    build_site(workspace)
    filed = collect(load_replication(replication_file(real_root, name)), workspace).stem
    restore(filed, real.filed(filed), real_root)
    restored = render_archived(filed, name, workspace)

    def one(of: Path, pattern: str) -> Path:
        return sorted(of.parent.glob(pattern))[0]

    return Pages(
        index, index.parent / "ledger.html", one(index, "runs/*.html"), one(index, "yaml/*.html"),
        one(index, "archive/*.html"), one(report, "docs/*.html"), report, restored, build_archive_site(workspace),
    )  # fmt: skip


def figures_of(page):
    return re.findall(r"<figure.*?</figure>", page.read_text(encoding="utf-8"), re.S)


def test_pages_work_without_a_network(pages, browse):
    found = browse([pages.index, pages.ledger, pages.run, pages.yaml, pages.archive, pages.doc, pages.report])
    assert len(found[pages.report.name]["figures"]) >= 5
    tools = found[pages.index.name]["tools"]
    assert tools["visible"]
    assert (tools["all"], tools["filtered"]) == (9, 7)
    assert tools["sorted"] == ["reproduced"] * 2 + ["contradicted"] * 2 + ["not run"] * 5


def test_restored_runs_make_the_same_figures(pages, browse):
    assert figures_of(pages.restored) == figures_of(pages.report)
    assert len(browse([pages.evidence, pages.restored])[pages.restored.name]["figures"]) >= 5


def test_a_folder_of_real_reports_may_travel(pages, check_folder):
    folder = pages.report.parents[1]
    found = check_folder(folder, folder)
    assert {page.resolve() for page in (pages.report, pages.restored, pages.evidence)} <= found.keys()


def test_pages_are_accessible(pages, violations):
    assert violations(list(vars(pages).values())) == []
