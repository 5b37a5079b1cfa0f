"""Published rules for the weight decay of a training run."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from decaylab.replication import list_replications
from decaylab.workspace import find_root


def advise(
    parameters: Annotated[float, typer.Option(help="trained weights of the model")],
    data: Annotated[float, typer.Option(help="tokens (or images) of one pass over the data")],
    batch: Annotated[float, typer.Option(help="tokens (or images) of one step, in the same unit")],
    learning_rate: Annotated[float, typer.Option(help="peak learning rate")],
    epochs: Annotated[float, typer.Option(help="passes over the data")] = 1.0,
    width: Annotated[int | None, typer.Option(help="of a transformer; nanochat's rule needs it")] = None,
) -> None:
    """Weight decay by each published rule, and what archived runs say about the rule."""
    from decaylab.analysis.advice import Setting
    from decaylab.analysis.advice import advise as rules
    from decaylab.report.claims import judged_in, read_evidence

    setting = Setting(parameters, data, batch, learning_rate, epochs, width)
    root = find_root()
    known = list_replications(root)

    def archived(name: str) -> str:
        replication, _, claim = name.partition("/")
        found = judged_in(read_evidence(root, replication), claim) if replication in known else []
        return f"{claim}: {found[0][1].verdict} ({found[0][0]['scale']})" if found else f"{claim}: not run"

    table = Table(
        title=f"{setting.steps:.4g} steps, {setting.tokens_per_parameter:.3g} tokens (or images) per weight",
        caption="Decoupled decay as in PyTorch: a step multiplies a weight by 1 - learning rate x decay.",
        box=box.SIMPLE_HEAD,
        show_lines=True,
    )
    for head in ("rule", "weight decay", "why", "archived verdicts"):
        table.add_column(head)
    for advice in rules(setting):
        value = f"{advice.low:.3g}" if advice.low == advice.high else f"{advice.low:.3g} to {advice.high:.3g}"
        rule = f"{advice.rule}\n({advice.source})"
        table.add_row(rule, value, advice.why, "\n".join(map(archived, advice.claims)))
    Console().print(table)
