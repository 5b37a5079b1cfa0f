"""`python -m benchmarks`: the table of speeds; benchmarks/README.md says how to read it."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import gpt, images, startup  # noqa: F401  (register their benchmarks)
from benchmarks.cases import BENCHMARKS, BY_NAME_ONLY, Row, Settings, Skip, measure
from benchmarks.peers import find_peers
from benchmarks.table import show, write
from decaylab.errors import InputError

NAMES = "\n".join(
    f"- {name}: {function.__doc__.splitlines()[0]}" + (" (not by default)" if name in BY_NAME_ONLY else "")
    for name, function in BENCHMARKS.items()
)


def run(names: list[str], settings: Settings) -> list[Row]:
    """Measure some benchmarks; a case that cannot run here becomes a row with the reason."""
    console = Console(stderr=True)
    rows: list[Row] = []
    for name in names:
        for case in BENCHMARKS[name](settings):
            if isinstance(case, Skip):
                rows.append(Row(name, case.name, "", problem=f"skipped: {case.reason}"))
                continue
            console.print(f"{name}: {case.name}", highlight=False)
            rows += measure(name, case, settings)
    # what is as small as can be says nothing about targets
    return [replace(row, target=None, target_mfu=None) for row in rows] if settings.rehearse else rows


def circumstances(settings: Settings) -> dict[str, Any]:
    """What a reader needs to repeat the run and to judge its numbers. Peers are named by their commits."""
    import torch

    from decaylab.files import git_commit
    from decaylab.training.provenance import commit, hardware, versions

    torch.set_num_threads(settings.threads)
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *_without_paths(sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "peers": {name: git_commit(path) for name, path in settings.peers.items()},
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "hardware": hardware(torch.device(settings.device)),
        "versions": versions(),
    }


def _without_paths(words: list[str]) -> list[str]:
    """The same command on another machine: a checkout is called by its name."""
    return [f"{word.partition('=')[0]}={word.partition('=')[0].upper()}" if "=" in word else word for word in words]


def main(
    names: Annotated[list[str] | None, typer.Argument(help="benchmarks, by default all but those marked")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a checkout, for each of them")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="in each of which every contender trains for --seconds")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="of each training loop in one round")] = 1.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of every contender")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    rehearse: Annotated[bool, typer.Option("--rehearse", help="all as small as can be, GPU rows on the CPU")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for <hardware>.md and <hardware>.json")] = None,
) -> None:
    # every process of every contender inherits them, and torch reads them when it is imported
    os.environ |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    try:
        unknown = sorted(set(names or []) - set(BENCHMARKS))
        if unknown:
            raise InputError(f"benchmark {unknown[0]!r}: expected one of {', '.join(BENCHMARKS)}")
        peers = find_peers(peer or [])
        from decaylab.training.device import resolve_device

        kind = "cpu" if rehearse else resolve_device(device).type
    except InputError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        raise typer.Exit(2) from None
    with tempfile.TemporaryDirectory(prefix="decaylab-benchmarks-") as folder:
        settings = Settings(Path(folder), kind, threads, rounds, seconds, peers, rehearse)
        if rehearse:
            settings = replace(settings, rounds=1, seconds=0.01)
        rows = run(names or [name for name in BENCHMARKS if name not in BY_NAME_ONLY], settings)
        about = circumstances(settings)
    show(rows, Console(width=None if sys.stdout.isatty() else 120))
    if out is not None:
        from decaylab.analysis.filing import slug

        kind = "rehearsal on" if rehearse else ""
        stem = out / slug(f"{kind} {about['hardware']['name']} {threads} of {os.cpu_count()} cores")
        write(rows, about, stem)
        print(f"{stem}.md")
    if any(row.problem and row.problem.startswith("failed") for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    # `\b` keeps the lines of the list
    main.__doc__ = f"Time decaylab side by side with other training loops.\n\n\b\n{NAMES}\n"
    typer.run(main)
