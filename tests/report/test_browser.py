"""The pages in a real browser without a network."""

import pytest

from decaylab.files import Layout
from decaylab.report.notebook import render
from decaylab.report.site import build_site


@pytest.mark.slow
def test_pages_work_in_a_browser_without_a_network(clone, repository, inventor, tmp_path, browse):
    root, layout = clone
    layout = Layout(layout.results, tmp_path / "reports")
    index = build_site("smoke", layout, root)
    real_root, _ = repository
    real = Layout(tmp_path / "results", tmp_path / "real")
    inventor[1](real_root, real, "loss_stabilization", "smoke")
    report = render("loss_stabilization", "smoke", real, real_root)
    build_site("smoke", real, real_root)
    found = browse([index, next(index.parent.glob("runs/*.html")), report])
    assert len(found[report.name]["figures"]) >= 5
    tools = found[index.name]["tools"]
    assert tools["visible"]
    assert (tools["all"], tools["filtered"]) == (9, 7)
    assert tools["sorted"] == ["reproduced"] * 2 + ["contradicted"] * 2 + ["not run"] * 5
