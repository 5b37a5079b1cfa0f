"""Every probe in the folder keeps to the protocol and leaves its training as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import decaylab
from decaylab import plugins
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.fingerprint import fingerprint
from decaylab.probes import columns
from decaylab.training.loop import Options, train
from decaylab.training.probing import example_passes
from tests.training.cases import CASES, spec

PROBES = plugins.available("probes")
PRECISIONS = ("float32", "bfloat16", "float16", "bfloat16_weights")


def case_of(probe: str) -> str:
    if probe == "exact_hessian":
        return "mlp"  # for small networks
    needs = plugins.literal("probes", probe, "NEEDS")
    return "resnet" if needs == "images" else "gpt"


def least(probe: str) -> dict[str, int]:
    """Its parameters at the least that they may be, so that it costs little."""
    declared = plugins.literal("probes", probe, "PARAMETERS") or {}
    return {name: options["ge"] for name, options in declared.items() if "ge" in options}


def numbers(changes, layout, name):
    summary = train(spec(CASES[name], **changes), layout, Options())
    metrics = pd.read_parquet(layout.metrics(summary["run_id"]))
    return summary, metrics


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_does_not_disturb_its_training(probe, precision, tmp_path):
    """Same bits with and without it, also with a cadence of its own and with dropout's random numbers."""
    name = case_of(probe)
    changes = {"precision": precision, "snapshots": [12]}
    if name == "gpt":
        changes["model"] = {"dropout": 0.1}
    layouts = Layout(tmp_path / "without"), Layout(tmp_path / "with")
    summary, without = numbers(changes, layouts[0], name)
    asked = {"evaluation": {"probes": [{probe: {"every": 5} | least(probe)}]}}
    probed, with_probe = numbers(changes | asked, layouts[1], name)
    written = [
        column
        for column in with_probe.columns
        if column.split(".")[0] in (plugins.literal("probes", probe, "COLUMNS") or {})
    ]
    assert written or probed["texts"]
    rows = with_probe.drop(columns=written).dropna(how="all", subset=without.columns[1:]).reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[without.columns], without, check_exact=True)
    snapshots = [
        layout.snapshot(item["run_id"], 12).read_bytes()
        for layout, item in zip(layouts, (summary, probed), strict=True)
    ]
    assert snapshots[0] == snapshots[1]


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_writes_what_it_declares(probe, tmp_path):
    declared = plugins.literal("probes", probe, "COLUMNS") or {}
    assert all(label and isinstance(unit, str) for label, unit in declared.values())
    name = case_of(probe)
    _, plain = numbers({"steps": 6}, Layout(tmp_path / "a"), name)
    summary, table = numbers(
        {"steps": 6, "evaluation": {"probes": [{probe: least(probe)}]}}, Layout(tmp_path / "b"), name
    )
    new = {column.split(".")[0] for column in set(table.columns) - set(plain.columns)}
    assert new == set(declared)
    assert bool(summary["texts"]) == (not declared)
    assert example_passes(spec(CASES[name], evaluation={"probes": [probe]})) >= 0


def test_columns_are_known_without_torch():
    code = "import sys, decaylab.probes as p; print(p.columns()['lost_updates'][1], 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["share", "False"]
    assert {"lost_updates", "attention_logit"} <= columns().keys()


def test_plain_names_keep_their_ids():
    name = spec(CASES["gpt"], evaluation={"probes": ["attention"]})
    for same in ({"attention": {}}, {"attention": {"examples": 64}}):
        assert spec(CASES["gpt"], evaluation={"probes": [same]}).run_id == name.run_id
    other = spec(CASES["gpt"], evaluation={"probes": [{"attention": {"every": 3}}]})
    assert other.run_id != name.run_id
    assert other.evaluation.requests[0].every == 3


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        (["hessian"], r"evaluation\.probes: expected one of .*lost_updates.*, got 'hessian'"),
        ([{"attention": {"heads": 2}}], r"evaluation\.probes: attention has no heads; expected examples"),
        ([{"attention": {"examples": 0}}], r"evaluation\.probes: examples: .* greater than or equal to 1"),
        ([{"attention": {"every": 0}}], r"evaluation\.probes: attention\.every: expected a number of steps, got 0"),
        (["attention", {"attention": {"every": 2}}], r"attention and attention both write the column max_weight"),
        ([{"attention": {}, "lost_updates": {}}], r"expected the name of one probe and its parameters"),
    ],
)
def test_a_wrong_probe_is_one_line(probes, words):
    with pytest.raises(InputError, match=words):
        spec(CASES["gpt"], evaluation={"probes": probes})


def test_a_probe_that_needs_text_refuses_images():
    with pytest.raises(InputError, match=r"evaluation\.probes: completion needs text, but the run has images"):
        spec(CASES["mlp"], evaluation={"probes": ["completion"]})


PROBE = '''
"""Sum of squared second derivatives' trace: differentiates twice, and tries its luck with the random state."""

import torch

from decaylab.probes._protocol import BaseProbe

COLUMNS = {"curvature": ("curvature along a random direction", "nats")}
PARAMETERS = {"draws": {"default": 1, "ge": 1}}


class Probe(BaseProbe):
    draws: int

    def measure(self, view):
        torch.rand(7)  # the global state, which the loop puts back
        inputs, targets = next(view.batches("train", 8))
        names, weights = zip(*((name, w.detach().requires_grad_()) for name, w in view.weights.items()))
        loss = view.loss(dict(zip(names, weights)), view.buffers, inputs, targets)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        signs = [torch.randint(0, 2, w.shape, generator=view.generator) * 2.0 - 1 for w in weights]
        dot = sum((slope * sign).sum() for slope, sign in zip(slopes, signs))
        turned = torch.autograd.grad(dot, weights)
        return {"curvature": sum((a * b).sum() for a, b in zip(turned, signs)).detach()}

    def example_passes(self, spec):
        return 8.0 * 4 * self.draws
'''
PROGRAM = """
import json, sys
from pathlib import Path
import pandas as pd
from decaylab.files import Layout
from decaylab.fingerprint import fingerprint
from decaylab.training.cost.pricing import Pricer
from decaylab.training.loop import train
from tests.training.cases import CASES, spec
layout = Layout(Path(sys.argv[1]))
probed = spec(CASES["mlp"], evaluation={"probes": [{"curvature": {"every": 4}}]})
plain = spec(CASES["mlp"])
table = pd.read_parquet(layout.metrics(train(probed, layout)["run_id"])).dropna(subset="curvature")
print(json.dumps([table["step"].tolist(), fingerprint(plain), fingerprint(probed),
                  Pricer(layout).price(probed).flops > Pricer(layout).price(plain).flops]))
"""


@pytest.mark.slow
def test_a_new_probe_is_one_file(tmp_path):
    """It runs on its own cadence, is priced, and changes the digest of no run without it."""
    package = tmp_path / "src" / "decaylab"
    shutil.copytree(Path(decaylab.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).parents[1], tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "probes" / "curvature.py").write_text(PROBE)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "results")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{package.parent}:{tmp_path}", "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr
    steps, plain, probed, dearer = json.loads(result.stdout)
    assert steps == [0, 4, 8, 12]
    assert dearer
    assert plain == fingerprint(spec(CASES["mlp"]))
    assert probed != plain
    assert read_json(next((tmp_path / "results" / "runs").glob("*/summary.json")))["steps_done"] == 12
