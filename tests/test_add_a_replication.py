"""docs/add-a-replication.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from decaylab.analysis.arms import check_claims
from decaylab.files import Layout
from decaylab.replication import expand, load_replication, replication_file
from decaylab.workspace import SCALES

ROOT = Path(__file__).parent.parent
NAME = "momentum_and_decay"


def blocks(language: str) -> list[str]:
    """Fenced blocks of the page that are marked with a language; without one, its commands."""
    text = (ROOT / "docs" / "add-a-replication.md").read_text(encoding="utf-8")
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if kind == language]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for part in ("config", "notebooks", "profiles", "replications", "src", "workflow"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "evidence"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    return tmp_path


def run(folder: Path, command: str) -> str:
    program, *words = shlex.split(command.replace("--cores all", "--cores 2"))
    done = subprocess.run(
        [sys.executable, "-m", program, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("scale", SCALES)
def test_the_example_has_runs_and_claims_at_every_scale(tmp_path: Path, scale: str) -> None:
    path = replication_file(tmp_path, NAME)
    path.parent.mkdir(parents=True)
    path.write_text(blocks("yaml")[0], encoding="utf-8")
    rep = load_replication(path)
    assert expand(rep, scale)
    check_claims(rep, scale)


@pytest.mark.slow
def test_the_page_can_be_followed_to_the_letter(clone: Path) -> None:
    commands = [line for block in blocks("") for line in block.splitlines()]
    new, *others = commands
    assert new == f"decaylab new {NAME}"
    run(clone, new)
    # the page replaces both files of the template, and adds a probe that its runs then use
    example, looks, evaluation = blocks("yaml")
    value = yaml.safe_load(example)
    value["base"]["evaluation"] |= yaml.safe_load(evaluation)["evaluation"]
    value["claim_defaults"] |= yaml.safe_load(looks)
    replication_file(clone, NAME).write_text(yaml.safe_dump(value), encoding="utf-8")
    python = blocks("python")
    cells = [nbformat.v4.new_code_cell(source.rstrip()) for source in python if not source.startswith("# src/")]
    cells[0].metadata["tags"] = ["parameters"]
    path = clone / "notebooks" / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = cells
    nbformat.write(notebook, path)
    for source in (source for source in python if source.startswith("# src/")):
        (clone / source.splitlines()[0].removeprefix("# ")).write_text(source, encoding="utf-8")
    for command in others:
        run(clone, command)
    layout = Layout(clone / "results", clone / "reports")
    verdicts = json.loads(layout.verdicts("smoke", NAME).read_text())["claims"]
    assert [claim["claim"] for claim in verdicts] == [
        claim.id for claim in load_replication(replication_file(clone, NAME)).claims
    ]
    finals = [json.loads(path.read_text())["final"] for path in (layout.results / "runs").glob("*/summary.json")]
    probed = [final["small_weights"] for final in finals if "small_weights" in final]  # grids may ask for others
    assert probed
    assert all(0 <= share <= 1 for share in probed)
    page = layout.report("smoke", NAME).read_text(encoding="utf-8")
    assert page.count("<svg") >= 2
    assert "Training curves: the mean over seeds" in page
