"""A small clone: the real workflow over two tiny replications, with a `decaylab` that trains nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

# Writes the files that the real commands write, and notes each call.
FAKE = """#!{python}
import sys
import time
from pathlib import Path

from decaylab.files import Layout, write_json
from decaylab.fingerprint import fingerprint
from decaylab.replication import arm_key, expand, plan_here, plan_runs, record_seeds, select
from decaylab.seeds import Round, changing_seeds
from decaylab.workspace import Workspace, find_root

command, words = sys.argv[1], sys.argv[2:]
options, names = {{}}, []
while words:
    word = words.pop(0)
    if word.startswith("--"):
        options.setdefault(word[2:], []).append(words.pop(0))
    else:
        names.append(word)
layout = Layout(Path(options.get("results", ["results"])[0]), Path(options.get("reports", ["reports"])[0]))
scale = options.get("scale", ["laptop"])[0]
with open("calls.log", "a") as log:
    log.write(" ".join([command, *names]) + "\\n")


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(command)


def finish(run):
    write_json(layout.summary(run.run_id), {{"code": fingerprint(run.spec)}})
    write(layout.metrics(run.run_id))
    for step in run.spec.snapshots:
        write(layout.snapshot(run.run_id, step))


space = Workspace(find_root(), scale, layout)
if command == "train":
    time.sleep({sleep})
    runs = plan_here(select(find_root(), "all"), space)
    for run_id in names:
        finish(runs[run_id])
elif command == "decide":
    # one more seed for every arm; a file says that this is not enough
    for rep in select(find_root(), names):
        seeds = {{arm_key(parameters): 3 for _, parameters, _ in expand(rep, scale)}}
        runs = plan_runs([rep], scale, seeds={{rep.name: seeds}})
        for run_id, run in runs.items():
            if not layout.summary(run_id).exists():
                finish(run)
        record_seeds(rep, space, runs)
    with changing_seeds(space) as record:
        key = options["round"][0]
        number = record.rounds.get(key, Round()).number + 1
        record.rounds[key] = Round(number, not Path("undecided").exists())
elif command == "data":
    for key in options["key"]:
        write(layout.prepared(key) / "meta.json")
elif command == "judge":
    write(layout.verdicts(scale, names[0]))
elif command == "render":
    write(layout.report(scale, names[0]))
elif command == "site":
    write(layout.index(scale))
elif command == "evidence":
    action, filed, *name = [*names, ""]
    if action == "restore":
        write(layout.filed(filed).origin)
    elif action == "render":
        write(layout.filed(filed).report(filed.split("-")[0], name[0]))
    else:
        write(layout.reports / "evidence" / "index.html")
"""


VERBS = {"Judging": "judge", "Rendering": "render", "Adding": "add", "Restoring": "restore"}
"""first word of a rule's message: the job"""


@dataclass
class Clone:
    path: Path

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *words]

    def snakemake(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.path, env=self.env(), capture_output=True, text=True, timeout=120
        )

    def env(self) -> dict[str, str]:
        # PYTHONPATH comes before the installed package, so that edits below the clone count
        path = os.pathsep.join([str(self.path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        return os.environ | {"PATH": path, "PYTHONPATH": str(self.path / "src")}

    def calls(self) -> list[str]:
        """Commands of the fake `decaylab` since the last time this was asked."""
        log = self.path / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(lines)

    @staticmethod
    def trained(calls: list[str]) -> set[str]:
        """Ids of the runs that were trained."""
        return {run_id for call in calls if call.startswith("train ") for run_id in call.split()[1:]}

    def run(self, *words: str) -> list[str]:
        """Run snakemake; the calls of `decaylab` that it made."""
        done = self.snakemake("--cores", "2", *words)
        assert done.returncode == 0, done.stderr
        return self.calls()

    def planned(self, *words: str) -> list[str]:
        """Jobs that a dry run would execute, such as `judge with_vgg`, without those that only collect files."""
        done = self.snakemake("--dry-run", "--cores", "2", *words)
        assert done.returncode == 0, done.stderr
        printed = done.stdout + done.stderr
        found = re.findall(r"^((?:data|train)_\S+|index) +\d+$", printed, re.M)
        for verb, what in re.findall(rf"^Job \d+: ({'|'.join(VERBS)}) (.+)$", printed, re.M):
            found.append(f"{VERBS[verb]} {what}")
        return sorted(set(found))

    def fake(self, sleep: float = 0) -> None:
        program = self.path / "bin" / "decaylab"
        program.parent.mkdir(exist_ok=True)
        program.write_text(FAKE.format(python=sys.executable, sleep=sleep))
        program.chmod(0o755)


def replication(row: int, model: dict, data: dict, **more) -> dict:
    """Two arms of two seeds of 6 steps."""
    return {
        "title": "Title",
        "question": "Question?",
        "row": row,
        "references": [{"id": "T", "title": "Title", "url": "https://example.org", "locator": "Figure 1"}],
        "base": {
            "data": data,
            "model": model,
            "optimizer": {"name": "sgd", "learning_rate": 0.1},
            "steps": 6,
            "batch_size": 2,
            "evaluation": {"every": 3, "log_every": 2},
        },
        "grids": {"main": {"label": "Main", "axes": {"weight_decay": [0, 0.1], "seed": [0, 1]}}}
        | more.pop("grids", {}),
        "claims": [
            {
                "id": "decay-helps",
                "statement": "Decay lowers the loss.",
                "locator": "Figure 1",
                "unit": "nats",
                "source_value": {"text": "3 against 4"},
                "tests": [
                    {
                        "metric": "test_loss",
                        "arm": {"weight_decay": 0.1},
                        "minus": {"weight_decay": 0},
                        "direction": "below",
                        "smallest_effect": 0.1,
                    }
                ],
                "scales": ["smoke", "laptop", "gpu", "paper"],
            }
        ],
    } | more


IMAGES = {"kind": "images", "train_examples": 20, "test_examples": 20}
VGG = {"kind": "vgg", "width": 4, "stages": [1, 1], "hidden_layers": 0}
GPT = {"kind": "gpt", "layers": 1, "heads": 1, "width": 8, "context_length": 8, "vocabulary": 256}
TINY_LR = {
    "label": "Continued",
    "start": {"grid": "main", "where": {"seed": 0}, "at": [0.5]},
    "base": {"optimizer": {"learning_rate": 0.01}},
}


def write_replication(clone: Path, name: str, value: dict) -> None:
    folder = clone / "replications" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replication.yaml").write_text(yaml.safe_dump(value))
    notebook = clone / "notebooks" / f"{name}.ipynb"
    notebook.parent.mkdir(exist_ok=True)
    notebook.write_text("{}")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """`with_vgg` (headline) and `with_gpt`, whose third grid starts from snapshots."""
    for name in ("workflow", "profiles", "config", "src"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tmp_path)
    write_replication(tmp_path, "with_vgg", replication(1, VGG, IMAGES, headline=True))
    write_replication(tmp_path, "with_gpt", replication(2, GPT, {"kind": "text"}, grids={"tiny_lr": TINY_LR}))
    made = Clone(tmp_path)
    made.fake()
    return made
