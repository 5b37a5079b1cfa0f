import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, read_json, sha256_file, sha256_json, write_json

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o644

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("sec")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"):
        fail()
    assert path.read_text() == "first"
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"], "no temporary file stays"


@given(value=json_values)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_what_json_cannot_say_becomes_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, (1.5, -math.inf)], 3: "é"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "é" in text
    assert json.loads(text) == {"a": None, "b": [None, [1.5, None]], "3": "é"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"{\n,", "line 2: expected JSON"), (b"\xff", "cannot be read")],
)
def test_unreadable_json_is_one_line(tmp_path, content, words):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        read_json(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_folder_is_not_json(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a") == known
    assert sha256_json({"b": 1, "a": [1.0]}) == sha256_json({"a": [1.0], "b": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_every_path_lies_below_its_folder(tmp_path):
    layout = Layout(tmp_path / "results", tmp_path / "reports")
    for path in (
        layout.summary("r"),
        layout.metrics("r"),
        layout.snapshot("r", 5),
        layout.state("r"),
        layout.prepared("k"),
        layout.verdicts("gpu", "tiny"),
    ):
        assert path.is_relative_to(layout.results)
    assert layout.snapshot("r", 5).name == "snapshot-00000005.safetensors"
    assert layout.summary("r").parent == layout.run("r") == layout.metrics("r").parent
    assert not layout.state("r").is_relative_to(layout.run("r")), "it survives the deletion of a job's outputs"
    assert layout.report("gpu", "tiny").parent == layout.index("gpu").parent == tmp_path / "reports" / "gpu"
