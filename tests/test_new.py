"""`decaylab new`: a folder and a notebook from a template, which run at once and change nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decaylab.analysis.arms import check_claims
from decaylab.cli.new import create
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.fingerprint import fingerprint
from decaylab.replication import expand, plan_runs, select
from decaylab.workflow.jobs import partition
from decaylab.workspace import SCALES

ROOT = Path(__file__).parent.parent
NAME = "momentum_and_decay"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project, without its evidence."""
    for part in ("config", "notebooks", "profiles", "replications", "src", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "evidence"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    return tmp_path


def everything(root: Path) -> dict[str, set[str]]:
    """Whatever a new replication must leave alone: runs, digests of their code, claims, and training jobs."""
    reps = select(root, "all")
    found = {"claims": {f"{rep.name} {claim.id} {claim.sha256()}" for rep in reps for claim in rep.claims}}
    for scale in SCALES:
        runs = plan_runs(reps, scale)
        found[f"{scale} runs"] = {f"{run_id} {fingerprint(run.spec)} {run.spec}" for run_id, run in runs.items()}
        found[f"{scale} jobs"] = {job.name for job in partition(runs.values(), 24)}
    return found


def test_a_new_replication_changes_nothing_else(clone: Path) -> None:
    before = everything(clone)
    create(clone, NAME)
    after = everything(clone)
    for what, values in before.items():
        assert values < after[what], what


@pytest.mark.parametrize("scale", SCALES)
def test_the_template_has_runs_and_claims_at_every_scale(clone: Path, scale: str) -> None:
    create(clone, NAME)
    (rep,) = select(clone, NAME)
    assert rep.row > 16
    assert not rep.headline
    assert expand(rep, scale)
    check_claims(rep, scale)


def test_two_new_replications_have_different_rows(clone: Path) -> None:
    create(clone, "first")
    create(clone, "second")
    first, second = select(clone, "first,second")
    assert first.row < second.row


@pytest.mark.parametrize("name", ["Momentum", "momentum-decay", "../climbs", "", "1st", "judge", "all", "headline"])
def test_a_name_that_cannot_be_a_target_is_refused(clone: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected lower case"):
        create(clone, name)


def test_nothing_is_overwritten(clone: Path) -> None:
    create(clone, NAME)
    shutil.rmtree(clone / "replications" / NAME)
    notebook = clone / "notebooks" / f"{NAME}.ipynb"
    notebook.write_text("mine")
    with pytest.raises(InputError, match=rf"notebooks/{NAME}\.ipynb: exists already"):
        create(clone, NAME)
    assert notebook.read_text() == "mine"
    assert not (clone / "replications" / NAME).exists()


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_the_template_runs_at_once(clone: Path, scale: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(clone / "src"), "OMP_NUM_THREADS": "1"}
    for words in (["decaylab", "new", NAME], ["snakemake", "--cores", "2", NAME, "--config", f"scale={scale}"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=clone, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    layout = Layout(clone / "results", clone / "reports")
    (claim,) = json.loads(layout.verdicts(scale, NAME).read_text())["claims"]
    assert claim["verdict"] == ("not run" if scale == "smoke" else "reproduced")
    page = layout.report(scale, NAME).read_text(encoding="utf-8")
    assert "Momentum and decay" in page
    assert page.count("<svg") >= 2
    assert f"{NAME}.html" in layout.index(scale).read_text(encoding="utf-8")
