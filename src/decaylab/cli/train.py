"""Training by hand."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from decaylab.cli.evidence import write
from decaylab.cli.options import (
    RESULTS,
    DeviceOption,
    ImagesOption,
    ResultsOption,
    Scale,
    ScaleOption,
    Switch,
    TextOption,
    ThreadsOption,
    workspace,
)
from decaylab.errors import InputError, Interrupted, Lost
from decaylab.files import Layout
from decaylab.replication import PlannedRun, plan_here, plan_runs, seeds_of, select
from decaylab.sources import choose
from decaylab.spec import RunSpec, load_spec
from decaylab.training import launcher
from decaylab.workflow.gpus import take_gpu, take_gpus
from decaylab.workspace import Workspace


def train(
    run_ids: Annotated[list[str] | None, typer.Argument(help="ids as `decaylab plan` shows them")] = None,
    scale: ScaleOption = Scale.laptop,
    replications: Annotated[
        str, typer.Option(help="where to look for the ids, or which replications --missing trains")
    ] = "all",
    spec: Annotated[Path | None, typer.Option(help="train this RunSpec (YAML or JSON) instead")] = None,
    out: Annotated[Path | None, typer.Option(help="with --spec: where its results go")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="train every run without results, the most wanted first")
    ] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="save the state and stop after this time")] = None,
    pack: Annotated[
        Path | None, typer.Option(help="at the end, even an early one, pack all finished runs into this file")
    ] = None,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    together: Annotated[
        str, typer.Option(help="runs of one shape trained in one pass; auto: 1 on a CPU, as many as fill a GPU")
    ] = "auto",
    gpus: Annotated[
        int, typer.Option(min=1, help="train each run on this many GPUs of this machine; torchrun does it on several")
    ] = 1,
    compile_: Annotated[
        Switch, typer.Option("--compile", help="torch.compile; auto: on a GPU, where steps are large")
    ] = Switch.auto,
    graphs: Annotated[
        Switch, typer.Option(help="record the operations of a step and replay them (a CUDA graph on a GPU); auto: on")
    ] = Switch.auto,
) -> None:
    """Train runs in this process, parents first. Finished runs are not trained again."""
    if sum([bool(run_ids), spec is not None, missing]) != 1:
        raise InputError("train: expected run ids, or --spec FILE --out DIR, or --missing; exactly one of them")
    if (spec is None) != (out is None):
        raise InputError("train: --spec FILE and --out DIR go together")
    if spec is not None and pack is not None:
        raise InputError("train: --pack packs planned runs, not those of --spec")
    number = _together(together)
    here = launcher.place()
    if number and number > 1 and (here or gpus > 1):
        raise InputError(f"train: --together {number}: several GPUs train one run at a time; expected auto or 1")
    if gpus > 1:
        if here is None:
            take_gpus(device, gpus)
            raise SystemExit(launcher.launch(gpus, [sys.executable, "-m", "decaylab", *sys.argv[1:]]))
        if gpus != here.size or here.store is None:
            raise InputError(f"train: --gpus {gpus}: torchrun starts the processes; expected no --gpus beside it")
    first = here is None or here.rank == 0
    planned: dict[str, PlannedRun] = {}
    wanted: list[RunSpec] = []
    if spec is not None:
        # works outside a clone, too
        chosen = {"images": images, "text": text}
        choices = {kind: choose(kind, value) for kind, value in chosen.items() if value}
        space = Workspace(Path(), scale.value, Layout(out), choices)
        wanted = [load_spec(spec)]
    else:
        space = workspace(scale, images, text, results)
        if first:
            planned, wanted = _planned(run_ids, replications, space)
    if here is None:
        take_gpu(device)
    from decaylab.training.cost.pricing import Pricer
    from decaylab.training.loop import Options
    from decaylab.training.runner import deadline, in_order, train_all
    from decaylab.training.startup import postpone_compiler

    postpone_compiler()
    specs = in_order(wanted, planned)
    ranks = None
    if here:
        from decaylab.training.distributed import check_shareable, join

        check_shareable([item for item in specs if not space.layout.summary(item.run_id).exists()], here.size)
        ranks = join(here, device)
        specs = ranks.share(specs)
    stop = deadline(minutes)
    pricer = Pricer(space.layout, device, threads)
    options = Options(
        device=device,
        threads=threads,
        choices=space.choices,
        stop=stop,
        price=functools.partial(pricer.price, gpus=here.size if here else 1),
        compile=compile_.value,
        graphs=graphs.value,
    )
    try:
        finished = train_all(specs, space.layout, options, 1 if ranks else number or pricer.together, ranks)
        if ranks:
            ranks.leave()
    except Interrupted as reason:
        # their clocks differ a little
        if isinstance(reason, Lost) or not (ranks.any(stop()) if ranks else stop()):
            raise
        if first:
            typer.echo(f"time is up: {reason}", err=True)
        return
    finally:
        if pack is not None and first:
            write(pack, planned, space)
    if first:
        for item in wanted if spec is not None else []:
            typer.echo(space.layout.summary(item.run_id))
        typer.echo(f"{finished} runs finished", err=True)


def _planned(
    run_ids: list[str] | None, replications: str, space: Workspace
) -> tuple[dict[str, PlannedRun], list[RunSpec]]:
    """The planned runs by id, and those of them to train; claims are registered before any of them."""
    reps = select(space.root, replications)
    planned = plan_here(reps, space)
    if beyond := set(run_ids or ()) - planned.keys():  # later seeds than those recorded so far
        seeds = {rep.name: seeds_of(rep, space.scale, space.choices, beyond) for rep in reps}
        planned = plan_runs(reps, space.scale, space.choices, seeds) | planned
    wanted = _wanted(run_ids, planned, space)
    from decaylab.analysis.preregistration import register_claims

    register_claims(select(space.root, "all"), space)
    return planned, wanted


def _together(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"train: --together: expected auto or a whole number above 0, got {text!r}")
    return int(text)


def _wanted(run_ids: Iterable[str] | None, planned: dict[str, PlannedRun], space: Workspace) -> list[RunSpec]:
    if not run_ids:  # --missing
        left = [run for run_id, run in planned.items() if not space.layout.summary(run_id).exists()]
        # seed by seed, so that whatever has finished when time is up can be paired
        return [run.spec for run in sorted(left, key=lambda run: (run.priority, run.spec.seed))]
    for run_id in run_ids:
        if run_id not in planned:
            raise InputError(
                f"train: no run {run_id!r} at scale {space.scale}; see `decaylab plan all --scale {space.scale} --json`"
            )
    return [planned[run_id].spec for run_id in run_ids]
