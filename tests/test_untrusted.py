"""What our code never does, wherever it stands: unpickle, evaluate, pass text to a shell, or use the network."""

import ast
from collections.abc import Iterator
from pathlib import Path

import decaylab

PACKAGE = Path(decaylab.__file__).parent
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NETWORK = {
    *("socket", "ssl", "http", "urllib", "ftplib", "smtplib", "xmlrpc", "requests", "urllib3", "httpx", "aiohttp"),
    *("datasets", "huggingface_hub", "tiktoken", "torchvision"),
}
"""modules that can reach other machines, and libraries that download by themselves"""
CONNECTED = {"data/sources/_hub.py", "data/sources/_torchvision.py", "data/tokenizers.py", "training/provenance.py"}
"""of these only: readers of data, and the one that asks torchvision for its version"""


def imports(tree: ast.AST) -> set[str]:
    """Packages that a module imports, anywhere in it."""
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in names}


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    """Each call as text, with its constant keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {
                key.arg: key.value.value for key in node.keywords if key.arg and isinstance(key.value, ast.Constant)
            }
            yield ast.unparse(node.func), keywords


def problems(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from imports(tree) & PICKLES
    if path.relative_to(PACKAGE).as_posix() not in CONNECTED:
        yield from imports(tree) & NETWORK
    for called, keywords in calls(tree):
        if called in ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"):
            yield called
        if keywords.get("shell") is True or keywords.get("allow_pickle") is True:
            yield f"{called}: {keywords}"
        if called == "torch.load" and keywords.get("weights_only") is not True:
            yield "torch.load without weights_only"
        if called in ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all"):
            loaders = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "_Loader"]
            if not loaders or "SafeLoader" not in ast.unparse(loaders[0].bases[0]):
                yield f"{called} without a safe loader"


def test_no_module_trusts_what_it_reads():
    found = {path.relative_to(PACKAGE).as_posix(): list(problems(path)) for path in sorted(PACKAGE.rglob("*.py"))}
    assert len(found) > 100
    assert {name: items for name, items in found.items() if items} == {}


def test_such_code_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "bad.py"
    for line in (
        "import pickle",
        "from urllib.request import urlopen",
        "def f():\n    import requests.adapters",
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "yaml.load(x, Loader=yaml.Loader)",
    ):
        path.write_text(line)
        assert list(problems(path)), line
