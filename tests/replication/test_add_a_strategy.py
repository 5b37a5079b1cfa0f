"""docs/decay-strategies.md: a strategy is one small file, and one line that names it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from decaylab.optim.form import DecayForm
from decaylab.replication import expand, load_replication, replication_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decay-strategies.md").read_text(encoding="utf-8")
LINES = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
FORM = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
EXPAND = """
import sys
from pathlib import Path
from decaylab.replication import expand, load_replication
found = [(s.decay, p) for s, p, _ in expand(load_replication(Path(sys.argv[1])), "laptop") if p["grid"] == "bakeoff"]
print(len([p for decay, p in found if p["strategy"] == "squared" and decay.form == "squared"]))
"""


def with_strategy(folder: Path, line: dict) -> Path:
    """The replication in another folder, with one more strategy."""
    value = yaml.safe_load(replication_file(ROOT, "decay_strategies").read_text(encoding="utf-8"))
    value["grids"]["bakeoff"]["axes"]["strategy"] |= line
    path = folder / "replications" / "decay_strategies" / "replication.yaml"
    path.parent.mkdir(parents=True)
    shutil.copy(ROOT / "replications" / "references.yaml", path.parent.parent)
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return path


def test_a_line_is_enough_for_groups_and_schedules(tmp_path):
    (line,) = (line for line in LINES if "middle" in line)
    found = [
        (spec.decay, parameters["trial"])
        for spec, parameters, _ in expand(load_replication(with_strategy(tmp_path, line)), "laptop")
        if parameters.get("strategy") == "middle"
    ]
    assert {trial for _, trial in found} == {"low", "mid", "high"}
    assert all((decay.schedule.start, decay.schedule.end) == (0.25, 0.75) for decay, _ in found)


def test_a_rule_is_one_file(tmp_path):
    shutil.copytree(
        ROOT / "src" / "decaylab", tmp_path / "src" / "decaylab", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "src" / "decaylab" / "optim" / "forms" / "squared.py").write_text(FORM, encoding="utf-8")
    (line,) = (line for line in LINES if "squared" in line)
    done = subprocess.run(
        [sys.executable, "-c", EXPAND, str(with_strategy(tmp_path, line))],
        env={"PYTHONPATH": str(tmp_path / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9


def test_the_rule_of_the_page_is_what_it_says():
    names = {}
    exec(FORM, names)  # the page's own text
    form = names["Form"]
    assert issubclass(form, DecayForm)
    assert form.rate(SimpleNamespace(peak_learning_rate=0.2), "mlp", 0.5, 0.1) == pytest.approx(0.1 * 0.5 * 0.5)
