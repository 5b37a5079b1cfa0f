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
    known = table[table["number"] != "examples per weight"]
    assert list(known["source"]) == list(known["smoke scale"])
    assert not known["far"].any()
    # 1,010 examples of ten images a step; the invented network has 12,345 weights
    per_weight = table[table["number"] == "examples per weight"].iloc[0]
    assert (per_weight["source"], per_weight["smoke scale"]) == ("1.01", "0.0818")


def test_a_scale_far_from_the_source_says_so(shorter):
    report = open_report("tiny_run", Workspace(shorter, "laptop", Layout(shorter / "results")))
    table = regimes(report).set_index("number")
    assert table.loc["learning rate x decay x steps", "far"]
    assert not table.loc["learning rate / batch size", "far"]
    text = sections.what_we_ran(report)
    assert "Far from the source&#x27;s (more than a factor of 3): learning rate x decay x steps; epochs." in text
