"""From a clone to the index: the headline replications at smoke scale, as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decaylab.files import Layout
from decaylab.replication import plan_runs, select

ROOT = Path(__file__).parent.parent
PARTS = ("Snakefile", "config", "notebooks", "profiles", "replications", "src", "workflow")
KEYS = {"claim", "verdict", "estimate", "interval", "n", "source_value", "scale", "claim_sha256", "run_ids"}


def python(folder: Path, *words: str) -> str:
    """Everything that `python -m WORDS` prints in `folder`. It must succeed."""
    # run the copy's code, not the installed one
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def snakemake(folder: Path, *words: str) -> str:
    """Everything that `snakemake --cores 2 WORDS --config scale=smoke` prints in `folder`. It must succeed."""
    return python(folder, "snakemake", "--cores", "2", *words, "--config", "scale=smoke")


def copy_of_the_project(folder: Path) -> Path:
    """The project as in a fresh clone, without its evidence, which is of other scales."""
    folder.mkdir(exist_ok=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "evidence"))
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which `snakemake` ran once."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("clone"))
    snakemake(folder)
    return folder


@pytest.mark.slow
def test_every_claim_leads_from_its_page_to_its_runs(finished: Path) -> None:
    reports, layout = finished / "reports" / "smoke", Layout(finished / "results")
    index = (reports / "index.html").read_text(encoding="utf-8")
    reps = select(finished, "headline")
    assert reps
    runs = plan_runs(reps, "smoke")
    for run_id, run in runs.items():
        summary = json.loads(layout.summary(run_id).read_text(encoding="utf-8"))
        spec, planned = summary["spec"], run.spec.model_dump(mode="json", exclude_none=True)
        # a replication that shares the run may start others from further snapshots
        assert set(planned.pop("snapshots", ())) <= set(spec.pop("snapshots"))
        assert spec == planned
        assert (reports / "runs" / f"{run_id}.html").exists()
    for rep in reps:
        assert f"{rep.name}.html" in index
        verdicts = json.loads(layout.verdicts("smoke", rep.name).read_text(encoding="utf-8"))
        assert [claim["claim"] for claim in verdicts["claims"]] == [claim.id for claim in rep.claims]
        page = (reports / f"{rep.name}.html").read_text(encoding="utf-8")
        for claim in verdicts["claims"]:
            assert claim.keys() >= KEYS
            assert claim["registered_before_runs"], "claims are registered before the first run"
            assert set(claim["run_ids"]) <= set(runs)
            assert claim["claim"] in page
            assert claim["claim"] in index


@pytest.mark.slow
def test_a_second_call_has_nothing_to_do(finished: Path) -> None:
    assert "Nothing to be done" in snakemake(finished, "all")
    # the first call for one replication alone also adds it to the index
    name = select(finished, "headline")[-1].name
    assert "train_" not in snakemake(finished, name)
    assert "Nothing to be done" in snakemake(finished, name)


@pytest.mark.slow
def test_deleted_results_are_put_back_without_training(finished: Path) -> None:
    layout, rep = Layout(finished / "results"), select(finished, "headline")[0]
    paths = [layout.summary(run_id) for run_id in plan_runs([rep], "smoke")][:3]
    before = {path: path.read_bytes() for path in paths}
    for path in before:
        shutil.rmtree(path.parent)
    # a missing result alone reruns nothing: what reads it must be missing too
    layout.verdicts("smoke", rep.name).unlink()
    snakemake(finished, rep.name)
    # a new training would have another time in its summary
    assert {path: path.read_bytes() for path in before} == before
    assert layout.verdicts("smoke", rep.name).exists()


@pytest.mark.slow
def test_every_page_works_in_a_browser_without_a_network(finished: Path, browse) -> None:
    pages = sorted((finished / "reports" / "smoke").glob("*.html"))
    found = browse(pages)
    reports = {f"{rep.name}.html" for rep in select(finished, "headline")}
    assert set(found) == {"index.html", "ledger.html"} | reports
    for name in reports:
        assert len(found[name]["figures"]) >= 3, name


@pytest.mark.slow
def test_snakemake_writes_its_own_report(finished: Path) -> None:
    snakemake(finished, "all", "--report", "report.zip")
    assert (finished / "report.zip").stat().st_size > 100_000


@pytest.mark.slow
def test_a_clean_clone_shows_what_another_machine_trained(finished: Path, tmp_path: Path, browse) -> None:
    name, other = select(finished, "headline")[0].name, copy_of_the_project(tmp_path / "other")
    pack = tmp_path / "pack.zip"
    python(finished, "decaylab", "pack", str(pack), name, "--scale", "smoke")
    assert pack.stat().st_size < 500_000
    filed = other / python(other, "decaylab", "evidence", "add", str(pack)).strip()
    printed = python(other, "snakemake", "--cores", "2", "evidence")
    assert "train_" not in printed
    assert not (other / "results" / "runs").exists()
    # the same verdicts from the runs, in the filed evidence, and from the restored runs
    restored = Layout(other / "results", other / "reports").filed(filed.stem)
    files = [Layout(finished / "results").verdicts("smoke", name), restored.verdicts("smoke", name)]
    there, again = (json.loads(path.read_text(encoding="utf-8"))["claims"] for path in files)
    assert there == again == json.loads(filed.read_text(encoding="utf-8"))["verdicts"]["claims"]
    index, report = other / "reports" / "evidence" / "index.html", restored.report("smoke", name)
    assert "nothing was trained here" in report.read_text(encoding="utf-8")
    assert "Nothing to be done" in python(other, "snakemake", "--cores", "2", "evidence")
    assert len(browse([index, report])[report.name]["figures"]) >= 3
