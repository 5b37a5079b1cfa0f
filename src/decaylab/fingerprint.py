"""Which source files decide the numbers of a run, and a digest of their code.

The workflow puts the digest into a job's parameters, the trainer into its record, so that an edit reruns what
depends on it and nothing else. Comments, docstrings, layout and time stamps are not code. No torch here: the
workflow asks for many digests each time it is read.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from decaylab import plugins
from decaylab.sources import source_of
from decaylab.spec import RunSpec

PACKAGE = Path(__file__).parent

NUMERIC = ("training", "optim", "data", "models", "probes")
"""packages whose code decides numbers; the rest reads, plans, judges or shows"""
JUDGING = ("analysis", "regime.py", "optim/schedules.py")
"""what decides verdicts, besides claims and runs, which rules compare by themselves"""
SHOWING = (*JUDGING, "report", "probes", "ledger.py", "operations.py")
"""what decides pages, besides the texts of replications: probes have the labels of their columns"""

UNCHANGED: dict[str, tuple[str, str | None]] = {
    path: (now, then) for path, (now, then) in json.loads((PACKAGE / "unchanged.json").read_text()).items()
}
"""Edits that change no number of any run: file, digest of its code now, and the digest that earlier runs recorded, or
None for a file that they did not have. Those runs stay valid. An entry holds for exactly one text of the file: its next
edit makes runs stale as ever."""


def sources_for(spec: RunSpec) -> list[Path]:
    """Source files, sorted, that a training of `spec` (and of the runs it starts from or follows) executes.

    They are found by following imports from the training loop. Where a package chooses by name (a network, a
    kind of data, a probe), only what this spec names is followed.
    """
    return list(_sources(_chain(spec)))


def fingerprint(spec: RunSpec) -> str:
    """Digest of the code that a training of `spec` executes."""
    return _digest_of_all(_sources(_chain(spec)))


def code_digest(paths: Iterable[Path]) -> str:
    """Digest of Python files without comments and docstrings, and of the bytes of all others."""
    return _digest_of_all(tuple(sorted(set(paths))))


def _chain(spec: RunSpec) -> tuple[frozenset[str], ...]:
    """The names that this spec chooses, and those of its parents: few differ among many specs."""
    return (frozenset(_names(spec)), *itertools.chain.from_iterable(map(_chain, spec.parents)))


@functools.cache
def _sources(chain: tuple[frozenset[str], ...]) -> tuple[Path, ...]:
    return tuple(sorted(frozenset().union(*map(_closure, chain))))


@functools.cache
def _digest_of_all(paths: tuple[Path, ...]) -> str:
    digests = {path.relative_to(PACKAGE).as_posix(): _digest(path) for path in paths}
    lines = [f"{name} {digest}" for name, digest in digests.items() if digest]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.cache
def package_digest(*packages: str) -> str:
    """Digest of all files of some packages (`analysis`, `report`), templates included, and of single modules."""
    folders = [PACKAGE / package for package in packages]
    files = [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_file()]
    return code_digest(path for path in files if "__pycache__" not in path.parts)


def _names(spec: RunSpec) -> Iterable[str]:
    """Modules, as package/module, that this spec chooses by name."""
    yield f"models/{spec.model.kind}"
    yield f"optim/forms/{spec.decay.form}"
    yield f"data/sources/{source_of(spec.data.kind, spec.data.source).name}"
    for probe in spec.evaluation.requests:
        yield f"probes/{probe.name}"


def _chosen_by_name() -> frozenset[str]:
    """Modules that some spec names: that a dispatcher imports one says nothing about a given run."""
    return frozenset(f"{kind}/{name}" for kind in plugins.KINDS for name in plugins.available(kind))


def _module(dotted: str) -> str:
    return dotted.removeprefix("decaylab.").replace(".", "/")


@functools.cache
def _closure(names: frozenset[str]) -> frozenset[Path]:
    chosen = _chosen_by_name()
    found: set[Path] = set()
    waiting = [PACKAGE / "training" / "loop.py", *(PACKAGE / f"{name}.py" for name in names)]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        waiting.append(path.parent / "__init__.py")
        for module in _read(path)[0]:
            # a module may import its neighbour for good; dispatchers and other packages name all there are
            dispatched = path.name == "__init__.py" or not module.startswith(
                f"{path.parent.relative_to(PACKAGE).as_posix()}/"
            )
            if not (dispatched and module in chosen and module not in names):
                waiting += [PACKAGE / f"{module}.py", PACKAGE / module / "__init__.py"]
    return frozenset(found)


@functools.cache
def _read(path: Path) -> tuple[frozenset[str], str]:
    """Of a Python file: imported modules of the numeric packages, as package/module (a name may also be no module at
    all), and the digest of its code, from one walk. The tree is not kept: so many objects slow a whole process down.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        # without strings that stand alone as a statement: docstrings, and those under fields
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            if isinstance(statements, list):
                setattr(node, block, [item for item in statements if not _is_text(item)])
    modules = {_module(name) for name in names if name.startswith("decaylab.")}
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return frozenset(module for module in modules if module.split("/")[0] in NUMERIC), digest


def _digest(path: Path) -> str | None:
    """Digest of a file as runs record it; None if they leave it out."""
    digest = _read(path)[1] if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()
    now, then = UNCHANGED.get(path.relative_to(PACKAGE).as_posix(), (None, None))
    return then if digest == now else digest


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
