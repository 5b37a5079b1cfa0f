"""The pages in a real browser without a network."""

import re

import pytest

from decaylab.analysis.filing import collect
from decaylab.analysis.restoring import restore
from decaylab.files import Layout
from decaylab.replication import list_replications, load_replication, replication_file
from decaylab.report.archive_pages import build_archive_site, render_archived
from decaylab.report.notebook import render
from decaylab.report.site import build_site
from decaylab.workspace import Workspace


def figures_of(page):
    return re.findall(r"<figure.*?</figure>", page.read_text(encoding="utf-8"), re.S)


@pytest.mark.slow
def test_pages_work_in_a_browser_without_a_network(clone, repository, inventor, tmp_path, browse):
    root, layout = clone
    layout = Layout(layout.results, tmp_path / "reports")
    index = build_site(Workspace(root, "smoke", layout))
    real_root, _ = repository
    real = Layout(tmp_path / "results", tmp_path / "real")
    workspace = Workspace(real_root, "smoke", real)
    name = list_replications(real_root)[0]
    inventor[1](real_root, real, name, "smoke")
    report = render(name, workspace)
    build_site(workspace)
    # the same runs, filed and restored
    filed = collect(load_replication(replication_file(real_root, name)), workspace).stem
    restore(filed, real.filed(filed), real_root)
    shown = render_archived(filed, name, workspace)
    every = build_archive_site(workspace)
    assert figures_of(shown) == figures_of(report)
    found = browse([index, next(index.parent.glob("runs/*.html")), report])
    assert len(browse([every, shown])[shown.name]["figures"]) >= 5
    assert len(found[report.name]["figures"]) >= 5
    tools = found[index.name]["tools"]
    assert tools["visible"]
    assert (tools["all"], tools["filtered"]) == (9, 7)
    assert tools["sorted"] == ["reproduced"] * 2 + ["contradicted"] * 2 + ["not run"] * 5
