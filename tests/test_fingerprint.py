"""A run's sources are those it imports; its digest follows their code, not their text."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from decaylab import fingerprint as module
from decaylab import plugins
from decaylab.fingerprint import JUDGING, NUMERIC, PACKAGE, SHOWING, code_digest, fingerprint, sources_for
from decaylab.sources import source_of
from decaylab.spec import RunSpec, parse_spec

IMAGES = {"kind": "images", "image_size": 8, "train_examples": 20, "test_examples": 20}
TEXT = {"kind": "text", "train_tokens": 2000}
MODELS = {
    "mlp": {"kind": "mlp", "width": 4, "depth": 1},
    "vgg": {"kind": "vgg", "width": 4, "stages": [1, 1], "hidden_layers": 0},
    "preact_resnet": {"kind": "preact_resnet", "width": 4, "blocks": [1, 1]},
    "gpt": {"kind": "gpt", "layers": 1, "heads": 1, "width": 8, "context_length": 8, "vocabulary": 256},
}


def tiny(kind: str, probes: tuple[str, ...] = (), **more) -> RunSpec:
    value = {
        "data": TEXT if kind == "gpt" else IMAGES,
        "model": MODELS[kind],
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "decay": {"weight_decay": 0.1},
        "steps": 2,
        "batch_size": 2,
        "evaluation": {"every": 1, "log_every": 1, "train_examples": 4, "examples": 4, "probes": probes},
        "seed": 0,
    }
    return parse_spec(value | more, "here")


def names(spec: RunSpec) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in sources_for(spec)}


PROGRAM = """
import json, sys
from pathlib import Path
from decaylab.files import Layout
from decaylab.spec import parse_spec
from decaylab.training.loop import train
train(parse_spec(json.loads(sys.argv[1]), "here"), Layout(Path(sys.argv[2])))
files = [getattr(item, "__file__", None) for name, item in sys.modules.items() if name.startswith("decaylab.")]
print(json.dumps([file for file in files if file]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "probes"),
    [
        ("mlp", ()),
        ("vgg", ("lost_updates",)),
        ("preact_resnet", ()),
        ("gpt", ("lost_updates", "attention", "completion")),
    ],
)
def test_every_module_that_a_training_imports_is_among_its_sources(kind, probes, tmp_path):
    spec = tiny(kind, probes)
    text = json.dumps(spec.model_dump(mode="json", exclude_none=True))
    done = subprocess.run([sys.executable, "-c", PROGRAM, text, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = {Path(file).relative_to(PACKAGE).as_posix() for file in json.loads(done.stdout.splitlines()[-1])}
    assert {name for name in imported if name.split("/")[0] in NUMERIC} <= names(spec)


def test_a_run_depends_on_its_own_model_data_and_probes():
    vgg, gpt = names(tiny("vgg")), names(tiny("gpt", ("attention",)))
    assert {"models/vgg.py", "data/sources/procedural.py"} <= vgg
    assert not {"models/gpt.py", "data/text.py", "probes/attention.py"} & vgg
    assert {"models/gpt.py", "data/text.py", "probes/attention.py"} <= gpt
    assert not {"models/vgg.py", "data/images.py", "probes/lost_updates.py"} & gpt
    for used in (vgg, gpt):
        assert {"training/loop.py", "optim/decay.py", "training/norms.py"} <= used
        assert {name.split("/")[0] for name in used} == set(NUMERIC)


def test_a_run_depends_on_the_code_of_the_run_it_starts_from():
    parent = tiny("gpt", ("attention",))
    child = tiny("gpt", start={"run": parent.model_dump(mode="json"), "step": 1})
    assert names(parent) <= names(child)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    return tmp_path


def digest(path: Path, text: str) -> str:
    path.write_text(text)
    for cached in (module._read, module._digest_of_all):
        cached.cache_clear()
    return code_digest([path])


def test_comments_docstrings_and_layout_are_not_code(package):
    path = package / "a.py"
    first = digest(path, 'class A:\n    """Says what."""\n    x = 1\n    """Unit."""\n')
    assert digest(path, "# why\nclass A:\n    x = (1)\n\n\n") == first
    assert digest(path, "class A:\n    x = 2\n") != first
    assert digest(path, "class A:\n    y = 1\n") != first
    assert digest(path, "class A:\n    x = 1\n    'a' + 'b'\n") != first


def test_an_edit_that_changes_no_number_keeps_the_digest_until_the_next(package, monkeypatch):
    path, added = package / "a.py", package / "b.py"
    first = digest(path, "x = 1\n")
    then = module._digest(path)
    assert digest(path, "x = 1\nimport b\n") != first
    monkeypatch.setitem(module.UNCHANGED, "a.py", (module._digest(path), then))
    assert digest(path, "x = 1\nimport b\n") == first
    assert digest(path, "x = 2\nimport b\n") != first
    digest(path, "x = 1\nimport b\n")
    digest(added, "y = 1\n")
    assert code_digest([path, added]) != first
    monkeypatch.setitem(module.UNCHANGED, "b.py", (module._digest(added), None))
    module._digest_of_all.cache_clear()
    assert code_digest([path, added]) == first
    digest(added, "y = 2\n")
    assert code_digest([path, added]) != first


def test_other_files_count_byte_by_byte_and_names_count(package):
    template = package / "page.html"
    assert digest(template, "# a") != digest(template, "# b")
    assert digest(package / "a.py", "x = 1") != digest(package / "b.py", "x = 1")


def test_digests_differ_between_kinds_and_need_no_torch():
    assert len({fingerprint(tiny(kind)) for kind in MODELS}) == len(MODELS)
    program = "import sys, decaylab.workflow.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


READ = {
    *("__init__.py", "errors.py", "files.py", "locks.py", "plugins.py", "seeds.py", "sources.py", "workspace.py"),
    *("limits.py", "yaml_files.py", "optim/__init__.py"),
}
"""modules whose effect rules compare by itself: they find and read files, whose content is an input or a parameter"""
READ_PACKAGES = ("spec/", "replication/")
"""what these make of the files, runs and claims, is a parameter of the rules"""
ENTRIES = {
    "judge": (["analysis/judge.py"], JUDGING),
    "restore": (["analysis/restoring.py"], JUDGING),
    "render": (["report/notebook.py", "report/load.py", "report/sections.py", "report/figures/__init__.py"], SHOWING),
    "index": (["report/site.py"], SHOWING),
    "evidence": (["report/archive_pages.py"], SHOWING),
}
"""of each rule that does not train: the modules that its command calls, or its notebook, and its declared sources"""


def imported(start: list[str]) -> set[str]:
    """Modules of ours that some modules import, anywhere in them and through others."""
    found: set[Path] = set()
    waiting = [PACKAGE / name for name in start]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        waiting += [folder / "__init__.py" for folder in path.parents if folder.is_relative_to(PACKAGE)]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.startswith("decaylab."):
                    place = PACKAGE.joinpath(*name.split(".")[1:])
                    waiting += [place.with_suffix(".py"), place / "__init__.py"]
    return {path.relative_to(PACKAGE).as_posix() for path in found}


@pytest.mark.parametrize("rule", ENTRIES)
def test_the_sources_of_a_rule_are_all_that_its_command_imports(rule):
    entries, declared = ENTRIES[rule]
    covered = {
        name for name in imported(entries) if any(name == part or name.startswith(f"{part}/") for part in declared)
    }
    left = imported(entries) - covered - READ
    assert {name for name in left if not name.startswith(READ_PACKAGES)} == set()


@pytest.mark.parametrize("source", ["procedural", "cifar10", "a.npz", "stdlib", "a.txt"])
def test_the_sources_of_a_data_set_are_all_that_its_reader_imports(source):
    text = source in ("stdlib", "a.txt")
    data = {"kind": "text", "source": source} if text else IMAGES | {"source": source}
    spec = tiny("gpt" if text else "mlp", data=data)
    reader = f"data/sources/{source_of(spec.data.kind, source).name}.py"
    others = {f"data/sources/{name}.py" for name in plugins.available("data/sources")} - {reader}
    left = imported([reader, "data/__init__.py"]) - names(spec) - READ - others
    assert {name for name in left if not name.startswith(READ_PACKAGES)} == set()


USED = {"models": "mlp", "probes": "lost_updates", "optim/forms": "decoupled", "data/sources": "procedural"}
"""what the run of the next test names"""
UNUSED = {"models": "vgg", "probes": "attention", "optim/forms": "cautious", "data/sources": "stdlib"}


def test_a_plugin_of_any_kind_belongs_to_the_runs_that_name_it(tmp_path, monkeypatch):
    """In a copy of the package: files added, and files changed that a run does not name, leave its digest alone."""
    folder = tmp_path / "decaylab"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for place in (module, plugins):
        monkeypatch.setattr(place, "PACKAGE", folder)
    run = tiny("mlp", ("lost_updates",))
    parent = tiny("mlp", ("attention",))
    child = tiny("mlp", start={"run": parent.model_dump(mode="json"), "step": 1})

    def digests() -> tuple[str, str]:
        for cached in (module._sources, module._closure, module._read, module._digest_of_all):
            cached.cache_clear()
        return fingerprint(run), fingerprint(child)

    assert {*USED} == {*UNUSED} == {*plugins.KINDS}
    try:
        first, first_child = digests()
        for kind in plugins.KINDS:
            (folder / kind / "brand_new.py").write_text("import decaylab.training.learner\nVALUE = 1\n")
            assert digests() == (first, first_child), kind
        for kind, name in UNUSED.items():
            edit(folder / kind / f"{name}.py")
            mine, childs = digests()
            assert mine == first, kind
            assert (childs == first_child) == (kind != "probes"), "the parent's probe is part of how the child began"
            first_child = childs
        for kind, name in USED.items():
            edit(folder / kind / f"{name}.py")
            assert digests()[0] != first, kind
            first = digests()[0]
    finally:
        monkeypatch.undo()
        digests()


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\nEDITED = True\n", encoding="utf-8")
