"""The configuration as people write it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.workflow.settings import find_clone, tidy
from decaylab.workspace import find_root

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("images", "null", None),
        ("images", None, None),
        ("images", "~/cats.tar", "/home/me/cats.tar"),
        ("text", "a.txt,~/b.txt", "a.txt,/home/me/b.txt"),
        ("text", "$BOOKS/*.xz", "/books/*.xz"),
        ("text", "price in $.txt", "price in $.txt"),
        ("results", "~/results", "/home/me/results"),
        ("results", "${HOME}/results", "/home/me/results"),
        ("reports", "reports", "reports"),
        ("runs_per_process", {"laptop": "3", "gpu": 8}, {"laptop": 3, "gpu": 8}),
        ("runs_per_process", {"laptop": "many"}, {"laptop": "many"}),
    ],
)
def test_values_mean_what_their_writer_meant(monkeypatch, key, value, meant):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("BOOKS", "/books")
    config = {key: value}
    tidy(config)
    assert config == {key: meant}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("text", 202311, r"text: expected text, got the number 202311; .* write text=\./2023_11"),
        ("replications", 3, "replications: expected text, got the number 3"),
        ("images", True, "images: expected text"),
        ("results", "${NOWHERE}/x", r"results: \$\{NOWHERE\}/x: the variable NOWHERE is not set"),
        ("reports", "reports/{name}", "reports: expected a folder without braces"),
    ],
)
def test_what_cannot_be_meant_is_one_line(monkeypatch, key, value, words):
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.setattr(sys, "argv", ["snakemake", "--config", "text=2023_11"])
    with pytest.raises(InputError, match=words):
        tidy({key: value})


def test_the_clone_is_the_one_here_or_the_one_of_the_workflow(monkeypatch, tmp_path):
    monkeypatch.delenv("DECAYLAB_ROOT", raising=False)
    monkeypatch.chdir(ROOT / "docs")
    assert find_clone(ROOT / "workflow" / "rules") == ROOT
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="needs a clone on this machine"):
        find_clone(tmp_path / "cache" / "workflow" / "rules")
    with pytest.raises(InputError, match="run decaylab inside its clone"):
        find_root()
    monkeypatch.setenv("DECAYLAB_ROOT", "")  # so that monkeypatch takes back what find_clone sets
    assert find_clone(ROOT / "workflow" / "rules") == ROOT
    assert find_root() == ROOT, "programs that jobs start find it, too"
