"""A new replication from a template: a folder and a notebook, no code."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from decaylab.errors import InputError
from decaylab.files import atomic_path
from decaylab.replication import replication_file, select
from decaylab.workflow.targets import RESERVED
from decaylab.workspace import find_root

TEMPLATES = Path(__file__).parents[1] / "templates"
FIRST_ROW = 17
"""place in lists of the first replication that is not of the original sixteen"""


def new(name: Annotated[str, typer.Argument(help="lower case, digits and underscores; becomes a folder")]) -> None:
    """Make a replication that runs at once: replications/NAME/ and notebooks/NAME.ipynb."""
    root = find_root()
    for path in create(root, name):
        typer.echo(path.relative_to(root))
    typer.echo(f"next: snakemake --cores all {name} --config scale=smoke", err=True)


def create(root: Path, name: str) -> list[Path]:
    """Write the files of a new replication.

    Returns:
        their paths.

    Raises:
        InputError: the name cannot be used, or one of the files exists. Nothing is written then.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name in RESERVED | {"headline"}:
        raise InputError(f"new: {name!r}: expected lower case, digits and underscores, and not the name of a rule")
    yaml = replication_file(root, name)
    files = {
        yaml: "replication.yaml",
        yaml.with_name("README.md"): "README.md",
        root / "notebooks" / f"{name}.ipynb": "notebook.ipynb",
    }
    for path in files:
        if path.exists():
            raise InputError(f"new: {path.relative_to(root)}: exists already; expected a new name")
    row = max([FIRST_ROW - 1, *(rep.row for rep in select(root, "all"))]) + 1
    values = {"name": name, "title": name.replace("_", " ").capitalize(), "row": row}
    for path, template in files.items():
        text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(files)
