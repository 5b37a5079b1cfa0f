"""`python -m tests.faults`: breaks a small workflow on purpose, and prints what was lost or wrong."""

from __future__ import annotations

import os

# before torch is imported; a forked process must have one thread
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tests.faults.harness import Harness, every_fault


def main(
    kills: Annotated[int, typer.Option(min=1, help="how often kill -9 strikes")] = 200,
    times: Annotated[int, typer.Option(min=1, help="how often every other fault is injected, about")] = 10,
    seed: Annotated[int, typer.Option(help="of moments and places")] = 0,
) -> None:
    """Inject every fault into a small workflow. Exit code 1 if anything was lost or wrong."""
    table = Table(box=box.MARKDOWN, title=None)
    for head in ("fault", "times", "lost", "wrong", "message"):
        table.add_column(head, justify="right" if head in ("times", "lost", "wrong") else "left")
    problems = []
    with tempfile.TemporaryDirectory(prefix="decaylab-faults-") as folder:
        for outcome in every_fault(Harness(Path(folder), seed), kills, times):
            cells = outcome.fault, str(outcome.times), str(outcome.lost), str(outcome.wrong), outcome.message
            table.add_row(*cells)
            print(" | ".join(cells), flush=True)
            problems += [f"{outcome.fault}: {text}" for text in outcome.problems]
    Console(width=200).print(table)
    for text in problems:
        print(text)
    raise typer.Exit(1 if problems else 0)


if __name__ == "__main__":
    typer.run(main)
