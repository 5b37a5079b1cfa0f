"""Analysis reads results: it must work where nothing is trained, and never decide how something is trained."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "src" / "decaylab" / "analysis"
BELOW = (
    "analysis",
    "replication",
    "limits",
    "seeds",
    "spec",
    "sources",
    "files",
    "locks",
    "errors",
    "workspace",
    "plugins",
    "regime",
    "yaml_files",
)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    ours = {name for name in names if name.startswith("decaylab")}
    assert {name.split(".")[1] for name in ours} <= set(BELOW)
    # matplotlib comes with the report extra, which a training machine lacks
    assert not names & {"torch", "torchvision", "matplotlib"}
