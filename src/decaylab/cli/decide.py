"""Seeds in time: train more seeds until claims are decided. Luck: judge decided claims again on other runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from decaylab.cli.options import (
    RESULTS,
    DeviceOption,
    ImagesOption,
    ResultsOption,
    Scale,
    ScaleOption,
    TextOption,
    ThreadsOption,
    workspace,
)
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import Replication, select
from decaylab.workflow.gpus import take_gpu

ClaimNames = Annotated[
    list[str] | None, typer.Argument(help="claims (CLAIM or REPLICATION/CLAIM) or replications by name")
]


def decide(
    claims: ClaimNames = None,
    minutes: Annotated[float, typer.Option(min=0, help="stop after this time")] = 15.0,
    until: Annotated[float | None, typer.Option(help="stop at this Unix time instead")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; default: all")] = None,
    round_of: Annotated[str | None, typer.Option("--round", help="record under this key whether all is done")] = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
) -> None:
    """Train more seeds for undecided claims, at the looks fixed beforehand, until they are decided or time is up."""
    from decaylab.analysis.preregistration import register_claims
    from decaylab.seeds import Round, changing_seeds
    from decaylab.training.pool import Pool, stopped_by_signals
    from decaylab.workflow.deciding import Decider

    space = workspace(scale, images, text, results)
    reps, wanted = chosen(select(space.root, "all"), claims)
    register_claims(select(space.root, "all"), space)
    end = until or time.time() + 60 * minutes
    decider = Decider(reps, space, wanted, lambda line: typer.echo(line, err=True))
    if not decider.outcome.complete and time.time() < end:
        take_gpu(device)
        options = {"device": device, "threads": threads, "choices": dict(space.choices)}
        with Pool(workers(cores, threads, device), space.layout, options, end) as pool, stopped_by_signals(pool):
            decider.run(pool, end)
    state = decider.outcome
    if round_of:
        with changing_seeds(space) as record:
            number = record.rounds.get(round_of, Round()).number + 1
            record.rounds[round_of] = Round(number, state.complete)
    typer.echo(f"{state.closed} of {state.total} claims closed, {len(state.open)} left that more seeds could decide")


def verify(
    claims: ClaimNames = None,
    minutes: Annotated[float, typer.Option(min=0, help="stop after this time")] = 15.0,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads for the same seeds; their runs used another")] = 2,
) -> None:
    """Train decided claims anew, with other rounding and with fresh seeds, and say which verdicts move."""
    from decaylab.training.pool import Pool
    from decaylab.workflow.verifying import verify as verify_claims

    space = workspace(scale, images, text, results)
    reps, wanted = chosen(select(space.root, "all"), claims)
    take_gpu(device)

    def pool(layout: Layout, mode: str, until: float) -> Pool:
        per_run = threads if mode == "rounding" else 1
        options = {"device": device, "threads": per_run, "choices": dict(space.choices)}
        return Pool(workers(None, per_run, device), layout, options, until)

    found = verify_claims(reps, space, wanted, minutes, pool, lambda line: typer.echo(line, err=True))
    table = Table(title=f"scale {space.scale}: decided claims, judged again")
    for head in ("claim", "with", "verdict", "again", "estimate", "again", "n", "again"):
        table.add_column(head)
    for item in found:
        table.add_row(
            item.claim,
            "other rounding" if item.mode == "rounding" else "fresh seeds",
            item.verdict,
            f"[bold]{item.again}[/bold]" if item.moved else item.again,
            *("" if value is None else f"{value:.4g}" for value in (item.estimate, item.estimate_again)),
            str(item.n),
            str(item.n_again),
        )
    Console().print(table)
    moved = sorted({item.claim for item in found if item.moved})
    typer.echo(f"{len({item.claim for item in found})} claims verified, {len(moved)} moved {', '.join(moved)}".strip())


def workers(cores: int | None, threads: int, device: str) -> int:
    """How many runs are trained at the same time: one on a GPU, else as many as the cores allow."""
    from decaylab.workflow.machine import has_nvidia

    if device == "cuda" or (device == "auto" and has_nvidia()):
        return 1
    return max(1, (cores or len(os.sched_getaffinity(0))) // threads)


def chosen(
    reps: list[Replication], names: Iterable[str] | None
) -> tuple[list[Replication], dict[str, set[str]] | None]:
    """Replications and, if claims are named, these claims of them.

    Raises:
        InputError: no claim and no replication has that name, or several claims do.
    """
    if not names:
        return [rep for rep in reps if rep.headline], None
    names = list(names)
    by_name = {rep.name: rep for rep in reps}
    if "all" in names:
        return reps, None
    if all(name in by_name or name == "headline" for name in names):
        return [rep for rep in reps if rep.name in names or (rep.headline and "headline" in names)], None
    wanted: dict[str, set[str]] = {}
    for name in names:
        folder, _, claim_id = name.rpartition("/")
        found = [
            (rep.name, claim.id)
            for rep in reps
            for claim in rep.claims
            if rep.name == name or (claim.id == claim_id and folder in ("", rep.name))
        ]
        if not found:
            raise InputError(f"decide: {name!r}: no claim or replication of that name; see `decaylab judge all`")
        if len({rep for rep, _ in found}) > 1:
            raise InputError(f"decide: {name!r}: several replications have that claim; expected REPLICATION/CLAIM")
        for rep_name, found_id in found:
            wanted.setdefault(rep_name, set()).add(found_id)
    return [rep for rep in reps if rep.name in wanted], wanted
