"""The real workflow, executed with a `decaylab` that trains nothing: what runs, what runs again, what a kill leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from decaylab.files import Layout
from decaylab.replication import plan_here, plan_runs, select
from decaylab.workspace import Workspace

SCALE = "laptop"
pytestmark = pytest.mark.slow


def ids(clone, name: str) -> set[str]:
    runs = plan_runs(select(clone.path, "all"), SCALE)
    return {run_id for run_id, run in runs.items() if name in run.wanted}


def edit_replication(clone, name: str, change) -> None:
    path = clone.path / "replications" / name / "replication.yaml"
    value = yaml.safe_load(path.read_text())
    change(value)
    path.write_text(yaml.safe_dump(value))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_chosen_replications_run_once_and_then_nothing_is_left_to_do(clone):
    calls = clone.run("all")

    assert {call.split()[0] for call in calls} == {"data", "train", "judge", "render", "site"}
    assert clone.trained(calls) == ids(clone, "with_vgg")
    assert [call for call in calls if call.startswith("judge")] == ["judge with_vgg"]
    # without a target, and with options that decide no number
    done = clone.snakemake("--cores", "2", "--config", "device=cpu")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert clone.calls() == []
    report = clone.snakemake("all", "--report", "report.zip")
    assert report.returncode == 0, report.stderr
    assert (clone.path / "report.zip").stat().st_size > 0


def test_a_replication_runs_alone_after_its_claims_are_registered(clone):
    calls = clone.run("with_gpt")

    assert clone.trained(calls) == ids(clone, "with_gpt")
    assert [call for call in calls if call.startswith(("judge", "render", "site"))] == [
        "judge with_gpt",
        "render with_gpt",
        "site",
    ]
    assert (clone.path / "reports" / SCALE / "index.html").exists()
    registry = clone.path / "results" / "claims.jsonl"
    assert "decay-helps" in registry.read_text()
    first = min(path.stat().st_mtime for path in clone.path.glob("results/runs/*/summary.json"))
    assert registry.stat().st_mtime <= first
    assert clone.planned("with_gpt") == []
    # from now on it belongs to no choice, but its verdict stays in the index of others
    assert "site" in clone.run("with_vgg")


def test_an_edit_reruns_what_depends_on_it_and_nothing_else(clone):
    targets = ("with_vgg", "with_gpt")
    clone.run(*targets)
    source = clone.path / "src" / "decaylab"
    vgg = source / "models" / "vgg.py"

    # comments, docstrings, time stamps, and code that decides no number
    for path in (vgg, source / "training" / "loop.py"):
        path.write_text("# a comment\n" + path.read_text())
    gpt = source / "models" / "gpt.py"
    gpt.write_text(gpt.read_text().replace('"""', '"""Another first sentence. ', 1))
    (source / "optim" / "decay.py").touch()
    for name in ("spec/run.py", "files.py", "errors.py", "training/cost/pricing.py"):
        append(source / name, "\nUNUSED = 1\n")
    assert clone.planned(*targets) == []

    append(source / "report" / "__init__.py", "\nUNUSED = 1\n")
    shown = ["add with_gpt to the index", "add with_vgg to the index"]
    rendered = ["render with_gpt", "render with_vgg"]
    assert clone.planned(*targets) == [*shown, *rendered]

    edit_replication(clone, "with_gpt", lambda value: value["claims"][0]["tests"][0].update(smallest_effect=0.2))
    assert clone.planned(*targets) == [*shown, "judge with_gpt", *rendered]

    append(vgg, "\nUNUSED = 1\n")
    planned = clone.planned(*targets)
    assert [name for name in planned if not name.startswith("train")] == [
        *shown,
        "judge with_gpt",
        "judge with_vgg",
        *rendered,
    ]
    assert {name.split("_")[1] for name in planned if name.startswith("train")} == {"vgg"}

    calls = clone.run(*targets)
    assert clone.trained(calls) == ids(clone, "with_vgg")
    assert clone.planned(*targets) == []


def test_a_commit_alone_reruns_nothing_and_a_plot_trains_nothing(clone):
    """A commit changes no input and no job; a new colour renders again and trains nothing."""

    def git(*words: str) -> None:
        identity = ["-c", "user.name=A. Author", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=clone.path, check=True, capture_output=True)

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "First")
    clone.run("with_vgg")
    (clone.path / "NOTES").write_text("Nothing that a rule reads.")
    git("add", "NOTES")
    git("commit", "-q", "-m", "Second")
    assert clone.planned("with_vgg") == []
    listed = clone.snakemake("with_vgg", "--list-input-changes", "--cores", "2")
    assert (listed.returncode, listed.stdout.split()) == (0, [])

    append(clone.path / "src" / "decaylab" / "report" / "figures" / "heatmap.py", "\nCOLOUR = 'red'\n")
    assert clone.planned("with_vgg") == ["add with_vgg to the index", "render with_vgg"]


def test_a_new_seed_leaves_other_jobs_alone(clone):
    clone.run("with_vgg", "with_gpt")
    old = ids(clone, "with_gpt")
    edit_replication(clone, "with_gpt", lambda value: value["grids"]["main"]["axes"].update(seed=[0, 1, 2]))

    trained = clone.trained(clone.run("with_vgg", "with_gpt"))

    assert ids(clone, "with_gpt") - old <= trained
    assert not trained & ids(clone, "with_vgg")


def test_evidence_is_shown_without_training_and_again_when_it_changes(clone):
    for name, filed in (("with_vgg", "gpu-a"), ("with_gpt", "gpu-b"), ("with_vgg", "laptop-c")):
        folder = clone.path / "replications" / name / "evidence"
        folder.mkdir(exist_ok=True)
        for kind in ("json", "parquet"):
            (folder / f"{filed}.{kind}").write_text("one")
    # filed before runs were kept: it can only be quoted
    (clone.path / "replications" / "with_gpt" / "evidence" / "laptop-old.json").write_text("old")

    calls = clone.run("evidence")

    assert clone.trained(calls) == set()
    assert calls == [
        "evidence render gpu-a with_vgg",
        "evidence render gpu-b with_gpt",
        "evidence render laptop-c with_vgg",
        "evidence restore gpu-a",
        "evidence restore gpu-b",
        "evidence restore laptop-c",
        "evidence site",
    ]
    assert (clone.path / "reports" / "evidence" / "gpu-b" / "gpu" / "with_gpt.html").exists()
    assert clone.planned("evidence") == []
    (clone.path / "replications" / "with_gpt" / "evidence" / "gpu-b.parquet").write_text("two")
    calls = clone.run("evidence")
    assert calls == ["evidence render gpu-b with_gpt", "evidence restore gpu-b", "evidence site"]


def test_the_same_command_goes_on_after_a_kill(clone):
    clone.fake(sleep=60)
    process = subprocess.Popen(
        clone.command("--cores", "2", "all"),
        cwd=clone.path,
        env=clone.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = clone.path / "calls.log"
    try:
        end = time.monotonic() + 60
        while not (log.exists() and "train" in log.read_text()):
            assert time.monotonic() < end, "no training began"
            time.sleep(0.1)
        # while it lives, its lock is respected
        second = clone.snakemake("--cores", "2", "all")
        assert second.returncode != 0
        assert "lock" in second.stderr.lower()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list((clone.path / ".snakemake" / "locks").glob("*.lock"))

    clone.fake()
    done = clone.snakemake("--cores", "2", "all")

    assert done.returncode == 0, done.stderr
    assert "removed the lock" in done.stderr
    assert (clone.path / "reports" / SCALE / "index.html").exists()


def test_a_failed_job_shows_its_log_and_does_not_stop_the_others(clone):
    program = clone.path / "bin" / "decaylab"
    program.write_text(
        program.read_text().replace(
            'if command == "train":', 'if "with_vgg" in names:\n    sys.exit("no luck")\nif command == "train":'
        )
    )

    done = clone.snakemake("--cores", "2", "with_vgg", "with_gpt")

    assert done.returncode == 1
    assert "no luck" in done.stderr + done.stdout
    assert (clone.path / "reports" / SCALE / "with_gpt.html").exists()
    assert not (clone.path / "reports" / SCALE / "with_vgg.html").exists()
    assert not re.search("Traceback", done.stderr)


def test_a_deleted_folder_of_a_run_is_made_again(clone):
    clone.run("all", "--config", "runs_per_process={laptop: 3}")
    folder = min((clone.path / "results" / "runs").iterdir())
    shutil.rmtree(folder)
    assert folder.name in clone.trained(clone.run("all"))
    assert (folder / "summary.json").exists()
    assert clone.planned("all") == []


MODULE = """
module decaylab:
    snakefile: "{clone}/workflow/Snakefile"
    config: config
use rule * from decaylab as decaylab_*
rule mine:
    input: rules.decaylab_all.input
    default_target: True
"""


@pytest.mark.parametrize("how", ["module", "snakefile"])
def test_the_workflow_runs_from_another_folder(clone, tmp_path, how):
    other = tmp_path.parent / f"{tmp_path.name}-other"
    other.mkdir()
    (other / "Snakefile").write_text(MODULE.format(clone=clone.path))
    words = [] if how == "module" else ["-s", str(clone.path / "Snakefile")]
    done = subprocess.run(
        clone.command("--cores", "2", *words, "--config", "scale=smoke"),
        cwd=other,
        env=clone.env(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (other / "reports" / "smoke" / "index.html").exists()
    assert "render with_vgg" in (other / "calls.log").read_text()
    assert not (clone.path / "results").exists()


def add_looks(clone, name: str) -> None:
    edit_replication(clone, name, lambda value: value["claims"][0].update(looks={SCALE: [2, 3]}))


def seeds_here(clone, name: str) -> set[str]:
    """Ids of all runs of a replication, those of added seeds included."""
    space = Workspace(clone.path, SCALE, Layout(clone.path / "results", clone.path / "reports"))
    return set(plan_here(select(clone.path, name), space))


def test_seeds_are_added_after_the_first_look_and_only_while_claims_are_undecided(clone):
    add_looks(clone, "with_vgg")
    undecided = clone.path / "undecided"
    undecided.touch()

    calls = clone.run("all")

    assert [call for call in calls if call.startswith("decide")] == ["decide with_vgg"]
    assert clone.trained(calls) == ids(clone, "with_vgg")
    assert seeds_here(clone, "with_vgg") > ids(clone, "with_vgg")
    # the index is made of everything that was added, but more seeds could still decide the claims
    assert clone.run("all") == ["decide with_vgg", "judge with_vgg", "render with_vgg", "site"]
    undecided.unlink()
    clone.run("all")
    assert clone.planned("all") == []
    # whatever time is given, and without any
    assert clone.planned("all", "--config", "minutes=60") == []
    assert clone.planned("all", "--config", "minutes=0") == []


def test_without_time_claims_are_judged_at_the_first_look(clone):
    add_looks(clone, "with_vgg")
    calls = clone.run("all", "--config", "minutes=0")
    assert not [call for call in calls if call.startswith("decide")]
    assert clone.run("all") == ["decide with_vgg", "judge with_vgg", "render with_vgg", "site"]


def test_a_replication_alone_gets_the_time_for_itself(clone):
    for name in ("with_vgg", "with_gpt"):
        add_looks(clone, name)
        # a claim needs one run for each seed
        edit_replication(clone, name, lambda value: value["grids"].pop("tiny_lr", None))
    calls = clone.run("with_gpt")
    assert [call for call in calls if call.startswith("decide")] == ["decide with_gpt"]
    assert clone.trained(calls) == ids(clone, "with_gpt")
    calls = clone.run("with_gpt", "with_vgg")
    assert [call for call in calls if call.startswith("decide")] == ["decide with_vgg with_gpt"]


def test_an_edit_of_code_forgets_added_runs_and_adds_them_again(clone):
    add_looks(clone, "with_vgg")
    clone.run("all")
    added = seeds_here(clone, "with_vgg") - ids(clone, "with_vgg")
    old = {run_id: (clone.path / "results" / "runs" / run_id / "summary.json").read_text() for run_id in added}
    append(clone.path / "src" / "decaylab" / "models" / "vgg.py", "\nUNUSED = 1\n")

    calls = clone.run("all")

    assert clone.trained(calls) == ids(clone, "with_vgg")
    assert "decide with_vgg" in calls
    for run_id, text in old.items():
        assert (clone.path / "results" / "runs" / run_id / "summary.json").read_text() != text
    assert clone.planned("all") == []
