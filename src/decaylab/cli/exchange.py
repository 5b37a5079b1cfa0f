"""Models from and for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from decaylab.cli.options import RESULTS, DeviceOption, ResultsOption, TextOption, ThreadsOption
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import choose
from decaylab.spec import load_spec, parse_spec

Folder = Annotated[Path, typer.Argument(help="folder of config.json and model.safetensors")]


def export(
    run_id: Annotated[str, typer.Argument(help="a finished run that kept a snapshot")],
    folder: Folder,
    step: Annotated[int | None, typer.Option(help="of the snapshot; the last one by default")] = None,
    average: Annotated[bool, typer.Option("--average", help="the moving average of the weights")] = False,
    results: ResultsOption = RESULTS,
) -> None:
    """Write a run's GPT in GPT-2's format, from which `transformers` loads it with the same logits."""
    from decaylab.analysis.results import load_run
    from decaylab.exchange.runs import export as write

    layout = Layout(results)
    run = parse_spec(load_run(layout, run_id).summary["spec"], run_id)
    write(run, layout, folder, step=step, average=average)
    typer.echo(folder)


def evaluate(
    folder: Folder,
    like: Annotated[str | None, typer.Option(help="a finished run, whose own losses are shown beside")] = None,
    spec: Annotated[Path | None, typer.Option(help="this RunSpec (YAML or JSON) instead; it need not have run")] = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
) -> None:
    """Loss of a model in GPT-2's format, such as the published one, on the evaluation windows of a run."""
    if (like is None) == (spec is None):
        raise InputError("evaluate: expected --like RUN_ID or --spec FILE; exactly one of them")
    layout = Layout(results)
    own: dict[str, float | None] = {}
    if spec is not None:
        run = load_spec(spec)
    else:
        from decaylab.analysis.results import load_run

        result = load_run(layout, like)
        run, own = parse_spec(result.summary["spec"], like), result.final
    import torch

    from decaylab.exchange.runs import evaluate as losses_of
    from decaylab.training.device import resolve_device

    torch.set_num_threads(threads)
    found = losses_of(folder, run, layout, resolve_device(device), choice=choose("text", text) if text else None)
    table = Table(title=f"on the evaluation windows of {run.run_id}")
    for head in ("", str(folder), *([run.run_id] if own else [])):
        table.add_column(head)
    for name, value in found.items():
        its = own.get(name)
        table.add_row(
            name.replace("_", " "), f"{value:.5f}", *([f"{its:.5f}" if its is not None else "-"] if own else [])
        )
    Console().print(table)
