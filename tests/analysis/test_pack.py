import json
import zipfile

import pytest

from decaylab.analysis.pack import CLAIMS, MANIFEST, RUNS, read_pack, write_pack
from decaylab.analysis.preregistration import register_claims
from decaylab.analysis.results import load_run
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import plan_runs
from decaylab.sources import Choice

CHOICES = {"images": Choice("mine.tar", "a" * 64)}


@pytest.fixture
def packed(lab, tmp_path):
    """(path of a pack, plan): two of the planned runs have finished."""
    rep = lab.replication()
    planned = plan_runs([rep], "gpu", CHOICES)
    for run in list(planned.values())[:2]:
        lab.run(run.spec, {"test_error": 0.25})
    register_claims([rep], lab.workspace("gpu"))
    assert write_pack(tmp_path / "pack.zip", planned, lab.workspace("gpu", CHOICES)) == 2
    return tmp_path / "pack.zip", planned


def test_a_pack_brings_home_what_has_finished(packed, lab, tmp_path):
    path, planned = packed
    layout = Layout(tmp_path / "home")
    pack = read_pack(path, layout)
    assert (pack.scale, pack.choices) == ("gpu", CHOICES)
    assert sorted(pack.run_ids) == sorted(list(planned)[:2])
    for run_id in pack.run_ids:
        assert load_run(layout, run_id).summary == load_run(lab.layout, run_id).summary
    assert layout.claims.read_text() == lab.layout.claims.read_text()
    assert sorted(item.name for item in layout.results.iterdir()) == ["claims.jsonl", "runs"]


def test_a_pack_of_nothing_is_not_written(lab, tmp_path):
    planned = plan_runs([lab.replication()], "gpu")
    assert write_pack(tmp_path / "pack.zip", planned, lab.workspace("gpu")) == 0
    assert not (tmp_path / "pack.zip").exists()


def rewritten(path, change):
    """The pack with its members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)


def manifest(members, **changes):
    return members | {MANIFEST: json.dumps(json.loads(members[MANIFEST]) | changes)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m | {"../../climbing": b"x"}, r"expected a pack with members .*; got '\.\./\.\./climbing'"),
        (lambda m: {MANIFEST: m[MANIFEST], RUNS: m[RUNS]}, "one is missing"),
        (lambda m: m | {MANIFEST: b"{"}, r"pack\.json: expected JSON with format, scale and choices"),
        (lambda m: manifest(m, format=7), "format: expected 1, got 7"),
        (lambda m: manifest(m, scale="huge"), "scale: expected one of smoke, laptop, gpu, paper, got 'huge'"),
        (lambda m: manifest(m, choices=["images"]), "expected JSON with format, scale and choices"),
        (lambda m: m | {RUNS: m[RUNS][:-100]}, r"runs\.parquet: cannot be read as parquet"),
        (lambda m: m | {CLAIMS: b"\xff\xfe"}, "not a pack, or a damaged one"),
    ],
)
def test_a_damaged_pack_is_one_line_and_nothing_leaves_it(packed, tmp_path, change, words):
    path, _ = packed
    rewritten(path, change)
    with pytest.raises(InputError, match=words) as error:
        read_pack(path, Layout(tmp_path / "a" / "b" / "home"))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("**/climbing"))


def test_what_is_no_pack_at_all_is_one_line(packed, tmp_path):
    path, _ = packed
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="not a pack, or a damaged one"):
        read_pack(path, Layout(tmp_path / "home"))
    with pytest.raises(InputError, match="no such file"):
        read_pack(tmp_path / "absent.zip", Layout(tmp_path / "home"))


def test_a_pack_in_an_unknown_compression_is_one_line(packed, tmp_path):
    """zipfile calls such a method not implemented; bytes 8 and 9 of a member's local header name it, 10 and 11 of the
    directory's."""
    path, _ = packed
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark) + offset
        content[at : at + 2] = (99).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a pack, or a damaged one .*compression"):
        read_pack(path, Layout(tmp_path / "home"))
