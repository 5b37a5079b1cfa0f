"""A decay form is one new file: an adaptive one, added to a copy, trains, resumes and is tested like the others."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "weight-decay.md").read_text(encoding="utf-8")
FORM = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
"""as the page prints it"""

REFERENCE = """import math

from tests.optim import references


class Reference(references.Reference):
    mean = None

    def observe(self, gradients):
        self.now = {group: math.sqrt(sum(g * g for g in values)) for group, values in gradients.items()}
        memory = self.parameters["memory"]
        old = self.mean or self.now
        self.mean = {group: memory * old[group] + (1 - memory) * now for group, now in self.now.items()}

    def rate(self, group, coefficient, learning_rate):
        return learning_rate * coefficient * self.now[group] / self.mean[group]
"""

TRAIN = """
import json, sys
from pathlib import Path
from decaylab.errors import Interrupted
from decaylab.files import Layout
from decaylab.fingerprint import fingerprint, sources_for
from decaylab.spec import parse_spec
from decaylab.training.loop import Options, train

sys.path.insert(0, sys.argv[1])
from tests.training.cases import TEXT
from decaylab.yaml_files import merge
decay = {"form": "gradient_share", "weight_decay": 0.5, "parameters": {"memory": 0.5}}
spec = parse_spec(merge(TEXT, {"decay": decay}), "test")
whole = train(spec, Layout(Path("whole")))
asked = iter(range(100))
while True:
    try:
        parts = train(spec, Layout(Path("parts")), Options(stop=lambda: next(asked) % 4 == 3))
        break
    except Interrupted:
        continue
metrics = [Layout(Path(name)).metrics(spec.run_id).read_bytes() for name in ("whole", "parts")]
print(json.dumps({
    "asked": next(asked),
    "same": metrics[0] == metrics[1] and whole["applied_decay"] == parts["applied_decay"],
    "applied": whole["applied_decay"]["mlp"],
    "parameters": spec.identity()["decay"]["parameters"],
    "default": parse_spec(merge(TEXT, {"decay": decay | {"parameters": {"memory": 0.9}}}), "test").run_id
    == parse_spec(merge(TEXT, {"decay": decay | {"parameters": None}}), "test").run_id,
    "uses_it": any(path.stem == "gradient_share" for path in sources_for(spec)),
    "plain": fingerprint(parse_spec(TEXT, "test")),
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package and its tests of forms, with a form and its reference added."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "decaylab", folder / "src" / "decaylab", ignore=ignored)
    for name in ("optim", "training"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src" / "decaylab" / "optim" / "forms" / "gradient_share.py").write_text(FORM)
    (folder / "tests" / "optim" / "references" / "gradient_share.py").write_text(REFERENCE)
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_an_adaptive_form_is_one_file(copy):
    from decaylab.fingerprint import fingerprint
    from decaylab.spec import parse_spec
    from tests.training.cases import TEXT

    done = python(copy, "-c", TRAIN, str(copy))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["asked"] > 14, "it was stopped and resumed"
    assert found["same"]
    assert found["parameters"] == {"memory": 0.5}
    assert found["default"], "a default that is written out changes no id"
    assert found["uses_it"]
    assert found["plain"] == fingerprint(parse_spec(TEXT, "test")), "other runs do not depend on it"
    applied = found["applied"]
    assert applied["measured"] == pytest.approx(applied["configured"], rel=1e-4)


@pytest.mark.slow
def test_the_common_tests_find_it(copy):
    done = python(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/optim/test_forms.py", "-k", "gradient_share"
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_parameters_out_of_bounds_are_one_line(copy):
    for parameters, words in (
        ({"memory": 1.5}, "decay.parameters: memory: Input should be less than 1, got 1.5"),
        ({"memroy": 0.5}, "decay.parameters: gradient_share has no memroy; expected memory"),
    ):
        (copy / "spec.json").write_text(
            json.dumps(
                {
                    "data": {"kind": "text"},
                    "model": {"kind": "gpt"},
                    "optimizer": {"name": "adamw", "learning_rate": 0.1},
                    "decay": {"form": "gradient_share", "parameters": parameters},
                    "steps": 1,
                    "batch_size": 1,
                    "evaluation": {"every": 1, "log_every": 1},
                    "seed": 0,
                }
            )
        )
        done = python(copy, "-m", "decaylab", "train", "--spec", "spec.json", "--out", "out")
        assert done.returncode == 2
        assert done.stderr == f"decaylab: spec.json: {words}\n"
