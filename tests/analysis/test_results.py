import json
import math

import pytest

from decaylab.analysis.results import load_run, load_runs
from decaylab.errors import InputError
from decaylab.replication import expand


def plan(rep, scale="laptop"):
    return [(spec, parameters) for spec, parameters, _ in expand(rep, scale)]


def test_a_run_reads_its_metrics_when_asked(lab):
    spec = plan(lab.replication())[0][0]
    folder = lab.run(spec, {"test_error": 0.25}, [{"step": 0, "test_error": 0.9}, {"step": 100, "test_error": 0.25}])
    run = load_run(lab.layout, spec.run_id)
    assert (run.run_id, run.steps, run.final, run.diverged_at_step) == (spec.run_id, 100, {"test_error": 0.25}, None)
    assert run.metrics["test_error"].tolist() == [0.9, 0.25]
    (folder / "metrics.parquet").unlink()
    assert len(run.metrics) == 2, "read once"


def damage_json(folder):
    (folder / "summary.json").write_text("{")


def damage_list(folder):
    (folder / "summary.json").write_text("[]")


def change(**keys):
    def damage(folder):
        path = folder / "summary.json"
        value = json.loads(path.read_text()) | keys
        path.write_text(json.dumps({key: item for key, item in value.items() if item is not ...}, default=str))

    return damage


def change_spec(folder):
    path = folder / "summary.json"
    value = json.loads(path.read_text())
    value["spec"]["steps"] = 101
    path.write_text(json.dumps(value))


def drop_final(folder):
    path = folder / "summary.json"
    value = json.loads(path.read_text())
    del value["final"]
    path.write_text(json.dumps(value))


def make_folder(folder):
    (folder / "summary.json").unlink()
    (folder / "summary.json").mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_json, "summary.json: line 1: expected JSON"),
        (damage_list, "summary.json: expected a JSON object"),
        (make_folder, "summary.json: cannot be read"),
        (drop_final, "summary.json: final: this key is required"),
        (change(run_id="other"), "summary.json: run_id: expected run mlp-"),
        (change_spec, "summary.json: spec: expected run mlp-"),
        (change(spec={"data": {"kind": "images"}}), "summary.json: spec: "),
        (change(started_at="yesterday"), "summary.json: started_at: expected an ISO time, got 'yesterday'"),
    ],
)
def test_a_damaged_summary_is_one_line(lab, damage, words):
    planned = plan(lab.replication())
    damage(lab.run(planned[0][0], {"test_error": 0.2}))
    with pytest.raises(InputError) as error:
        load_runs(lab.layout, planned)
    assert words in str(error.value)
    assert str(lab.layout.run(planned[0][0].run_id)) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_in_place_of_the_folder_is_damage_not_absence(lab):
    planned = plan(lab.replication())
    path = lab.layout.run(planned[0][0].run_id)
    path.parent.mkdir(parents=True)
    path.write_text("")
    with pytest.raises(InputError, match="cannot be read"):
        load_runs(lab.layout, planned)


@pytest.mark.parametrize("content", [b"not parquet", None])
def test_damaged_metrics_are_one_line(lab, content):
    spec = plan(lab.replication())[0][0]
    folder = lab.run(spec, {"test_error": 0.2})
    (folder / "metrics.parquet").unlink()
    if content:
        (folder / "metrics.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics.parquet: cannot be read as parquet") as error:
        _ = load_run(lab.layout, spec.run_id).metrics
    assert "\n" not in str(error.value)


def test_metrics_without_rising_steps_are_refused(lab):
    spec = plan(lab.replication())[0][0]
    lab.run(spec, {}, [{"step": 5, "loss": 1.0}, {"step": 0, "loss": 2.0}])
    with pytest.raises(InputError, match="rising order"):
        _ = load_run(lab.layout, spec.run_id).metrics


def test_a_missing_run_is_an_input_error_alone_and_listed_in_a_plan(lab):
    planned = plan(lab.replication())
    with pytest.raises(InputError, match=r"summary.json: no such file"):
        load_run(lab.layout, planned[0][0].run_id)
    lab.run(planned[1][0], {"test_error": 0.2})
    results = load_runs(lab.layout, planned)
    assert list(results.runs) == [planned[1][0].run_id]
    assert len(results.missing) == len(planned) - 1
    assert results.missing[0] == planned[0][0].run_id


def test_arms_are_tidy(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.2, "learning_rate": 0.5, "odd": None})
    results = load_runs(lab.layout, plan(rep))
    arms = results.arms
    assert len(arms) == len(plan(rep)) == 24 + 36
    mlp = arms[arms["grid"] == "mlp"]
    assert set(mlp["learning_rate"]) == {0.1, 0.3}, "a parameter keeps its name"
    assert set(arms["final.learning_rate"]) == {0.5}
    assert arms["odd"].isna().all()
    assert math.isclose(arms["seconds"].sum(), 2 * len(arms))
    assert arms["run_id"].is_unique


def test_curves_select_runs_and_columns(lab):
    rep = lab.replication()
    rows = [{"step": 0, "test_error": 0.9, "x": 1.0}, {"step": 5, "x": 1.0}, {"step": 100, "test_error": 0.3}]
    for spec, _ in plan(rep):
        lab.run(spec, {"test_error": 0.3}, rows)
    results = load_runs(lab.layout, plan(rep))
    curves = results.curves(["test_error"], grid="mlp", seed=0)
    assert set(curves["decay"]) == {"on", "off"}
    assert len(curves) == 4 * 2, "rows without the column are left out"
    assert curves["step"].tolist() == [0, 100] * 4
    assert results.curves(["seed"], grid="none").empty
    assert "metric.decay" in results.curves(["decay", "x"], grid="mlp"), "a parameter keeps its name"
    assert results.curves(["absent"], grid="mlp").empty
