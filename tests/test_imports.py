"""Commands start quickly because they import little: each import here once took a second of every process."""

import subprocess
import sys

import pytest

SLOW = {"torch", "scipy.stats", "statsmodels", "matplotlib.pyplot", "seaborn", "papermill", "nbconvert"}
TABLES = {"numpy", "pandas", "pyarrow", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("decaylab.cli", SLOW | TABLES),
        ("decaylab.workflow.plan", SLOW | TABLES),
        ("decaylab.analysis.judge", SLOW | {"matplotlib"}),
        ("decaylab.report.figures", SLOW),
        ("decaylab.report.notebook", SLOW | {"matplotlib"}),
        ("decaylab.report.site", SLOW | {"matplotlib"}),
    ],
)
def test_a_module_starts_without(module, without):
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not without & set(done.stdout.split())
