"""Malformed input of every kind: exit code 2, one line that names the place, no traceback, nothing half-written."""

from __future__ import annotations

import copy
import json
import shlex
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from decaylab import cli
from decaylab.errors import InputError
from decaylab.replication import load_replication
from decaylab.report import notebook
from decaylab.spec import load_spec
from decaylab.workflow.messages import explain_config
from decaylab.workflow.plan import Untracked
from decaylab.workflow.settings import tidy
from tests.test_cli import SPEC
from tests.workflow.conftest import IMAGES, VGG, replication

ROOT = Path(__file__).parent.parent
GOOD = replication(1, VGG, IMAGES, headline=True)


def changed(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path replaced; `...` removes it."""
    value = copy.deepcopy(value)
    *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    place: Any = value
    for part in parents:
        place = place[part]
    if new is ...:
        del place[last]
    else:
        place[last] = new
    return value


REPLICATIONS = [
    ("title", ..., "title"),
    ("title", 3, "title"),
    ("question", None, "question"),
    ("row", "first", "row"),
    ("row", -1, "row"),
    ("references", [], "references"),
    ("references", {"nobody2020": "Figure 1"}, "nobody2020"),
    ("references.0.url", 5, "references.0.url"),
    ("base", [], "base"),
    ("base", ..., "base"),
    ("grids", {}, "grids"),
    ("grids.main.axes", {}, "grid=main"),
    ("grids.main.axes.seed", [], "seed"),
    ("grids.main.axes.seed", 3, "seed"),
    ("grids.main.axes.weight_decays", [0.1], "weight_decays"),
    ("grids.main.colour", "red", "colour"),
    ("claims", "none", "claims"),
    ("claims.0", "decay helps", "claims.0"),
    ("claims.0.id", ..., "id"),
    ("claims.0.tests", [], "tests"),
    ("claims.0.tests.0.direction", "sideways", "direction"),
    ("claims.0.tests.0.smallest_effect", -1, "smallest_effect"),
    ("claims.0.tests.0.smallest_effect", "small", "smallest_effect"),
    ("claims.0.tests.0.arm", 3, "arm"),
    ("claims.0.scales", ["huge"], "scales"),
    ("claims.0.looks", {"laptop": [3, 2]}, "looks"),
    ("claims.0.statement", ["a"], "statement"),
    ("name", "another", "name"),
    ("kolour", 1, "kolour"),
]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "replications" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(clone: Path, text: str | bytes) -> Path:
    path = clone / "replications" / "small" / "replication.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *words: object) -> str:
    """The one line that `decaylab WORDS` prints before it ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["decaylab", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr().err
    assert end.value.code == 2, printed
    assert printed.count("\n") == 1
    assert printed.startswith("decaylab: ")
    assert "Traceback" not in printed
    return printed


@pytest.mark.parametrize(("path", "new", "word"), REPLICATIONS)
def test_a_wrong_replication(clone, monkeypatch, capsys, path, new, word):
    write(clone, yaml.safe_dump(changed(GOOD, path, new)))
    printed = refused(monkeypatch, capsys, "judge", "small", "--scale", "smoke")
    assert "replications/small/replication.yaml" in printed
    assert word in printed
    assert not (clone / "results").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"- a\n",
        b"a: [1\n",
        b"a: 1\na: 2\n",
        b"\xff\xfe\x00",
        b"a: &x [*x]\n",
        b"? {a: 1}\n: 2\n",
        b"date: 2020-13-45\n",
    ],
)
def test_a_file_that_is_no_replication(clone, monkeypatch, capsys, text):
    write(clone, text)
    assert "replication.yaml" in refused(monkeypatch, capsys, "judge", "small", "--scale", "smoke")


CONFIGS = [
    ({"scale": "huge"}, "scale"),
    ({"scale": 3}, "scale"),
    ({"minutes": -1}, "minutes"),
    ({"minutes": "soon"}, "minutes"),
    ({"threads": 0}, "threads"),
    ({"threads": 1.5}, "threads"),
    ({"together": "many"}, "together"),
    ({"together": 0}, "together"),
    ({"device": "tpu"}, "device"),
    ({"results": ""}, "results"),
    ({"results": 7}, "results"),
    ({"results": "a{b}"}, "results"),
    ({"reports": "${NOWHERE_AT_ALL}/x"}, "NOWHERE_AT_ALL"),
    ({"images": ["a"]}, "images"),
    ({"images": ""}, "images"),
    ({"text": 2023}, "text"),
    ({"replications": []}, "replications"),
    ({"replications": 4}, "replications"),
    ({"runs_per_process": 3}, "runs_per_process"),
    ({"runs_per_process": {"tiny": 3}}, "tiny"),
    ({"runs_per_process": {"gpu": "some"}}, "gpu"),
    ({"scales": "smoke"}, "scales"),
]


@pytest.mark.parametrize(("config", "word"), CONFIGS)
def test_a_wrong_configuration(config, word):
    try:
        tidy(config)
        validate(config, schema=str(ROOT / "workflow" / "schemas" / "config.schema.yaml"))
    except InputError as error:
        line = str(error)
    except WorkflowError as error:
        line = explain_config(error)
    else:
        pytest.fail("it was accepted")
    assert line.startswith("config: ")
    assert word in line
    assert "\n" not in line


def packed(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path


def manifest(**changes: Any) -> bytes:
    return json.dumps({"format": 1, "scale": "smoke", "choices": {}} | changes).encode()


PACKS: list[Callable[[Path], Path]] = [
    lambda path: packed(path),
    lambda path: packed(path, pack_json=manifest()),
    lambda path: packed(path, pack_json=b"{", claims_jsonl=b"", runs_parquet=b""),
    lambda path: packed(path, pack_json=b"[]", claims_jsonl=b"", runs_parquet=b""),
    lambda path: packed(path, pack_json=manifest(format=9), claims_jsonl=b"", runs_parquet=b""),
    lambda path: packed(path, pack_json=manifest(scale="huge"), claims_jsonl=b"", runs_parquet=b""),
    lambda path: packed(path, pack_json=manifest(choices=3), claims_jsonl=b"", runs_parquet=b""),
    lambda path: packed(path, pack_json=manifest(), claims_jsonl=b"\xff", runs_parquet=b""),
    lambda path: packed(path, pack_json=manifest(), claims_jsonl=b"", runs_parquet=b"PAR1 no parquet"),
    lambda path: packed(path, pack_json=manifest(), claims_jsonl=b"", runs_parquet=b"", other=b"x"),
]


@pytest.mark.parametrize("make", PACKS)
def test_a_wrong_pack(clone, monkeypatch, capsys, make):
    write(clone, yaml.safe_dump(GOOD))
    path = make(clone / "pack.zip")
    assert "pack.zip" in refused(monkeypatch, capsys, "evidence", "add", path)
    assert not (clone / "replications" / "small" / "evidence").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"replication": "other"}'])
def test_wrong_evidence(clone, monkeypatch, capsys, content):
    write(clone, yaml.safe_dump(GOOD))
    folder = clone / "replications" / "small" / "evidence"
    folder.mkdir()
    (folder / "smoke-a.json").write_text(content)
    (folder / "smoke-a.parquet").write_bytes(b"PAR1")
    assert "smoke-a.json" in refused(monkeypatch, capsys, "evidence", "restore", "smoke-a")
    assert not (clone / "results" / "evidence" / "smoke-a").exists()


def registry(clone: Path) -> None:
    (clone / "results").mkdir()
    (clone / "results" / "claims.jsonl").write_text("{}\n")


def seeds(clone: Path) -> None:
    (clone / "results" / "seeds").mkdir(parents=True)
    (clone / "results" / "seeds" / "smoke.json").write_text("[1]")


@pytest.mark.parametrize(("damage", "word"), [(registry, "claims.jsonl:1"), (seeds, "seeds/smoke.json")])
def test_wrong_results(clone, monkeypatch, capsys, damage, word):
    write(clone, yaml.safe_dump(GOOD))
    damage(clone)
    assert word in refused(monkeypatch, capsys, "judge", "small", "--scale", "smoke")


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def places(value: Any, path: str = "") -> list[str]:
    """Dotted paths of everything in a mapping."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [f"{path}.{key}".lstrip(".") for key, _ in items]
    return found + [deep for key, item in items for deep in places(item, f"{path}.{key}".lstrip("."))]


def one_line_or_fine(call: Callable[[], Any]) -> None:
    line = ""
    try:
        call()
    except InputError as error:
        line = str(error)
    assert "\n" not in line


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(places(GOOD)), ANYTHING)
def test_any_value_in_a_replication_is_accepted_or_one_line(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "replications" / "small").mkdir(parents=True)
    path = write(folder, yaml.safe_dump(changed(GOOD, place, value)))
    one_line_or_fine(lambda: load_replication(path))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(places(SPEC)), ANYTHING)
def test_any_value_in_a_spec_is_accepted_or_one_line(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    path.write_text(yaml.safe_dump(changed(SPEC, place, value)))
    one_line_or_fine(lambda: load_spec(path))


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_replication_or_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "replications" / "small").mkdir(parents=True)
    path = write(folder, content)
    one_line_or_fine(lambda: load_replication(path))


@settings(deadline=None, max_examples=20)
@given(st.recursive(LEAVES, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3)))
def test_any_json_is_a_notebook_or_one_line(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.ipynb"
    path.write_text(json.dumps(value))
    one_line_or_fine(lambda: isinstance(notebook._read(path), nbformat.NotebookNode))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_value_of_the_configuration_becomes_a_command(value):

    assert shlex.split(str(Untracked(text=value))) == ["--text", value]


def test_the_kinds_are_many():
    assert len(REPLICATIONS) + len(CONFIGS) + len(PACKS) >= 60
