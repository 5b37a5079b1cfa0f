"""The command line: plan, train, judge, render. Exit codes: 0 done, 2 the input is wrong, 1 anything else."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from decaylab.errors import InputError, Interrupted
from decaylab.files import Layout
from decaylab.replication import PlannedRun, Replication, plan_runs, select
from decaylab.sources import Choice, choose
from decaylab.spec import RunSpec, load_spec
from decaylab.workspace import find_root

app = typer.Typer(
    help="Re-run the published experiments about weight decay, and judge their claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
evidence = typer.Typer(
    help="Measured runs on named hardware, filed under replications/<name>/evidence/.", no_args_is_help=True
)
app.add_typer(evidence, name="evidence")


class Scale(StrEnum):
    smoke = "smoke"
    laptop = "laptop"
    gpu = "gpu"
    paper = "paper"


class Switch(StrEnum):
    auto = "auto"
    off = "off"
    on = "on"


Names = Annotated[list[str] | None, typer.Argument(help="replications by name, or `all`, or `headline` (the default)")]
ScaleOption = Annotated[Scale, typer.Option(help="how large the experiments are made")]
ImagesOption = Annotated[str | None, typer.Option(help="image data in place of the replication's own: name or path")]
TextOption = Annotated[str | None, typer.Option(help="text data in place of the replication's own: name or path")]
ResultsOption = Annotated[Path, typer.Option(help="where results lie")]
ReportsOption = Annotated[Path, typer.Option(help="where reports lie")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda")]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="where a run is filed with other numbers, take these")]
FiledArgument = Annotated[str, typer.Argument(help="<scale>-<data>-<hardware>, as the files are named")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads of one training")]

SHOWN_GPUS = ("NVIDIA H200", "NVIDIA A100")
"""columns of the plan's table; --json has all that are known"""
RESULTS, REPORTS = Path("results"), Path("reports")


def _choices(images: str | None, text: str | None) -> dict[str, Choice]:
    choices = {}
    if images:
        choices["images"] = choose("images", images)
    if text:
        choices["text"] = choose("text", text)
    return choices


def _selected(names: list[str] | None) -> list[Replication]:
    return select(find_root(), names or ["headline"])


@app.command()
def plan(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="one object for each run")] = False,
) -> None:
    """What would run, and its price: FLOPs, minutes on this machine and on known GPUs, memory, disk."""
    reps = _selected(names)
    runs = plan_runs(reps, scale.value, _choices(images, text))
    from decaylab.training.cost import Pricer, is_finished, plan_row

    layout = Layout(results)
    pricer = Pricer(layout, device, threads)
    rows = [
        plan_row(run_id, run.wanted, run.spec, pricer.price(run.spec), is_finished(layout, run_id))
        for run_id, run in runs.items()
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    _print_plan(reps, rows, scale.value)


def _print_plan(reps: list[Replication], rows: list[dict[str, Any]], scale: str) -> None:
    gpus = [gpu for gpu in rows[0]["gpu_seconds"] if gpu in SHOWN_GPUS] if rows else []
    table = Table(
        title=f"scale {scale}: minutes if runs go one after another",
        caption="A run wanted by several replications counts in each, and once in the total.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    heads = ["replication", "runs", "done", "FLOPs", "here", *(gpu.removeprefix("NVIDIA ") for gpu in gpus)]
    for head in [*heads, "memory", "disk"]:
        table.add_column(head, justify="left" if head == "replication" else "right", no_wrap=True)

    def line(name: str, part: list[dict[str, Any]]) -> list[str]:
        return [
            name,
            str(len(part)),
            str(sum(row["finished"] for row in part)),
            f"{sum(row['flops'] for row in part):.2g}",
            f"{sum(row['predicted_seconds'] for row in part) / 60:.1f}",
            *(f"{sum(row['gpu_seconds'][gpu] for row in part) / 60:.1f}" for gpu in gpus),
            _bytes(max((row["memory_bytes"] for row in part), default=0)),
            _bytes(sum(row["disk_bytes"] for row in part)),
        ]

    for rep in reps:
        table.add_row(*line(rep.name, [row for row in rows if rep.name in row["replications"]]))
    table.add_section()
    table.add_row(*line("total", rows))
    Console().print(table)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@app.command()
def data(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    key: Annotated[list[str] | None, typer.Option(help="only these, by the names of their folders")] = None,
) -> None:
    """Prepare the data sets that the runs need: download, check, unpack, tokenise."""
    choices = _choices(images, text)
    runs = plan_runs(_selected(names), scale.value, choices)
    from decaylab.data import prepare, prepared_key

    wanted = {prepared_key(run.spec.data): run.spec.data for run in runs.values()}
    for name in key or wanted:
        if name not in wanted:
            raise InputError(f"data: --key {name}: expected one of {', '.join(wanted)}")
        spec = wanted[name]
        typer.echo(prepare(spec, Layout(results), choices.get(spec.kind)))


@app.command()
def train(
    run_ids: Annotated[list[str] | None, typer.Argument(help="ids as `decaylab plan` shows them")] = None,
    scale: ScaleOption = Scale.laptop,
    replications: Annotated[
        str, typer.Option(help="where to look for the ids, or what --missing works through")
    ] = "all",
    spec: Annotated[Path | None, typer.Option(help="train this RunSpec (YAML or JSON) instead")] = None,
    out: Annotated[Path | None, typer.Option(help="with --spec: where its results go")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="all runs that have no results yet, most wanted first")
    ] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="stop in time, saving the state")] = None,
    pack: Annotated[
        Path | None, typer.Option(help="at the end, also an early one, pack all finished runs into this file")
    ] = None,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    together: Annotated[
        str, typer.Option(help="runs of one shape trained in one pass; auto: 1 on a CPU, on a GPU what fills it")
    ] = "auto",
    compile_: Annotated[
        Switch, typer.Option("--compile", help="torch.compile; auto: on a GPU, where steps are large")
    ] = Switch.auto,
    graphs: Annotated[
        Switch, typer.Option(help="record a step's operations and repeat them; on a GPU as a CUDA graph; auto: on")
    ] = Switch.auto,
) -> None:
    """Train runs in this process, parents first, like ones together. Finished runs are not trained again."""
    if sum([bool(run_ids), spec is not None, missing]) != 1:
        raise InputError("train: give run ids, or --spec FILE --out DIR, or --missing; exactly one of them")
    if (spec is None) != (out is None):
        raise InputError("train: --spec FILE and --out DIR go together")
    if spec is not None and pack is not None:
        raise InputError("train: --pack is for planned runs, --spec for others")
    number = _together(together)
    choices = _choices(images, text)
    planned: dict[str, PlannedRun] = {}
    if spec is not None:
        layout, wanted = Layout(out), [load_spec(spec)]
    else:
        layout = Layout(results)
        planned = plan_runs(select(find_root(), replications), scale.value, choices)
        wanted = _wanted(run_ids, planned, layout, scale.value)
        _register(select(find_root(), "all"), layout)
    from decaylab.training.cost import Pricer
    from decaylab.training.loop import Options
    from decaylab.training.runner import deadline, in_order, train_all

    stop = deadline(minutes)
    pricer = Pricer(layout, device, threads)
    options = Options(
        device=device,
        threads=threads,
        choices=choices,
        stop=stop,
        price=pricer.price,
        compile=compile_.value,
        graphs=graphs.value,
    )
    specs = in_order(wanted, planned)
    try:
        finished = train_all(specs, layout, options, number or pricer.together)
    except Interrupted as reason:
        if not stop():
            raise
        typer.echo(f"time is up: {reason}", err=True)
        return
    finally:
        if pack is not None:
            _pack(pack, layout, planned, scale, choices)
    for item in wanted if spec is not None else []:
        typer.echo(layout.summary(item.run_id))
    typer.echo(f"{finished} runs finished", err=True)


def _together(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"train: --together: expected auto or a whole number above 0, got {text!r}")
    return int(text)


def _wanted(run_ids: list[str] | None, planned: dict[str, PlannedRun], layout: Layout, scale: str) -> list[RunSpec]:
    if not run_ids:  # --missing
        left = [run for run_id, run in planned.items() if not layout.summary(run_id).exists()]
        # seed by seed, so that what is finished when time is up can be paired
        return [run.spec for run in sorted(left, key=lambda run: (run.priority, run.spec.seed))]
    for run_id in run_ids:
        if run_id not in planned:
            raise InputError(
                f"train: no run {run_id!r} at scale {scale}; see `decaylab plan all --scale {scale} --json`"
            )
    return [planned[run_id].spec for run_id in run_ids]


@app.command()
def register(names: Names = None, results: ResultsOption = RESULTS) -> None:
    """Note the text of every claim, before its first run, in results/claims.jsonl."""
    count = _register(_selected(names or ["all"]), Layout(results))
    typer.echo(f"{count} claims newly registered", err=True)


def _register(reps: list[Replication], layout: Layout) -> int:
    from decaylab.analysis.registry import register_claims

    return register_claims(reps, layout, find_root())


@app.command()
def judge(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Judge the claims of replications from the results that exist; writes results/verdicts/<scale>/<name>.json."""
    from decaylab.analysis.judge import judge as judge_claims
    from decaylab.analysis.judge import write

    choices = _choices(images, text)
    root = find_root()
    table = Table(title=f"scale {scale.value}")
    for head in ("claim", "verdict", "estimate", "95 % interval", "n", "unit"):
        table.add_column(head)
    for rep in _selected(names):
        verdicts = judge_claims(rep, scale.value, Layout(results), root, choices)
        write(verdicts, Layout(results))
        for claim in verdicts["claims"]:
            interval = claim["interval"]
            table.add_row(
                f"{rep.name}/{claim['claim']}",
                claim["verdict"],
                "" if claim["estimate"] is None else f"{claim['estimate']:.4g}",
                "" if not interval else " to ".join("?" if end is None else f"{end:.4g}" for end in interval),
                str(claim["n"]),
                claim["unit"],
            )
    Console().print(table)


@app.command()
def render(
    name: Annotated[str, typer.Argument(help="one replication")],
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    reports: ReportsOption = REPORTS,
) -> None:
    """Execute a replication's notebook and write reports/<scale>/<name>.html."""
    from decaylab.report.notebook import render as render_notebook

    rep = _selected([name])[0]
    path = render_notebook(rep.name, scale.value, Layout(results, reports), find_root(), images=images, text=text)
    typer.echo(path)


@app.command()
def site(
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    reports: ReportsOption = REPORTS,
) -> None:
    """Write reports/<scale>/index.html and a page for every run."""
    from decaylab.report.site import build_site

    typer.echo(build_site(scale.value, Layout(results, reports), find_root(), _choices(images, text)))


@app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="the pack that is written")],
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Pack finished runs into one small file, for `decaylab evidence add` on another machine."""
    choices = _choices(images, text)
    _pack(file, Layout(results), plan_runs(_selected(names), scale.value, choices), scale, choices)


def _pack(file: Path, layout: Layout, planned: dict[str, PlannedRun], scale: Scale, choices: dict[str, Choice]) -> None:
    from decaylab.analysis.pack import write_pack

    count = write_pack(file, layout, planned, scale.value, choices, find_root())
    typer.echo(f"{file}: {count} runs packed" if count else f"{file}: not written, no run has finished", err=True)


@evidence.command()
def collect(
    names: Names = None,
    scale: ScaleOption = Scale.laptop,
    images: ImagesOption = None,
    text: TextOption = None,
    results: ResultsOption = RESULTS,
    replace: ReplaceOption = False,
) -> None:
    """File the finished runs of this machine."""
    from decaylab.analysis.evidence import collect as collect_runs

    choices = _choices(images, text)
    for rep in _selected(names):
        typer.echo(collect_runs(rep, scale.value, Layout(results), find_root(), choices, replace))


@evidence.command()
def add(
    packs: Annotated[list[Path], typer.Argument(help="what `decaylab train --pack` or `decaylab pack` wrote")],
    replace: ReplaceOption = False,
) -> None:
    """Check the runs of packs, and file them with those that are filed already."""
    from decaylab.analysis.evidence import add as add_packs
    from decaylab.fingerprint import fingerprint

    for path in add_packs(packs, find_root(), replace, fingerprint):
        typer.echo(path)


@evidence.command()
def restore(filed: FiledArgument, results: ResultsOption = RESULTS) -> None:
    """Make a results folder of filed evidence: results/evidence/<filed>/."""
    from decaylab.analysis.evidence import restore as restore_runs

    layout = Layout(results).filed(filed)
    restore_runs(filed, layout, find_root())
    typer.echo(layout.results)


@evidence.command("render")
def render_evidence(
    filed: FiledArgument,
    name: Annotated[str, typer.Argument(help="one replication")],
    results: ResultsOption = RESULTS,
    reports: ReportsOption = REPORTS,
) -> None:
    """Judge restored evidence and write its report, as if the runs had been made here."""
    from decaylab.report.archive_pages import render_filed

    typer.echo(render_filed(filed, name, Layout(results, reports), find_root()))


@evidence.command("site")
def evidence_site(results: ResultsOption = RESULTS, reports: ReportsOption = REPORTS) -> None:
    """Write the pages around the reports: claims and runs of all restored evidence, and an index of it."""
    from decaylab.report.archive_pages import build_filed_site

    typer.echo(build_filed_site(Layout(results, reports), find_root()))


# click's, or the copy of it that newer versions of typer bring along
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Entry point: one line for what went wrong, and the exit codes of the interface."""
    try:
        raise SystemExit(app(prog_name="decaylab", standalone_mode=False))
    except _UsageError as error:
        message = error.format_message().removesuffix(".").replace("Value error, ", "")
        if "\n" in message:  # nothing was asked for: the message is the help
            error.show()
            raise SystemExit(2) from None
        words = error.ctx.command_path.split() if error.ctx else ["decaylab"]
        _fail(f"{': '.join([*words[1:], message])} (`{' '.join(words)} --help` has all that it takes)", 2)
    except typer.Abort:
        _fail("stopped", 1)
    except InputError as error:
        _fail(str(error), 2)
    except Interrupted as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}; what was saved before is whole", 1)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"decaylab: {' '.join(message.split())}\n")
    raise SystemExit(code)
