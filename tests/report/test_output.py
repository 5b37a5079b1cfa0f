"""A figure on a page leads back to its experiment and to its data."""

import re

import pandas as pd
import pytest

from decaylab.files import Layout
from decaylab.replication import replication_file
from decaylab.report import figures, open_report, sections
from decaylab.report.output import PAGE
from decaylab.workspace import Workspace


@pytest.fixture
def report(clone, tmp_path):
    root, layout = clone
    return open_report("tiny_run", Workspace(root, "smoke", Layout(layout.results, tmp_path / "reports")))


def lines_of(report):
    return replication_file(report.workspace.root, "tiny_run").read_text(encoding="utf-8").splitlines()


def test_a_figure_names_its_grid_its_runs_and_its_data(report, tmp_path):
    runs = report.select(learning_rate=0.1)
    html = report.show(figures.final_values(runs, "test_error"), "Test error <at the end>.").html
    assert "Test error &lt;at the end&gt;." in html
    assert "Runs of A small network" in html
    line = int(re.search(r'href="yaml/tiny_run.html#L(\d+)"', html)[1])
    assert lines_of(report)[line - 1].strip() == "main:"
    assert set(re.findall(r'href="runs/([^"]+).html"', html)) == set(runs["run_id"])
    assert "<summary>18 runs</summary>" in html
    data = pd.read_csv(tmp_path / "reports" / "smoke" / re.search(r'href="(data/[^"]+)"', html)[1])
    assert data["test_error"].tolist() == pytest.approx(runs["test_error"].tolist(), rel=1e-6)
    assert data["run_id"].tolist() == runs["run_id"].tolist()


def test_figures_of_one_kind_have_files_of_their_own(report, tmp_path):
    chart = figures.final_values(report.runs, "test_error")
    for caption in ("one", "two", "one"):
        report.show(chart, caption)
    names = sorted(path.name for path in (tmp_path / "reports" / "smoke" / "data").iterdir())
    assert names == ["tiny_run-final-values-2.csv", "tiny_run-final-values.csv"]


def test_the_forest_names_claims(report):
    html = sections.claims_forest(report).html
    found = re.findall(r'(decay-\w+), <a href="yaml/tiny_run.html#L(\d+)">', html)
    assert [name for name, _ in found] == ["decay-helps", "decay-hurts"]
    for name, line in found:
        assert lines_of(report)[int(line) - 1].strip() == f"- id: {name}"


def test_elsewhere_a_figure_is_a_picture_with_its_caption(report):
    picture, caption = report.show(figures.final_values(report.runs, "test_error"), "A caption.").bundles()
    assert set(picture) == {PAGE, "image/png", "text/plain"}
    assert picture["image/png"].startswith("iVBORw0KGgo")
    assert picture["text/plain"].startswith("Chart. ")
    assert caption == {PAGE: "", "text/markdown": "A caption.", "text/plain": "A caption."}


def test_what_cannot_be_drawn_is_said(report, tmp_path):
    assert "No run at this scale has what this figure needs: A caption" in report.show(None, "A caption")
    assert not (tmp_path / "reports").exists()
