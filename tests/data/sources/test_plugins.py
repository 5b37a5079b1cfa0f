"""A data source is one file: a new one is known everywhere, and changes nothing for the runs on others."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decaylab import plugins, sources

ROOT = Path(__file__).parents[3]

IMAGES = """
import numpy as np

from decaylab.data.images import PreparedImages as Prepared
from decaylab.data.images import write

ABOUT = {"kind": "images", "title": "noise", "licence": "CC0-1.0", "classes": 7, "examples": {"train": 70, "test": 14}}


def prepare(data, folder, choice):
    splits = {}
    for split, count in ABOUT["examples"].items():
        labels = np.arange(count) % 7
        shape = (data.image_size, data.image_size, 3)
        images = np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)
        splits[split] = (images, labels)
    return write(data, folder, splits, [f"class {label}" for label in range(7)])
"""

TEXT = """
from decaylab.data.text import PreparedText as Prepared
from decaylab.data.text import write

ABOUT = {"kind": "text", "title": "numbers in words", "licence": "CC0-1.0", "tokens": 100_000}


def prepare(data, folder, choice):
    return write(data, folder, (" ".join(str(number**power) for power in range(2, 20)) for number in range(100)))
"""

PROGRAM = """
import json, sys, tempfile
from pathlib import Path

from decaylab import sources
from decaylab.data import prepare, prepared_key
from decaylab.files import Layout, read_json
from decaylab.fingerprint import PACKAGE, fingerprint, sources_for
from decaylab.spec import parse_spec

said = {"stdlib": sources.names("text"), "about": {}, "digests": {}, "keys": {}, "prices": {}, "meta": {}}
assert "torch" not in sys.modules
evaluation = {"every": 1, "log_every": 1, "train_examples": 4, "examples": 4}
common = {"decay": {}, "steps": 2, "batch_size": 2, "evaluation": evaluation, "seed": 0}
common["optimizer"] = {"name": "sgd", "learning_rate": 0.1}
for kind, source in json.loads(sys.argv[1]):
    model = {"kind": "mlp", "width": 4} if kind == "images" else {
        "kind": "gpt", "layers": 1, "heads": 1, "width": 8, "context_length": 8}
    choice = sources.choose(kind, source)
    data = {"kind": kind, **choice.fields()}
    if kind == "images":
        data |= {"image_size": 8, "train_examples": 20, "test_examples": 10}
    spec = parse_spec({"data": data, "model": model, **common}, "here")
    said["about"][source] = sources.source_of(kind, source).licence
    said["digests"][source] = fingerprint(spec)
    said["keys"][source] = [spec.run_id, prepared_key(spec.data)]
    said["meta"][source] = [path.relative_to(PACKAGE).as_posix() for path in sources_for(spec)]
    if source in sys.argv[2:]:
        from decaylab.operations import outputs_of
        said["prices"][source] = outputs_of(spec)
        with tempfile.TemporaryDirectory() as folder:
            about = read_json(prepare(spec.data, Layout(Path(folder))) / "meta.json")
        said["about"][source] = [about["licence"], about["source"]]
print(json.dumps(said))
"""

KNOWN = [["images", "procedural"], ["images", "cifar10"], ["text", "stdlib"], ["text", "fineweb"]]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def ask(copy: Path, chosen: list[list[str]], *prepared: str) -> dict:
    command = [sys.executable, "-c", PROGRAM, json.dumps(chosen), *prepared]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_new_file_is_known_everywhere_and_changes_nothing_else(copy):
    before = ask(copy, KNOWN)
    folder = copy / "decaylab" / "data" / "sources"
    (folder / "stripes.py").write_text(IMAGES)
    (folder / "numerals.py").write_text(TEXT)
    after = ask(copy, [*KNOWN, ["images", "stripes"], ["text", "numerals"]], "stripes", "numerals")
    for _, name in KNOWN:
        assert after["digests"][name] == before["digests"][name]
        assert after["keys"][name] == before["keys"][name]
    assert after["prices"] == {"stripes": 7, "numerals": 256}
    assert after["about"]["stripes"] == ["CC0-1.0", "stripes"]
    assert after["about"]["numerals"] == ["CC0-1.0", "numerals"]
    assert "data/sources/stripes.py" in after["meta"]["stripes"]
    assert "data/sources/numerals.py" not in after["meta"]["stripes"]


@pytest.mark.parametrize("name", plugins.available("data/sources"))
def test_facts_are_complete_and_need_no_import(name):
    facts = sources.about(name)
    assert facts.kind in ("images", "text")
    assert facts.title
    own = name not in sources.names(facts.kind)
    assert own == (name in ("image_files", "text_files"))
    assert own or facts.licence
    path = plugins.path_of("data/sources", name)
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_facts_that_are_misspelt_name_the_file(monkeypatch):
    monkeypatch.setattr(plugins, "literal", lambda *_: {"kind": "images", "title": "x", "license": "MIT"})
    with pytest.raises(sources.InputError, match=r"data/sources/cifar10\.py: ABOUT: .*'license'"):
        sources.about.__wrapped__("cifar10")


def test_a_users_folder_cannot_take_a_built_in_name(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sources.InputError, match=r"^images=\./cifar10: 'cifar10' is the name of a built-in source"):
        sources.choose("images", "./cifar10")
