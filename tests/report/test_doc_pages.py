import re

from decaylab.files import Layout
from decaylab.report.doc_pages import body, links
from decaylab.report.site import build_site
from decaylab.workspace import Workspace


def write(root):
    (root / "docs").mkdir()
    (root / "replications").mkdir()
    (root / "docs" / "verdicts.md").write_text(
        "# How to read a verdict\n\nSee [power](power.md#seeds), [the code](../src/x.py) and [a paper](https://a.org/b)."
        "\n\n| a | b |\n|---|---|\n| 1 | `x_y` |\n",
        encoding="utf-8",
    )
    (root / "docs" / "power.md").write_text("# Power\n\n## Seeds\n\nMore seeds.\n", encoding="utf-8")
    return Workspace(root, "laptop", Layout(root / "results", root / "reports"))


def test_links_stay_within_the_reports(tmp_path):
    workspace = write(tmp_path)
    html = body(workspace.root / "docs" / "verdicts.md")
    assert re.findall(r'href="([^"]+)"', html) == ["power.html#seeds", "https://a.org/b"]
    assert "the code and" in html
    assert "<h1" not in html
    assert '<div class="scroll" tabindex="0"><table>' in html


def test_headings_have_the_anchors_that_links_between_documents_name(tmp_path):
    workspace = write(tmp_path)
    path = workspace.root / "docs" / "power.md"
    path.write_text("# Power\n\n## Seeds\n\n## What `n` seeds, and looks, can do\n", encoding="utf-8")
    assert re.findall(r'<h2 id="([^"]+)"', body(path)) == ["seeds", "what-n-seeds-and-looks-can-do"]


def test_the_index_leads_to_the_documents_and_they_to_each_other(tmp_path):
    workspace = write(tmp_path)
    assert links(workspace) == [("Power", "docs/power.html"), ("How to read a verdict", "docs/verdicts.html")]
    index = build_site(workspace)
    assert '<a href="docs/verdicts.html">How to read a verdict</a>' in index.read_text(encoding="utf-8")
    page = (index.parent / "docs" / "verdicts.html").read_text(encoding="utf-8")
    assert "<h1>How to read a verdict</h1>" in page
    assert '<a href="../docs/power.html">Power</a>' in page
