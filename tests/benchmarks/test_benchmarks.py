"""The arithmetic of the table, and that every benchmark runs; no time is asserted."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import gpt, images  # noqa: F401  (register their benchmarks)
from benchmarks.cases import BENCHMARKS, Case, Settings, Spread, measure, ratios, rotated
from benchmarks.loops import Failed, Loop, run_script
from benchmarks.table import markdown, tables

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("gpt", "gpt2-gpu", "gpt2-cpu", "together", "resnet", "resnet18-cpu", "resnet18-gpu")


@dataclass
class Scripted:
    """A contender whose times are known."""

    name: str
    times: list[float]
    calls: list[str]
    against: str | None = None
    target: float | None = None
    memory: int = 0
    length: float = 0.0
    ended: bool = field(default=False)

    def start(self, **_: object) -> None:
        if not self.times:
            raise Failed("no engine")

    def turn(self) -> float:
        if not self.times:
            raise Failed("out of fuel")
        self.calls.append(self.name)
        return self.times.pop(0)

    def end(self) -> None:
        self.ended = True


def test_ratios_are_of_the_same_round() -> None:
    # the second round is ten times as slow for both, which must not widen the spread
    assert ratios([2.0, 20.0, 3.0], [1.0, 10.0, 2.0]) == Spread(2.0, 1.5, 2.0)
    assert ratios([], []) is None
    assert ratios([1.0], [1.0, 2.0]) is None


def test_everybody_is_first_in_turn() -> None:
    assert [rotated("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert rotated([], 3) == []


def test_contenders_alternate_and_turns_of_a_round_are_averaged(tmp_path: Path) -> None:
    calls: list[str] = []
    ours = Scripted("ours", [1.0, 3.0, 4.0, 4.0], calls, length=0.5)
    peer = Scripted("peer", [4.0, 4.0, 8.0, 4.0], calls, against="ours", target=1.5, length=0.1)
    rows = measure("b", Case("c", [ours, peer], items=8, unit="tokens", turns=4), Settings(tmp_path, rounds=2))
    assert calls == ["ours", "peer", "peer", "ours", "ours", "peer", "peer", "ours"]
    assert [row.seconds for row in rows] == [(2.0, 4.0), (4.0, 6.0)]
    assert rows[0].ratio is None
    assert rows[1].ratio == Spread(1.75, 1.5, 2.0)
    assert rows[0].rate == pytest.approx(8 / 3)
    assert ours.ended
    assert peer.ended
    [(_, _, (heads, *body))] = tables(rows)
    assert heads == ["contender", "time", "against", "ratio", "target", "a second"]
    assert body[1] == ["peer", "5.00 [4.00, 6.00] s", "ours", "1.75 [1.50, 2.00]", "≥ 1.5 met", "2 tokens"]


def test_one_that_fails_stops_nobody_else(tmp_path: Path) -> None:
    broken = Scripted("broken", [], [])
    breaks = Scripted("breaks", [1.0], [], against="ours")
    ours = Scripted("ours", [1.0, 1.0, 1.0], [])
    rows = measure("b", Case("c", [broken, breaks, ours]), Settings(tmp_path, rounds=3))
    assert [row.problem for row in rows] == ["failed: no engine", "failed: out of fuel", None]
    assert rows[2].seconds == (1.0, 1.0, 1.0)
    page = markdown(rows, {"hardware": {"name": "machine"}, "command": "python -m benchmarks"})
    assert "| breaks | failed: out of fuel |" in page


SCRIPT = """
import sys
import torch
from helper import WEIGHTS
assert sys.argv[1:] == ["--width=3"], sys.argv
weight = torch.nn.Parameter(torch.zeros(WEIGHTS))
optimizer = torch.optim.SGD([weight], lr=0.1)
while True:
    weight.sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("weights", "problem"), [(7, None), (8, "failed: trains 7 weights, expected 8")])
def test_a_peers_script_runs_untouched_in_its_own_folder(tmp_path: Path, weights: int, problem: str | None) -> None:
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "train.py").write_text(SCRIPT)
    (tmp_path / "peer" / "helper.py").write_text("WEIGHTS = 7")
    arguments = {"checkout": tmp_path / "peer", "script": "train.py", "options": {"width": 3}}
    case = Case("c", [Loop("peer", run_script, arguments, weights=weights)], log_every=5)
    (row,) = measure("b", case, Settings(tmp_path, rounds=2, seconds=0.01))
    assert row.problem == problem
    assert len(row.seconds) == (0 if problem else 2)
    assert sorted(path.name for path in (tmp_path / "peer").iterdir()) == ["helper.py", "train.py"]


def test_the_reason_why_a_loop_ended_is_told(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise SystemExit('no data')")
    case = Case("c", [Loop("peer", run_script, {"checkout": tmp_path, "script": "train.py", "options": {}})])
    (row,) = measure("b", case, Settings(tmp_path))
    assert row.problem == "failed: no data"


def benchmarks(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nothing"], "benchmark 'nothing': expected one of gpt, "),
        (["--peer", "nanogpt"], "--peer nanogpt: expected NAME=PATH with a NAME of nanogpt, epfl, airbench"),
        (["--peer", "epfl=nowhere"], "--peer epfl=nowhere: no checkout of it"),
        (["--device", "abacus"], "device: expected auto, cpu or cuda"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], line: str) -> None:
    done = benchmarks(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"benchmarks: {line}")
    assert done.stderr.count("\n") == 1


def rehearsed(out: Path, *names: str) -> list[dict]:
    done = benchmarks(*names, "--rehearse", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("rehearsal-*.json")
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


@pytest.mark.slow
def test_every_training_benchmark_runs(tmp_path: Path) -> None:
    rows = rehearsed(tmp_path, *TRAINING)
    assert {row["benchmark"] for row in rows} == set(TRAINING)
    for row in rows:
        assert row["seconds"] or row["problem"].startswith("skipped: "), row


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({"startup", "notebooks", "workflow"}))
def test_every_other_benchmark_runs(tmp_path: Path, name: str) -> None:
    rows = rehearsed(tmp_path, name)
    assert rows
    assert all(row["seconds"] for row in rows), rows


def test_no_benchmark_is_forgotten_here() -> None:
    from benchmarks import startup  # noqa: F401

    assert set(BENCHMARKS) == {*TRAINING, "startup", "notebooks", "workflow"}
