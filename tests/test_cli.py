"""The command line: exit codes, one clear line for wrong input, and a plan that others can read."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from decaylab import cli
from decaylab.errors import Interrupted
from decaylab.files import Layout, write_json
from decaylab.replication import plan_runs, select
from decaylab.training import runner

ROOT = Path(__file__).parent.parent

SPEC = {
    "data": {"kind": "images", "source": "procedural", "train_examples": 64, "test_examples": 32, "image_size": 8},
    "model": {"kind": "mlp", "width": 8, "depth": 1},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 4,
    "batch_size": 16,
    "evaluation": {"every": 2, "log_every": 2, "train_examples": 32},
    "seed": 0,
}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `decaylab WORDS`, in this process."""
    monkeypatch.setattr(sys, "argv", ["decaylab", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def names(kind: str) -> list[str]:
    """Headline replications that train on images, or on text."""
    return [rep.name for rep in select(ROOT, "headline") if rep.base["data"]["kind"] == kind]


def spec_file(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(SPEC | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 4}, "run.yaml: stepps: unknown key"),
        ({"steps": "many"}, "run.yaml: steps: Input should be a valid integer"),
        ({"decay": {"weight_decay": -0.1}}, "run.yaml: decay.weight_decay: Input should be greater than or equal to 0"),
        ({"data": SPEC["data"] | {"source": "cifar12"}}, "cifar12"),
        ({"model": {"kind": "gpt"}}, "model gpt cannot be trained on images"),
        ({"evaluation": SPEC["evaluation"] | {"probes": ["x"]}}, "evaluation.probes: expected one of "),
        ({"data": SPEC["data"] | {"source": "missing.tar.xz"}}, "missing.tar.xz"),
    ],
)
def test_wrong_spec_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, changes, message) -> None:
    monkeypatch.setenv("DECAYLAB_DATA", str(tmp_path))
    path = spec_file(tmp_path, **changes)
    code, _, err = run(monkeypatch, capsys, "train", "--spec", path, "--out", tmp_path / "out")
    lines = [line for line in err.splitlines() if not line.startswith("1/1")]
    assert code == 2
    assert message in err
    assert len(lines) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--scal", "laptop"], "decaylab: train: No such option: --scal"),
        (["plan", "--scale", "huge"], "decaylab: plan: Invalid value for '--scale': 'huge' is not one of 'smoke'"),
        (["train", "--minutes", "soon", "--missing"], "decaylab: train: Invalid value for '--minutes': "),
        (["judge_all"], "decaylab: No such command 'judge_all'"),
        (["evidence", "restore"], "decaylab: evidence: restore: Missing argument "),
    ],
)
def test_a_command_that_does_not_exist_so_is_one_line_and_exit_code_2(monkeypatch, capsys, words, message) -> None:
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert "--help`)" in err


@pytest.mark.parametrize("words", [[], ["evidence"]])
def test_a_command_alone_says_what_it_can_do(monkeypatch, capsys, words) -> None:
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert "Usage: " in out + err
    assert "--help" in out + err


def archive(path: Path, member: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"text"))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"no archive"), "broken.tar.gz"),
        (lambda path: archive(path, "../climbs.md"), "climbs.md"),
        (lambda path: archive(path, "/etc/absolute.md"), "absolute.md"),
    ],
)
def test_a_bad_archive_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, make, message) -> None:
    path = tmp_path / "broken.tar.gz"
    make(path)
    words = ["data", *names("text")[:1], "--scale", "smoke", "--text", path, "--results", tmp_path / "results"]
    monkeypatch.chdir(ROOT)
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    left = [item for item in (tmp_path / "results").rglob("*") if item.is_file() and item.name != "lock"]
    assert [item for item in left if not item.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "nosuch"], "replication 'nosuch': unknown; expected one of all, headline"),
        (["plan", "--images", "nosuch.zip"], "images=nosuch.zip"),
        (["train", "no-such-run"], "no run 'no-such-run' at scale laptop"),
        (["train"], "expected run ids, or --spec FILE --out DIR, or --missing"),
        (["train", "--spec", "x.yaml"], "--spec FILE and --out DIR go together"),
        (["train", "--spec", "absent.yaml", "--out", "o"], "absent.yaml: cannot be read"),
        (["train", "--spec", "x.yaml", "--out", "o", "--pack", "p.zip"], "--pack packs planned runs"),
        (["evidence", "add", "absent.zip"], "absent.zip: no such file"),
        (["evidence", "add", "README.md"], "README.md: not a pack, or a damaged one"),
        (["evidence", "restore", "gpu-x"], "evidence 'gpu-x'"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(monkeypatch, capsys, words, message) -> None:
    monkeypatch.chdir(ROOT)
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_wrong_option_ends_with_2(monkeypatch, capsys) -> None:
    code, _, err = run(monkeypatch, capsys, "plan", "--scale", "huge")
    assert code == 2
    assert "huge" in err


def test_results_that_are_no_directory_are_one_line(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "results").write_text("a file")
    path = spec_file(tmp_path)
    code, _, err = run(monkeypatch, capsys, "train", "--spec", path, "--out", tmp_path / "results")
    assert code in (1, 2)
    assert str(tmp_path / "results") in err
    assert "Traceback" not in err


def test_a_full_disk_is_one_line_and_exit_code_1(monkeypatch, capsys) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")

    monkeypatch.setattr(cli, "app", full)
    code, _, err = run(monkeypatch, capsys)
    assert code == 1
    assert err == "decaylab: checkpoint.pt: No space left on device; what was saved before is intact\n"


def test_an_interruption_is_exit_code_1(monkeypatch, capsys) -> None:
    def stopped(**_: object) -> None:
        raise Interrupted("stopped after step 3; state saved")

    monkeypatch.setattr(cli, "app", stopped)
    assert run(monkeypatch, capsys) == (1, "", "decaylab: stopped after step 3; state saved\n")


def test_train_a_spec_by_hand(tmp_path, monkeypatch, capsys) -> None:
    path = spec_file(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "train", "--spec", path, "--out", tmp_path / "out")
    assert code == 0
    summary = json.loads(Path(out.strip()).read_text())
    assert summary["steps_done"] == 4
    assert summary["predicted_seconds"] > 0
    assert summary["flops"] > 0


def test_plan_prices_every_run(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    words = ["plan", *names("images")[:1], *names("text")[:1], "--scale", "smoke", "--json", "--results", tmp_path]
    code, out, _ = run(monkeypatch, capsys, *words)
    rows = json.loads(out)
    assert code == 0
    assert len({row["run_id"] for row in rows}) == len(rows) > 10
    for row in rows:
        assert row["replications"]
        assert row["spec"]["seed"] is not None
        for key in ("flops", "parameters", "predicted_seconds", "memory_bytes", "disk_bytes"):
            assert row[key] > 0, key
        assert row["gpu_seconds"]["NVIDIA H200"] > 0
        assert row["finished"] is False
    # the second time nothing is timed again
    before = (tmp_path / "calibration.json").read_bytes()
    run(monkeypatch, capsys, *words)
    assert (tmp_path / "calibration.json").read_bytes() == before


def test_missing_works_through_the_most_wanted_first_and_stops_in_time(tmp_path) -> None:
    command = [sys.executable, "-m", "decaylab", "train", "--missing", "--scale", "smoke", "--minutes", "0"]
    done = subprocess.run(
        [*command, "--replications", names("images")[0], "--results", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0
    assert "time is up: stopped before " in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder with one real replication, in which commands run."""
    name = names("images")[0]
    (tmp_path / "replications" / name).mkdir(parents=True)
    shutil.copy(ROOT / "replications" / name / "replication.yaml", tmp_path / "replications" / name)
    shutil.copy(ROOT / "replications" / "references.yaml", tmp_path / "replications")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_travel_from_a_bare_machine_to_filed_evidence(clone, monkeypatch, capsys) -> None:
    """Two runs are trained and packed, the second after the first was stopped; both are filed and restored."""
    planned = plan_runs(select(clone, "all"), "smoke")
    first, second = list(planned)[:2]
    code, _, err = run(monkeypatch, capsys, "train", first, "--scale", "smoke", "--pack", "out/pack.zip")
    assert code == 0
    assert "out/pack.zip: 1 runs packed" in err
    registered = [json.loads(line)["registered_at"] for line in Path("results/claims.jsonl").read_text().splitlines()]
    assert len(registered) == len(select(clone, "all")[0].claims)
    assert max(registered) <= json.loads(Layout().summary(first).read_text())["started_at"]
    code, out, _ = run(monkeypatch, capsys, "evidence", "add", "out/pack.zip")
    assert code == 0
    filed = Path(out.strip())
    assert [item["run_id"] for item in json.loads(filed.read_text())["runs"]] == [first]

    def stopped(*arguments: object) -> None:
        train_all(*arguments)
        raise Interrupted("stopped by a signal")

    train_all = runner.train_all
    monkeypatch.setattr(runner, "train_all", stopped)
    code, _, err = run(monkeypatch, capsys, "train", second, "--scale", "smoke", "--pack", "out/pack.zip")
    assert code == 1
    assert "out/pack.zip: 2 runs packed" in err
    code, _, _ = run(monkeypatch, capsys, "evidence", "add", "out/pack.zip")
    assert code == 0
    value = json.loads(filed.read_text())
    assert [item["run_id"] for item in value["runs"]] == sorted([first, second])
    code, out, _ = run(monkeypatch, capsys, "evidence", "restore", filed.stem)
    assert code == 0
    restored = Layout().filed(filed.stem)
    assert out.strip() == str(restored.results)
    for run_id in (first, second):
        assert json.loads(restored.summary(run_id).read_text()) == json.loads(Layout().summary(run_id).read_text())


def test_a_pack_without_runs_is_not_written(clone, monkeypatch, capsys) -> None:
    code, _, err = run(monkeypatch, capsys, "train", "--missing", "--minutes", 0, "--pack", "pack.zip")
    assert code == 0
    assert "pack.zip: not written, no run has finished" in err
    assert not Path("pack.zip").exists()


def test_a_damaged_calibration_is_only_a_cache(tmp_path) -> None:
    from decaylab.training.cost.pricing import Pricer

    write_json(tmp_path / "calibration.json", {"x": {"step": 1.0, "example": 1.0}})
    assert Pricer(Layout(tmp_path)).known == {"x": {"step": 1.0, "example": 1.0}}
    (tmp_path / "calibration.json").write_text("{half")
    assert Pricer(Layout(tmp_path)).known == {}


def test_data_says_what_it_read_and_refuses_runs_that_need_more(tmp_path, monkeypatch, capsys) -> None:
    """What is too small for a run is said when the data are prepared, and by `plan` from then on."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"{number} " * 100 + "\n")
    (folder / "picture.jpg").write_bytes(b"")
    monkeypatch.chdir(ROOT)
    name = names("text")[0]
    options = ["--scale", "smoke", "--text", folder, "--results", tmp_path / "results"]
    code, out, err = run(monkeypatch, capsys, "data", name, *options)
    lines = err.splitlines()
    assert code == 2
    assert [Path(line).parent for line in out.splitlines()] == [tmp_path / "results" / "data"]
    assert lines[:2] == ["  read 40 .txt files", "  left out 1 .jpg files, for example picture.jpg"]
    assert re.search(r"notes is too small for \S+: [\w.]+ \d+, found \d+", lines[-1])
    code, _, err = run(monkeypatch, capsys, "plan", name, *options)
    assert code == 2
    assert err.splitlines() == lines[-1:]
