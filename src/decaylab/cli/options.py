"""Arguments and options that several commands share, and the workspace that they describe."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from decaylab.files import Layout
from decaylab.replication import Replication, select
from decaylab.sources import choose
from decaylab.workspace import Workspace, find_root


class Scale(StrEnum):
    smoke = "smoke"
    laptop = "laptop"
    gpu = "gpu"
    paper = "paper"


class Switch(StrEnum):
    auto = "auto"
    off = "off"
    on = "on"


Names = Annotated[list[str] | None, typer.Argument(help="replications by name, `all`, or `headline` (the default)")]
Name = Annotated[str, typer.Argument(help="one replication")]
ScaleOption = Annotated[Scale, typer.Option(help="how large the experiments are")]
ImagesOption = Annotated[str | None, typer.Option(help="image data instead of the replication's own: name or path")]
TextOption = Annotated[str | None, typer.Option(help="text data instead of the replication's own: name or path")]
ResultsOption = Annotated[Path, typer.Option(help="folder of the results")]
ReportsOption = Annotated[Path, typer.Option(help="folder of the reports")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads of one training")]

RESULTS, REPORTS = Path("results"), Path("reports")


def workspace(
    scale: Scale = Scale.laptop,
    images: str | None = None,
    text: str | None = None,
    results: Path = RESULTS,
    reports: Path = REPORTS,
) -> Workspace:
    """The workspace that a command's options describe, in the clone around the working directory."""
    chosen = {"images": images, "text": text}
    choices = {kind: choose(kind, value) for kind, value in chosen.items() if value}
    return Workspace(find_root(), scale.value, Layout(results, reports), choices)


def selected(names: list[str] | None) -> list[Replication]:
    """The replications named; without names, the headline ones."""
    return select(find_root(), names or ["headline"])
