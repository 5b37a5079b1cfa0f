"""A scale that leaves the source's regime says so."""

import shutil

import pytest

from decaylab.files import Layout
from decaylab.replication import replication_file
from decaylab.report import open_report, sections
from decaylab.report.regimes import regimes
from decaylab.workspace import Workspace


@pytest.fixture
def shorter(clone, tmp_path):
    """tiny_run with a laptop scale of a tenth of the steps."""
    shutil.copytree(clone[0] / "replications", tmp_path / "replications")
    file = replication_file(tmp_path, "tiny_run")
    text = file.read_text(encoding="utf-8")
    changed = "\nscales: {laptop: {base: {steps: 10, schedule: {drops: [{step: 5, learning_rate: 0.01}]}}}}\n"
    file.write_text(text + changed, encoding="utf-8")
    return tmp_path


def test_the_same_settings_have_the_same_numbers(clone):
    table = regimes(open_report("tiny_run", Workspace(clone[0], "smoke", clone[1])))
    assert list(table["source"]) == list(table["smoke scale"])
    assert not table["far"].any()
    # weights are counted from the spec, so the source's are known without running it
    assert table[table["number"] == "examples per weight"].iloc[0]["source"] == "0.16"


def test_a_scale_far_from_the_source_says_so(shorter):
    report = open_report("tiny_run", Workspace(shorter, "laptop", Layout(shorter / "results")))
    table = regimes(report).set_index("number")
    assert table.loc["learning rate x decay x steps", "far"]
    assert not table.loc["learning rate / batch size", "far"]
    text = sections.what_we_ran(report)
    far = "learning rate \u00d7 decay \u00d7 steps; epochs; examples per weight"
    assert f"Far from the source&#x27;s (more than a factor of 3): {far}." in text
