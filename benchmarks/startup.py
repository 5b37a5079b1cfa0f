"""What is not training: starting, rendering a notebook, reading the workflow."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.cases import Case, Settings, Skip, benchmark
from benchmarks.commands import Command
from benchmarks.gpt import TINY, gpt_spec
from decaylab.replication import list_replications

ROOT = Path(__file__).resolve().parents[1]
DECAYLAB = (sys.executable, "-m", "decaylab")
SNAKEMAKE = (sys.executable, "-m", "snakemake")
PARTS = ("Snakefile", "config", "profiles", "workflow", "replications", "notebooks")
"""of a clone that the workflow reads"""
REPLICATIONS = 16


def installed(*modules: str) -> str | None:
    """The first of some modules that is missing, or None."""
    return next((name for name in modules if importlib.util.find_spec(name) is None), None)


@benchmark("startup")
def start(settings: Settings) -> Iterator[Case | Skip]:
    """Seconds until decaylab does something, against importing torch alone."""
    spec = gpt_spec(**TINY) | {"steps": 1}
    spec["evaluation"] |= {"every": 1, "log_every": 1}
    folder = settings.folder / "startup"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec))
    train = [*DECAYLAB, "train", "--spec", "spec.json", "--out", "out", "--device", settings.device]
    once = [folder / "out" / "runs", folder / "out" / "state"]
    yield Case(
        "start",
        [
            Command("import torch", [sys.executable, "-c", "import torch"], folder),
            Command("decaylab --help", [*DECAYLAB, "--help"], ROOT, against="import torch"),
            Command("decaylab train, one step", train, folder, forget=once, against="import torch"),
        ],
        about="a process each; one step of the smallest GPT, data prepared before",
    )


@benchmark("notebooks")
def notebooks(settings: Settings) -> Iterator[Case | Skip]:
    """Seconds to execute each notebook and write its page, from the results that lie in `results`."""
    from decaylab.files import Layout
    from decaylab.replication import list_replications

    missing = installed("papermill", "nbconvert")
    if missing:
        yield Skip("render", f"{missing} is not installed")
        return
    reports = settings.folder / "reports"
    results = settings.folder / "no-results" if settings.rehearse else ROOT / "results"
    names = list_replications(ROOT)
    for name in names[:1] if settings.rehearse else names:
        scale = next((scale for scale in ("laptop", "smoke") if Layout(results).verdicts(scale, name).exists()), None)
        if settings.rehearse:
            scale = "smoke"
            judge = [*DECAYLAB, "judge", name, "--scale", scale, "--results", str(results)]
            subprocess.run(judge, cwd=ROOT, check=True, capture_output=True)
        if scale is None:
            yield Skip(f"render {name}", "no results; `make report SCALE=smoke` makes them")
            continue
        words = [*DECAYLAB, "render", name, "--scale", scale, "--results", results, "--reports", reports]
        yield Case(f"render {name}", [Command("decaylab render", words, ROOT)], about=f"scale {scale}", most_rounds=3)


@benchmark("workflow")
def workflow(settings: Settings) -> Iterator[Case | Skip]:
    """Seconds that snakemake takes to read sixteen replications, to plan all of their runs, and to find all done."""
    count = len(list_replications(ROOT)) if settings.rehearse else REPLICATIONS
    name = f"snakemake, {count} replications"
    if installed("snakemake"):
        yield Skip(name, "snakemake is not installed")
        return
    folders = {state: settings.folder / f"clone-{state}" for state in ("new", "done")}
    for folder in folders.values():
        copy_clone(folder, count)
    configuration = ["--config", "scale=smoke", "replications=all"]
    jobs = finish(folders["done"], configuration)
    everything = [*SNAKEMAKE, "--cores", "1", "all"]
    yield Case(
        name,
        [
            Command("snakemake --version", [*SNAKEMAKE, "--version"], folders["new"]),
            Command(
                "parse (--list-rules)",
                [*SNAKEMAKE, "--list-rules", *configuration],
                folders["new"],
                against="snakemake --version",
            ),
            Command(
                "plan (-n), nothing done",
                [*everything, "-n", *configuration],
                folders["new"],
                against="snakemake --version",
                must_say="train_",
            ),
            Command(
                "run, all done",
                [*everything, *configuration],
                folders["done"],
                against="snakemake --version",
                must_say="Nothing to be done",
            ),
        ],
        about=f"scale smoke, {jobs} files",
    )


def copy_clone(folder: Path, count: int) -> None:
    """What the workflow reads, with copies of replications under new names until there are `count` of them.

    A copy has a data seed of its own, so that its runs are not those of its original.
    """
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("evidence"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder)
    originals = list_replications(folder)
    for number in range(len(originals), count):
        original = originals[number % len(originals)]
        name = f"{original}_{number}"
        shutil.copytree(folder / "replications" / original, folder / "replications" / name)
        shutil.copy(folder / "notebooks" / f"{original}.ipynb", folder / "notebooks" / f"{name}.ipynb")
        path = folder / "replications" / name / "replication.yaml"
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        value["row"] = 1000 + number
        value["base"]["data_seed"] = number
        path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


def finish(folder: Path, configuration: list[str]) -> int:
    """Make every output of the workflow, empty, and let snakemake believe that it made them; how many there are."""

    def snakemake(*words: str) -> str:
        command = [*SNAKEMAKE, *words, *configuration]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout

    rows = [line.split("\t") for line in snakemake("all", "--summary").splitlines()]
    outputs = [folder / row[0] for row in rows if len(row) > 1 and row[0] != "output_file"]
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    snakemake("all", "--touch", "--cores", "1")
    return len(outputs)
