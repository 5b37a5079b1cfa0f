import shutil

import pandas as pd
import pytest

from decaylab.errors import InputError
from decaylab.files import Layout, read_json, write_json
from decaylab.replication import expand, load_replication, replication_file
from decaylab.report.claims import claim_views
from decaylab.report.load import open_report
from decaylab.workspace import Workspace


@pytest.fixture
def report(clone):
    root, layout = clone
    return open_report("tiny_run", Workspace(root, "smoke", layout))


def test_runs_have_parameters_and_final_metrics(report):
    assert len(report.runs) == 36
    assert {"grid", "seed", "weight_decay", "test_error", "weight_norm", "diverged", "predicted_seconds"} <= set(
        report.runs
    )
    assert set(report.select(weight_decay=[0, 0.1], seed=1)["weight_decay"]) == {0, 0.1}
    assert report.select(no_such_parameter=1).empty
    assert report.chance_level(weight_decay=0) == pytest.approx(0.9)
    assert report.drop() == 50


def test_curves_are_long_and_keep_the_order_of_metrics(report):
    frame = report.curves("weight_norm", "train_loss", "never_recorded", learning_rate=0.1)
    assert list(dict.fromkeys(frame["metric"])) == ["weight_norm", "train_loss"]
    assert set(frame["learning_rate"]) == {0.1}
    assert frame["fraction"].max() == 1
    assert set(frame["network"]) == {"A small network"}
    assert not frame["value"].isna().any()
    assert report.curves("train_loss", grid="absent").empty


def test_a_diverged_run_counts_at_chance_level(clone, inventor, tmp_path):
    root, _ = clone
    layout = Layout(tmp_path)
    for spec, _, _ in expand(load_replication(replication_file(root, "tiny_run")), "smoke"):
        inventor[0](layout, spec, diverges=spec.seed == 1)
    runs = open_report("tiny_run", Workspace(root, "smoke", layout)).runs
    assert (runs.loc[runs["seed"] == 1, "test_error"] - 0.9).abs().max() < 1e-9
    assert runs.loc[runs["seed"] == 0, "test_error"].max() < 0.5
    assert set(runs.loc[runs["diverged"] == 1, "seed"]) == {1}


def test_summary_has_one_row_an_arm(report):
    table = report.summary(["weight_decay"], "test_error", learning_rate=0.1)
    assert list(table["seeds"]) == [6, 6, 6]
    assert "\u00b1" in table["test_error"].iloc[0]
    assert report.summary(["no_such_parameter"], "test_error").empty


def test_arms_say_what_is_missing(report):
    row = report.arms.iloc[0]
    assert (row["planned"], row["finished"]) == (36, 36)
    assert "weight decay: 0, 0.01, 0.1" in row["varied"]


def test_arms_name_only_values_that_are_run(clone, tmp_path):
    """`only` may leave out a value that the axis still has."""
    shutil.copytree(clone[0] / "replications", tmp_path / "replications")
    file = replication_file(tmp_path, "tiny_run")
    text = file.read_text(encoding="utf-8")
    only = text.replace("    axes:\n", "    only: [{weight_decay: [0, 0.1]}]\n    axes:\n", 1)
    file.write_text(only.split("regimes:")[0] + "claims: []\n", encoding="utf-8")
    report = open_report("tiny_run", Workspace(tmp_path, "laptop", Layout(tmp_path / "none")))
    assert "weight decay: 0, 0.1;" in report.arms["varied"].iloc[0]


def test_without_results_everything_is_empty_but_there(clone, tmp_path):
    report = open_report("tiny_never", Workspace(clone[0], "smoke", Layout(tmp_path / "none")))
    assert report.runs.empty
    assert report.curves("train_loss").empty
    assert report.arms["finished"].sum() == 0
    assert report.verdicts is None
    assert {claim["verdict"] for claim in report.claims} == {"not run"}


def test_claims_come_from_here_then_from_evidence(clone):
    root, layout = clone

    def views(name):
        rep = load_replication(replication_file(root, name))
        return {view["claim"]: view for view in claim_views(rep, Workspace(root, "smoke", layout))}

    here = views("tiny_run")["decay-helps"]
    assert (here["verdict"], here["origin"], here["n"]) == ("reproduced", None, 6)
    assert here["difference_from_source"] == pytest.approx(here["estimate"] + 0.05)
    assert all(run["link"] for run in here["runs"])
    elsewhere = views("tiny_evidence")["decay-helps"]
    assert elsewhere["scale"] == "gpu"
    assert elsewhere["origin"].endswith("archive/tiny_evidence-gpu-procedural-an-invented-processor.html")
    assert not any(run["link"] for run in elsewhere["runs"])
    paper = views("tiny_run")["only-on-paper"]
    assert paper["verdict"] == "not run"
    assert paper["reason"]


def test_a_claim_edited_after_its_verdict_is_marked(clone, tmp_path):
    root, layout = clone
    copy = tmp_path / "clone"
    shutil.copytree(root / "replications", copy / "replications")
    file = replication_file(copy, "tiny_run")
    file.write_text(file.read_text(encoding="utf-8").replace("decay of 0.1", "decay of 0.1 (edited)").replace(
        "Decay of 0.1 lowers", "Decay of a tenth lowers"), encoding="utf-8")  # fmt: skip
    marks = {
        view["claim"]: view["text_changed"]
        for view in claim_views(load_replication(file), Workspace(copy, "smoke", layout))
    }
    assert marks == {"decay-helps": True, "decay-hurts": False, "only-on-paper": False}


def test_wrong_input_is_one_line(clone, tmp_path):
    root, _ = clone
    with pytest.raises(InputError, match=r"workspace: expected what Workspace\.to_json writes, got huge"):
        open_report("tiny_run", "huge")
    broken = Layout(tmp_path)
    write_json(broken.verdicts("smoke", "tiny_run"), {"claims": "none"})
    with pytest.raises(InputError, match=r"tiny_run\.json: expected a JSON object with a list `claims`"):
        claim_views(load_replication(replication_file(root, "tiny_run")), Workspace(root, "smoke", broken))


def test_numbers_agree_with_the_files(report, clone):
    row = report.runs.iloc[0]
    summary = read_json(clone[1].summary(row["run_id"]))
    assert row["test_error"] == summary["final"]["test_error"]
    frame = pd.read_parquet(clone[1].metrics(row["run_id"]))
    curve = report.curves("test_error")
    curve = curve[curve["run_id"] == row["run_id"]]
    assert list(curve["value"]) == list(frame["test_error"].dropna())
