"""The workflow's files: style, targets, configuration, and dry runs of the real replications."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from decaylab.replication import list_replications
from decaylab.workflow.targets import RESERVED
from decaylab.workspace import SCALES

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


REAL = ["scale=gpu", "images=cifar10", "text=openwebtext"]


def snakemake(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_snakemake_has_nothing_to_lint():
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_formatted():
    done = subprocess.run(
        [BIN / "snakefmt", "--check", "Snakefile", "workflow"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("start", [[], ["-s", "workflow/Snakefile"]])
def test_there_is_one_target_for_each_replication(start):
    done = snakemake(*start, "--list-target-rules")
    assert done.returncode == 0, done.stderr
    rules = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    folders = {path.parent.name for path in (ROOT / "replications").glob("*/replication.yaml")}
    assert folders == set(list_replications(ROOT))
    assert {name for name in rules if not re.match("(train|data)_.*[0-9a-f]{10}$", name)} - RESERVED == folders


def test_no_replication_can_take_the_name_of_a_rule():
    rules = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")])
    assert set(re.findall(r"^(?:rule|checkpoint) (\w+):", rules, re.M)) | {"all"} == RESERVED


@pytest.mark.slow
@pytest.mark.parametrize("config", [*([f"scale={scale}"] for scale in SCALES), REAL])
def test_every_scale_can_be_planned(config):
    done = snakemake("-n", "--forceall", "--cores", "2", "--config", *config, "replications=all")
    assert done.returncode == 0, done.stderr
    for name in list_replications(ROOT):
        assert re.search(rf"^Job \d+: Judging {name}$", done.stdout + done.stderr, re.M)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["imagez=cifar10"], "imagez: unknown key"),
        (["scale=huge"], "scale: expected smoke, laptop, gpu, paper, got 'huge'"),
        (["threads=0"], "threads: expected a whole number of CPU threads above 0, got 0"),
        (["runs_per_process={tiny: 3}"], "runs_per_process.tiny: unknown key"),
        (["replications=nothing"], "replications: replication 'nothing': unknown"),
        (["images=missing.tar"], "images: images=missing.tar: no data set"),
        (["text=2023_11"], "text: expected text, got the number 202311"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_code_2(words, expected):
    done = snakemake("-n", "--cores", "1", "--config", *words)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("decaylab: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in done.stderr


def test_values_of_the_configuration_are_single_words_of_the_shell(tmp_path):
    folder = f"{tmp_path}/it's; touch $(touch pwned) `y` & x"
    done = snakemake("-n", "-p", "--cores", "1", "loss_stabilization", "--config", "scale=smoke", f"results={folder}")
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^Shell command: (decaylab .*)$", done.stdout + done.stderr, re.M)
    assert len({command.split()[1] for command in commands}) == 5
    for command in commands:
        words = shlex.split(command)
        assert words[words.index("--results") + 1] == folder


def test_every_key_has_a_default_and_is_documented():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    readme = (ROOT / "config" / "README.md").read_text()
    assert set(config) == set(schema["properties"])
    for key, value in schema["properties"].items():
        assert "default" in value
        assert f"`{key}`" in readme
        if key != "runs_per_process":
            assert config[key] == value["default"]
    scales = {key: value["default"] for key, value in schema["properties"]["runs_per_process"]["properties"].items()}
    assert config["runs_per_process"] == scales


def test_profiles_say_what_every_entry_is_for():
    for path in ROOT.glob("profiles/*/profile.yaml"):
        assert path.read_text().startswith("#")
        assert isinstance(yaml.safe_load(path.read_text()), dict)
    assert len(list(ROOT.glob("profiles/*/profile.yaml"))) == 4
    assert yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text())["resources"] == {"gpu": 1}


def test_make_passes_its_variables_to_snakemake_and_names_the_index():
    words = ["SCALE=smoke", "REPLICATIONS=all", "IMAGES=cifar10", "TEXT=a b.txt", "CORES=3"]
    # `make test` hands its own variables down
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "SCALE"}
    done = subprocess.run(["make", "-n", "report", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = "--config scale='smoke' replications='all' images='cifar10' text='a b.txt'"
    assert f"snakemake --cores 3 all {config}\n" in done.stdout
    assert 'echo "reports/smoke/index.html"' in done.stdout.splitlines()[-1]
    words = ["SCALE=smoke", "TEXT=it's; $(touch x) `y`.txt"]
    done = subprocess.run(["make", "-n", "report", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if "snakemake" in line)
    assert shlex.split(line)[-1] == "text=it's; `y`.txt", "make itself expands $(...)"
    plain = subprocess.run(["make", "-n", "report"], cwd=ROOT, env=env, capture_output=True, text=True).stdout
    assert "--config" not in plain
    assert "reports/laptop/index.html" in plain


def test_nothing_that_changes_by_itself_stands_in_the_rules():
    text = "".join(path.read_text() for path in (ROOT / "workflow").rglob("*.smk"))
    assert not re.search(r"\bgit\b|datetime|time\(|tempfile|os\.environ", text)


def test_the_lock_has_every_direct_dependency_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [
        item for name in ("report", "images", "text", "workflow", "dev") for item in extras[name]
    ]
    lock = (ROOT / "requirements.lock").read_text()
    for item in wanted:
        name = re.match(r"[A-Za-z0-9_.-]+", item)[0].lower()
        assert re.search(rf"^{re.escape(name)}==\S+.*\\\n +--hash=sha256:", lock, re.M), f"{item}: run `make lock`"
    # where packages come from is the user's business
    assert not re.search(r"https?://|file:|--(index-url|find-links)", lock)
