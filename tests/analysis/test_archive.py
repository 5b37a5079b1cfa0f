import io
import json
import shutil
import statistics
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from decaylab.analysis.archive import REQUIRED, load_evidence, read_origin
from decaylab.analysis.filing import add, collect, slug
from decaylab.analysis.judge import judge
from decaylab.analysis.pack import RUNS, write_pack
from decaylab.analysis.preregistration import register_claims
from decaylab.analysis.restoring import restore, restored_verdicts
from decaylab.analysis.results import load_run
from decaylab.analysis.run_table import write_table
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import arm_key, expand, plan_runs, select
from decaylab.seeds import changing_seeds
from decaylab.sources import Choice, choose
from decaylab.workspace import Workspace


def final(p):
    return {"test_error": 0.2 + 0.01 * p["seed"] + 1e-9, "norm.mlp": 1.0, "norm.head": 2.0, "odd": None}


def test_evidence_has_arms_runs_and_the_verdict(lab):
    rep = lab.replication(lab.test(metric="norm.mlp"))
    lab.fill(rep, "laptop", final)
    spec = expand(rep, "laptop")[0][0]
    lab.run(spec, final({"seed": 0}), texts={"completion": "Every effort"})
    path = collect(rep, lab.workspace("laptop"))
    assert path == lab.root / "replications" / "tiny" / "evidence" / "laptop-procedural-nvidia-h200.json"
    (value,) = load_evidence(lab.root, "tiny")
    assert value["file"] == "replications/tiny/evidence/laptop-procedural-nvidia-h200.json"
    assert value["hardware"] == "NVIDIA H200"
    assert value["machines"] == [{"device": "cuda", "name": "NVIDIA H200", "cpu_count": 2}]
    assert value["versions"] == [{"torch": "2.15"}]
    assert value["data"] == [{"source": "procedural", "sha256": "d" * 64}]
    assert value["metrics"] == ["norm.mlp", "odd", "test_error"], "norm.head is of one group, and no claim reads it"
    assert (value["runs_planned"], len(value["runs"]), value["seconds"]) == (60, 60, 120)
    assert len(value["arms"]) == 4 + 6
    arm = value["arms"][0]
    assert arm["parameters"] == {"grid": "mlp", "learning_rate": 0.1, "decay": "off"}
    assert (arm["n"], arm["seconds"], len(arm["run_ids"])) == (6, 12, 6)
    assert arm["mean"] == [1, None, pytest.approx(0.225)]
    assert arm["sd"] == [0, None, pytest.approx(statistics.stdev([0.2, 0.21, 0.22, 0.23, 0.24, 0.25]), rel=1e-5)]
    by_id = {run["run_id"]: run for run in value["runs"]}
    assert by_id[arm["run_ids"][1]]["final"] == [1, None, 0.21]
    assert by_id[spec.run_id]["texts"] == {"completion": "Every effort"}
    assert value["verdicts"].claims[0].verdict == "inconclusive"
    assert [line["claim"] for line in value["registered"]] == ["decay-helps"]


def test_evidence_does_not_change_but_for_its_time(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final)
    first, second = (json.loads(collect(rep, lab.workspace("laptop")).read_text()) for _ in range(2))
    first.pop("made_at"), second.pop("made_at")
    assert first == second


def test_evidence_of_a_part_of_the_plan(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final, lambda p: p["seed"] == 0)
    value = json.loads(collect(rep, lab.workspace("laptop")).read_text())
    assert (value["runs_planned"], len(value["runs"])) == (60, 10)
    assert value["arms"][0]["sd"] == [None, None], "one seed has no deviation"
    assert value["verdicts"]["claims"][0]["n"] == 1


def test_a_diverged_member_is_not_hidden_in_a_mean(lab):
    rep = lab.replication()
    for spec, p, _ in expand(rep, "laptop"):
        lost = p["seed"] == 1
        lab.run(spec, {"test_error": None if lost else 0.2}, diverged_at_step=7 if lost else None)
    value = json.loads(collect(rep, lab.workspace("laptop")).read_text())
    assert value["arms"][0]["mean"] == [None]
    assert sorted(run["diverged_at_step"] or 0 for run in value["runs"]) == [0] * 50 + [7] * 10


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
    assert collect(rep, lab.workspace("gpu")).stat().st_size < 300_000


def test_nothing_to_collect_is_one_line(lab):
    with pytest.raises(InputError, match="no run of tiny at gpu scale; run `snakemake tiny` first"):
        collect(lab.replication(), lab.workspace("gpu"))


def test_machines_are_joined_in_the_name(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", final)
    lab.run(expand(rep, "laptop")[0][0], final({"seed": 0}), hardware={"name": "Xeon(R) Gold @ 2.1 GHz"})
    assert collect(rep, lab.workspace("laptop")).name == "laptop-procedural-nvidia-h200-xeon-r-gold-2-1-ghz.json"


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


CURVE = [{"step": step, "test_error": 0.9 - step / 200} for step in range(0, 100, 5)]


def curve(p):
    """Rows that end as `final` says, lower with decay."""
    gain = 0.03 * (p["decay"] == "on") * (1 + p["seed"] / 9)
    return [*(row | {"test_error": row["test_error"] - gain} for row in CURVE), {"step": 100} | final(p)]


def claims_of(verdicts):
    """As they are after a journey through JSON, which has no tuples."""
    return json.loads(json.dumps(verdicts.to_json()["claims"]))


@pytest.fixture
def gpu(lab):
    """A replication whose claim reads a curve, and a function that packs some of its runs from a bare machine."""
    metric = {"name": "test_error", "over": [0.5, 1]}
    rep = lab.replication(lab.test(metric=metric))

    def pack(name="pack.zip", only=lambda p: True, choices=None, **summary):
        machine = Layout(lab.root / "machines" / name)
        planned = plan_runs([rep], "gpu", choices)
        away = type(lab)(lab.root, machine)
        for run in planned.values():
            (p,) = run.wanted["tiny"]
            if only(p):
                values = {key: make(p) if callable(make) else make for key, make in summary.items()}
                away.run(run.spec, values.pop("final", final(p)), values.pop("rows", curve(p)), **values)
        register_claims([rep], away.workspace("gpu"))
        write_pack(lab.root / name, planned, away.workspace("gpu", choices))
        return lab.root / name

    return rep, pack


def files(lab):
    return sorted(path.name for path in lab.root.glob("replications/*/evidence/*"))


def test_restored_evidence_is_judged_as_it_was_filed_and_as_the_runs_were(lab, gpu):
    rep, pack = gpu
    (path,) = add([pack()], lab.root)
    assert files(lab) == ["gpu-procedural-nvidia-h200.json", "gpu-procedural-nvidia-h200.parquet"]
    filed = json.loads(path.read_text())
    assert (filed["commits"], filed["runs_planned"], len(filed["runs"])) == (["abc123"], 24, 24)
    there = lab.layout.filed(path.stem)
    assert restore(path.stem, there, lab.root) == ["tiny"]
    claims = claims_of(judge(rep, Workspace(lab.root, "gpu", there)))
    assert claims == filed["verdicts"]["claims"]
    assert claims[0]["registered_before_runs"]
    assert claims[0]["verdict"] == "reproduced"
    machine = Layout(lab.root / "machines" / "pack.zip")
    assert claims_of(judge(rep, Workspace(lab.root, "gpu", machine))) == claims
    origin = read_origin(there)
    assert (origin.name, origin.scale, origin.choices) == (path.stem, "gpu", {})
    assert origin.filed["tiny"]["runs"] == 24
    # a second time, over the first
    assert restore(path.stem, there, lab.root) == ["tiny"]


def test_thinned_curves_change_no_verdict(lab, gpu, monkeypatch):
    rep, pack = gpu
    monkeypatch.setattr("decaylab.analysis.filing.BUDGET", 1000)
    rows = lambda p: [row | {"noise": 1 / (1 + row["step"])} for row in curve(p)]  # noqa: E731
    (path,) = add([pack(rows=rows, final=lambda p: final(p) | {"noise": 1 / 101})], lab.root)
    filed = json.loads(path.read_text())
    assert filed["thinned"]
    restore(path.stem, there := lab.layout.filed(path.stem), lab.root)
    metrics = load_run(there, filed["runs"][0]["run_id"]).metrics
    assert metrics["noise"].notna().sum() == 1
    assert metrics["test_error"].notna().sum() == len(CURVE) + 1
    assert claims_of(judge(rep, Workspace(lab.root, "gpu", there))) == filed["verdicts"]["claims"]


def test_packs_of_the_same_hardware_are_united(lab, gpu):
    _, pack = gpu
    add([pack("a.zip", lambda p: p["seed"] == 0)], lab.root)
    (path,) = add([pack("b.zip", lambda p: p["seed"] > 0)], lab.root)
    value = json.loads(path.read_text())
    assert len(value["runs"]) == 24
    assert value["verdicts"]["claims"][0]["n"] == 6
    before = value
    # the same again, and a part of it, change nothing
    add([lab.root / "a.zip", lab.root / "b.zip"], lab.root)
    after = json.loads(path.read_text())
    before.pop("made_at"), after.pop("made_at")
    assert before == after
    # a results folder is filed with them as well
    rep = gpu[0]
    lab.fill(rep, "gpu", lambda p: {"test_error": 0.5}, lambda p: p["seed"] == 1)
    with pytest.raises(InputError, match="is there already with another"):
        collect(rep, lab.workspace("gpu"))


def test_runs_of_other_hardware_are_filed_apart(lab, gpu):
    _, pack = gpu
    paths = add([pack("a.zip")], lab.root)
    paths += add([pack("b.zip", hardware={"name": "NVIDIA A100"})], lab.root)
    assert [path.name for path in paths] == ["gpu-procedural-nvidia-h200.json", "gpu-procedural-nvidia-a100.json"]


def test_a_run_that_is_filed_with_other_numbers_is_replaced_only_on_request(lab, gpu):
    _, pack = gpu
    (path,) = add([pack("a.zip")], lab.root)
    other = pack("b.zip", final={"test_error": 0.5}, rows=[*CURVE, {"step": 100, "test_error": 0.5}])
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"b\.zip: run mlp-.*another .*--replace takes the new") as error:
        add([other], lab.root)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    add([other], lab.root, replace=True)
    value = json.loads(path.read_text())
    assert value["metrics"] == ["test_error"]
    assert value["arms"][0]["mean"] == [0.5]


def test_runs_that_are_planned_no_more_stay_filed(lab, gpu):
    rep, pack = gpu
    (path,) = add([pack("a.zip")], lab.root)
    axes = rep.grids["mlp"].model_dump()["axes"] | {"seed": [0, 1, 7]}
    lab.replication(lab.test(), grids={"mlp": {"label": "MLP", "axes": axes}}, scales={})
    machine = Layout(lab.root / "machines" / "new")
    planned = plan_runs(select(lab.root, "all"), "gpu")
    for run in planned.values():
        type(lab)(lab.root, machine).run(run.spec, final(run.wanted["tiny"][0]))
    shared = [run_id for run_id in planned if machine.run(run_id).name in path.read_text()]
    for run_id in shared:
        shutil.rmtree(machine.run(run_id))
    write_pack(lab.root / "new.zip", planned, Workspace(lab.root, "gpu", machine))
    add([lab.root / "new.zip"], lab.root)
    value = json.loads(path.read_text())
    assert (value["runs_planned"], len(value["runs"])) == (12, 28)
    assert sum(arm["n"] for arm in value["arms"]) == 12


def test_data_of_the_users_own_are_restored_without_the_files(lab, gpu):
    rep, pack = gpu
    choices = {"images": Choice("mine.tar", "a" * 64)}
    (path,) = add([pack(choices=choices)], lab.root)
    assert path.name == "gpu-mine-tar-nvidia-h200.json"
    restore(path.stem, there := lab.layout.filed(path.stem), lab.root)
    origin = read_origin(there)
    assert origin.choices == choices
    assert choose("images", choices["images"].text) == choices["images"]
    filed = json.loads(path.read_text())
    assert claims_of(judge(rep, origin.workspace(there, lab.root))) == filed["verdicts"]["claims"]
    # what the replication uses anyway, or what it has no use for, is no choice
    (own,) = add([pack("own.zip", choices={"images": Choice("procedural"), "text": Choice("stdlib")})], lab.root)
    assert own.name == "gpu-procedural-nvidia-h200.json"
    assert json.loads(own.read_text())["choices"] == {}
    with pytest.raises(InputError, match="images: filed are runs on other content, with sha256 aaaa"):
        add([pack("b.zip", choices={"images": Choice("mine.tar", "b" * 64)})], lab.root)


def test_seeds_that_looks_added_are_filed_and_judged(lab):
    rep = lab.replication({"looks": {"laptop": [6, 10]}})
    arms = {arm_key(p): 10 for _, p, _ in expand(rep, "laptop") if p["grid"] == "mlp"}
    runs = [run for run in expand(rep, "laptop", seeds=arms) if run[1]["grid"] == "mlp"]
    for spec, p, _ in runs:
        lab.run(spec, {"test_error": 0.3 - 0.1 * (p["decay"] == "on") + 0.001 * p["seed"]})
    with changing_seeds(lab.workspace()) as record:
        record.seeds["tiny"] = arms
    path = collect(rep, lab.workspace())
    value = json.loads(path.read_text())
    assert (len(value["runs"]), value["runs_planned"]) == (40, 60 + 16)
    assert [look["n"] for look in value["verdicts"]["claims"][0]["parts"][0]["looks"]] == [6, 10]
    restore(path.stem, there := lab.layout.filed(path.stem), lab.root)
    found = restored_verdicts(rep, path.stem, Workspace(lab.root, "laptop", there))
    assert claims_of(found) == value["verdicts"]["claims"]
    # a pack of another machine may bring them too
    away = type(lab)(lab.root, Layout(lab.root / "away"))
    planned = plan_runs([rep], "laptop", seeds={"tiny": arms})
    for spec, p, _ in runs:
        away.run(spec, {"test_error": 0.3 + 0.001 * p["seed"]}, hardware={"name": "NVIDIA A100"})
    write_pack(lab.root / "seeds.zip", planned, away.workspace())
    (path,) = add([lab.root / "seeds.zip"], lab.root)
    assert len(json.loads(path.read_text())["runs"]) == 40


def test_packs_of_different_options_never_overwrite_each_other(lab, gpu):
    _, pack = gpu
    packs = [
        pack("a.zip", lambda p: p["seed"] == 0),
        pack("b.zip", lambda p: p["seed"] == 1, choices={"images": Choice("procedural")}),
    ]
    with pytest.raises(InputError, match="made with different options go there; add one at a time"):
        add(packs, lab.root)
    assert files(lab) == []
    for path in packs:
        (filed,) = add([path], lab.root)
    assert len(json.loads(filed.read_text())["runs"]) == 8


def test_the_commit_of_a_machine_without_git_is_told_by_its_code(lab, gpu, monkeypatch):
    _, pack = gpu
    monkeypatch.setattr("decaylab.analysis.filing.git_commit", lambda _: "feedbeef")
    (path,) = add([pack(commit=None, code="same")], lab.root, code=lambda spec: "same")
    assert json.loads(path.read_text())["commits"] == ["feedbeef"]
    add([pack("b.zip", commit=None, code="other")], lab.root, replace=True, code=lambda spec: "same")
    assert json.loads(path.read_text())["commits"] == ["unknown"]


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ({"steps_done": 95}, "steps_done: expected 100 unless it diverged, got 95"),
        ({"rows": CURVE}, "metrics end at step 95, but the summary says that 100 were done"),
        ({"final": {"test_error": 0.1}}, r"final\.test_error is 0\.1, but its metrics end with 0\.2"),
        ({"final": {"test_error": float("nan")}}, r"final\.test_error: expected a finite number or null, got nan"),
        ({"final": {"test_error": "low"}}, r"final\.test_error: expected a finite number or null, got 'low'"),
        ({"diverged_at_step": 50, "steps_done": 60}, "metrics end at step 100, but the summary says that 60"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(lab, gpu, summary, words):
    with pytest.raises(InputError, match=words) as error:
        add([gpu[1](**summary)], lab.root)
    assert str(error.value).startswith(f"{lab.root / 'pack.zip'}: ")
    assert files(lab) == []


def test_a_run_whose_spec_was_edited_is_refused(lab, gpu):
    rep, pack = gpu
    spec = expand(rep, "gpu")[0][0].model_dump(mode="json", exclude_none=True)
    with pytest.raises(
        InputError, match=r"zip: runs/mlp-\S+/summary\.json: spec: expected run mlp-.*, as the folder, got mlp-"
    ):
        add([pack_edited(pack, lambda summary: summary | {"spec": spec | {"batch_size": 11}})], lab.root)
    assert files(lab) == []


def pack_edited(pack, change):
    """A pack with one edited summary."""
    path = pack()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    table = pd.read_parquet(io.BytesIO(members[RUNS]))
    first = table["summary"].first_valid_index()
    table.loc[first, "summary"] = json.dumps(change(json.loads(table.loc[first, "summary"])))
    members[RUNS] = write_table(table)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_run_that_nobody_plans_is_refused(lab, gpu):
    rep, pack = gpu
    path = pack()
    lab.replication(lab.test(), base=rep.base | {"batch_size": 20})
    with pytest.raises(InputError, match=r"pack\.zip: run mlp-.*: no replication plans it at gpu scale"):
        add([path], lab.root)


def test_evidence_that_does_not_belong_together_is_one_line(lab, gpu):
    _, pack = gpu
    (path,) = add([pack()], lab.root)
    head, runs = path, path.with_suffix(".parquet")
    there = lab.layout.filed(path.stem)
    kept = runs.read_bytes()
    runs.write_bytes(kept[:-9])
    with pytest.raises(InputError, match=r"h200\.parquet: is not the file that .*\.json was filed with"):
        restore(path.stem, there, lab.root)
    runs.write_bytes(kept)
    head.write_text(json.dumps(json.loads(head.read_text()) | {"format": 1}))
    with pytest.raises(InputError, match="filed without its runs"):
        restore(path.stem, there, lab.root)
    assert not there.results.exists()
    with pytest.raises(InputError, match="evidence 'gpu-x': expected one of gpu-procedural-nvidia-h200"):
        restore("gpu-x", there, lab.root)


def test_a_folder_with_results_of_its_own_is_left_alone(lab, gpu):
    rep, pack = gpu
    (path,) = add([pack()], lab.root)
    lab.fill(rep, "gpu", final)
    with pytest.raises(InputError, match="has results of its own"):
        restore(path.stem, lab.layout, lab.root)
    # also where training went on from restored runs
    there = lab.layout.filed(path.stem)
    restore(path.stem, there, lab.root)
    there.state("some-run").mkdir(parents=True)
    with pytest.raises(InputError, match="has results of its own"):
        restore(path.stem, there, lab.root)
