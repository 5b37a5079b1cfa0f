import json
import statistics
from pathlib import Path

import pytest

from decaylab.analysis.evidence import collect, slug
from decaylab.analysis.filed import REQUIRED, load_evidence
from decaylab.errors import InputError
from decaylab.replication import expand


def final(p):
    return {"test_error": 0.2 + 0.01 * p["seed"] + 1e-9, "norm.mlp": 1.0, "norm.head": 2.0, "odd": None}


def test_evidence_has_arms_runs_and_the_verdict(lab):
    rep = lab.replication(lab.test(metric="norm.mlp"))
    lab.fill(rep, "laptop", final)
    spec = expand(rep, "laptop")[0][0]
    lab.run(spec, final({"seed": 0}), texts={"completion": "Every effort"})
    path = collect(rep, "laptop", lab.layout, lab.root)
    assert path == lab.root / "replications" / "tiny" / "evidence" / "laptop-procedural-nvidia-h200.json"
    (value,) = load_evidence(lab.root, "tiny")
    assert value["file"] == "replications/tiny/evidence/laptop-procedural-nvidia-h200.json"
    assert value["hardware"] == "NVIDIA H200"
    assert value["machines"] == [{"device": "cuda", "name": "NVIDIA H200", "cpu_count": 2}]
    assert value["versions"] == [{"torch": "2.15"}]
    assert value["data"] == [{"source": "procedural", "sha256": "d" * 64}]
    assert value["metrics"] == ["norm.mlp", "odd", "test_error"], "norm.head is of one group, and no claim reads it"
    assert (value["runs_planned"], len(value["runs"]), value["seconds"]) == (30, 30, 60)
    assert len(value["arms"]) == 4 + 6
    arm = value["arms"][0]
    assert arm["parameters"] == {"grid": "mlp", "learning_rate": 0.1, "decay": "off"}
    assert (arm["n"], arm["seconds"], len(arm["run_ids"])) == (3, 6, 3)
    assert arm["mean"] == [1, None, pytest.approx(0.21)]
    assert arm["sd"] == [0, None, pytest.approx(statistics.stdev([0.2, 0.21, 0.22]))]
    by_id = {run["run_id"]: run for run in value["runs"]}
    assert by_id[arm["run_ids"][1]]["final"] == [1, None, 0.21]
    assert by_id[spec.run_id]["texts"] == {"completion": "Every effort"}
    assert value["verdicts"]["claims"][0]["verdict"] == "inconclusive"


def test_evidence_does_not_change_but_for_its_time(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final)
    first, second = (json.loads(collect(rep, "laptop", lab.layout, lab.root).read_text()) for _ in range(2))
    first.pop("made_at"), second.pop("made_at")
    assert first == second


def test_evidence_of_a_part_of_the_plan(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final, lambda p: p["seed"] == 0)
    value = json.loads(collect(rep, "laptop", lab.layout, lab.root).read_text())
    assert (value["runs_planned"], len(value["runs"])) == (30, 10)
    assert value["arms"][0]["sd"] == [None, None], "one seed has no deviation"
    assert value["verdicts"]["claims"][0]["n"] == 1


def test_a_diverged_member_is_not_hidden_in_a_mean(lab):
    rep = lab.replication()
    for spec, p, _ in expand(rep, "laptop"):
        lost = p["seed"] == 1
        lab.run(spec, {"test_error": None if lost else 0.2}, diverged_at_step=7 if lost else None)
    value = json.loads(collect(rep, "laptop", lab.layout, lab.root).read_text())
    assert value["arms"][0]["mean"] == [None]
    assert sorted(run["diverged_at_step"] or 0 for run in value["runs"]) == [0] * 20 + [7] * 10


def test_many_runs_stay_small(lab):
    grid = {
        "label": "large",
        "axes": {"learning_rate": [0.1 * i for i in range(1, 11)], "weight_decay": [0, 0.1], "seed": list(range(10))},
    }
    arm = {"grid": "large", "learning_rate": 0.1}
    rep = lab.replication(
        lab.test(arm=arm | {"weight_decay": 0.1}, minus=arm | {"weight_decay": 0}),
        grids={"large": grid},
        scales={},
    )
    names = [f"metric_{i}" for i in range(50)] + [f"norm.{i}" for i in range(50)]
    lab.fill(rep, "gpu", lambda p: {"test_error": p["seed"] / 3} | {name: p["seed"] / 7 for name in names})
    assert collect(rep, "gpu", lab.layout, lab.root).stat().st_size < 300_000


def test_nothing_to_collect_is_one_line(lab):
    with pytest.raises(InputError, match="no run of tiny at gpu scale; run `snakemake tiny` first"):
        collect(lab.replication(), "gpu", lab.layout, lab.root)


def test_machines_are_joined_in_the_name(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final)
    lab.run(expand(rep, "laptop")[0][0], final({"seed": 0}), hardware={"name": "Xeon(R) Gold @ 2.1 GHz"})
    assert collect(rep, "laptop", lab.layout, lab.root).name == "laptop-procedural-nvidia-h200-xeon-r-gold-2-1-ghz.json"


@pytest.mark.parametrize(("text", "name"), [("NVIDIA H200", "nvidia-h200"), ("../x", "x"), ("", "unknown")])
def test_slug(text, name):
    assert slug(text) == name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "replication: this key is required"),
        ("[]", "replication: this key is required"),
        ("{", "expected JSON"),
        (
            json.dumps(dict.fromkeys(REQUIRED) | {"replication": "other"}),
            "replication: expected tiny, as the folder, got other",
        ),
    ],
)
def test_damaged_evidence_is_one_line(lab, content, words):
    folder = lab.root / "replications" / "tiny" / "evidence"
    folder.mkdir(parents=True)
    (folder / "gpu-x.json").write_text(content)
    with pytest.raises(InputError, match=words) as error:
        load_evidence(lab.root, "tiny")
    assert "\n" not in str(error.value)
    assert load_evidence(lab.root, "none") == []


def test_committed_evidence_is_small_and_readable():
    root = Path(__file__).parents[2]
    for path in sorted(root.glob("replications/*/evidence/*.json")):
        assert path.stat().st_size < 300_000, path
        assert load_evidence(root, path.parents[1].name), path
