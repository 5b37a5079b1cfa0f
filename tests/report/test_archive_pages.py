"""Evidence beside a reader's own runs, and as pages of its own."""

import re
import shutil

import pytest

from decaylab.analysis import filing, restoring
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import load_replication, replication_file
from decaylab.report.archive_pages import build_archive_site, render_archived
from decaylab.report.claims import claim_views
from decaylab.report.site import build_site
from decaylab.workspace import Workspace

FILED = "gpu-procedural-an-invented-processor"


@pytest.fixture
def both(clone, inventor, tmp_path):
    """(root, layout): tiny_run has runs here at smoke scale, and evidence at gpu scale."""
    root = tmp_path / "clone"
    shutil.copytree(clone[0] / "replications", root / "replications")
    layout = Layout(root / "results", root / "reports")
    rep = load_replication(replication_file(root, "tiny_run"))
    inventor[1](root, layout, "tiny_run", "smoke")
    elsewhere = Layout(root / "elsewhere")
    inventor[1](root, elsewhere, "tiny_run", "gpu")
    filing.collect(rep, Workspace(root, "gpu", elsewhere))
    return root, layout


def views(root, layout, scale, name="tiny_run"):
    rep = load_replication(replication_file(root, name))
    return {view["claim"]: view for view in claim_views(rep, Workspace(root, scale, layout))}


def test_evidence_stands_beside_what_ran_here(both):
    root, layout = both
    view = views(root, layout, "smoke")["decay-helps"]
    assert (view["here"], view["origin"], view["scale"]) == (True, None, "smoke")
    (item,) = view["evidence"]
    assert item["label"] == "archived runs on generated images at gpu scale (An invented processor)"
    assert item["link"] == f"archive/tiny_run-{FILED}.html"
    assert (item["verdict"], item["n"]) == ("reproduced", 6)
    assert views(root, layout, "smoke")["only-on-paper"]["evidence"] == []
    # where nothing ran, evidence takes the row, and does not stand beside itself
    view = views(root, layout, "laptop")["decay-helps"]
    assert (view["here"], view["scale"], view["evidence"]) == (False, "gpu", [])


def test_smoke_runs_stand_for_themselves(both):
    """They decide nothing, but a reader who made them looks for them, not for the archive's verdicts."""
    root, layout = both
    view = views(root, layout, "smoke")["only-on-paper"]
    assert (view["verdict"], view["origin"]) == ("not run", None)


def test_a_rendered_report_is_what_evidence_links_to(both):
    root, layout = both
    restoring.restore(FILED, layout.filed(FILED), root)
    report = layout.filed(FILED).report("gpu", "tiny_run")
    report.parent.mkdir(parents=True)
    report.write_text("x")
    link = f"../evidence/{FILED}/gpu/tiny_run.html"
    assert views(root, layout, "smoke")["decay-helps"]["evidence"][0]["link"] == link
    build_archive_site(Workspace(root, layout=layout))
    text = build_site(Workspace(root, "smoke", layout)).read_text(encoding="utf-8")
    assert f'href="{link}"' in text
    assert 'href="../evidence/index.html"' in text
    # the report's own index links from where it lies, and lists nothing beside itself
    view = views(root, layout.filed(FILED), "gpu")["decay-helps"]
    assert (view["here"], view["evidence"], view["scale"]) == (False, [], None)


def test_restored_evidence_is_a_site_of_its_own(both):
    root, layout = both
    names = restoring.restore(FILED, layout.filed(FILED), root)
    assert names == ["tiny_evidence", "tiny_run"]
    index = build_archive_site(Workspace(root, layout=layout))
    assert index == layout.reports / "evidence" / "index.html"
    text = index.read_text(encoding="utf-8")
    assert "scale gpu (smaller than the source&#x27;s)" in text
    assert "An invented processor; data generated images; 72 of 72 planned runs; code of commit 0123456789ab" in text
    page = (index.parent / FILED / "gpu" / "index.html").read_text(encoding="utf-8")
    assert "Shown from archived runs; nothing was trained here" in page
    assert "tiny_never" not in page
    runs = list((index.parent / FILED / "gpu" / "runs").glob("*.html"))
    assert len(runs) == 72
    for path in (index, index.parent / FILED / "gpu" / "index.html", runs[0]):
        for link in re.findall(r'href="([^"#:,]+)[#"]', path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path}: {link}"


def test_without_evidence_the_index_says_so(tmp_path):
    (tmp_path / "replications").mkdir()
    text = build_archive_site(Workspace(tmp_path, layout=Layout(tmp_path / "results", tmp_path / "reports"))).read_text(
        encoding="utf-8"
    )
    assert "No runs have been archived yet." in text


def test_what_is_not_restored_is_one_line(both):
    root, layout = both
    with pytest.raises(InputError, match=f"origin.json: no such file; run `decaylab evidence restore {FILED}` first"):
        render_archived(FILED, "tiny_run", Workspace(root, layout=layout))
    restoring.restore(FILED, layout.filed(FILED), root)
    with pytest.raises(InputError, match="'tiny_never': expected one of tiny_evidence, tiny_run"):
        render_archived(FILED, "tiny_never", Workspace(root, layout=layout))
