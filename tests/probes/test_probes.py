import importlib
import importlib.util
import subprocess
import sys

import pytest

from decaylab.errors import InputError
from decaylab.probes import PROBES, check_probes


def test_every_probe_has_a_module():
    for module in PROBES.values():
        assert importlib.util.find_spec(module) is not None


def test_unknown_probe_is_named():
    check_probes(["lost_updates", "attention", "completion"])
    check_probes([])
    with pytest.raises(InputError, match=r"^evaluation\.probes: unknown probe 'hessian', expected one of lost_updates"):
        check_probes(["lost_updates", "hessian"])


def test_the_registry_imports_no_probe():
    """Checking names must stay cheap, and a run depends only on the probes it uses."""
    code = "import sys, decaylab.probes; print([m for m in sys.modules if m == 'torch' or m.startswith('decaylab.p')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['decaylab.probes']"
