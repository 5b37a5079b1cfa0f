"""The rows on the terminal, as Markdown, and as JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.cases import Row, Spread
from decaylab.files import atomic_path, write_json

HEADS = ("contender", "time", "against", "ratio", "target", "a second", "MFU", "memory")


def duration(spread: Spread) -> str:
    """`1.32 [1.30, 1.41] ms`, in the unit of the median."""
    unit, factor = next((u, f) for u, f in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if spread.median * f >= 1 or u == "µs")
    median, low, high = (f"{value * factor:#.3g}".rstrip(".") for value in (spread.median, spread.low, spread.high))
    return f"{median} [{low}, {high}] {unit}"


def cells(row: Row) -> list[str]:
    """One row of a table, by HEADS."""
    if row.problem:
        return [row.contender, row.problem, *[""] * (len(HEADS) - 2)]
    ratio = row.ratio
    return [
        row.contender,
        duration(Spread.of(row.seconds)),
        row.against or "",
        f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else "",
        target(row),
        f"{row.rate:,.0f} {row.unit}" if row.rate else "",
        f"{row.mfu:.1%}" if row.mfu else "",
        f"{row.memory / 2**30:.2f} GiB" if row.memory else "",
    ]


def target(row: Row) -> str:
    """Whether the median of the ratios, or the utilisation, is what was hoped for."""
    value, least = (row.mfu, row.target_mfu) if row.target_mfu else (row.ratio and row.ratio.median, row.target)
    if not least or value is None:
        return ""
    shown = f"{least:.0%} MFU" if row.target_mfu else f"{least:g}"
    return f"≥ {shown} {'met' if value >= least else 'missed'}"


def tables(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[list[str]]]]:
    """(name of a case, what it is, heads and cells) of each case, without columns in which nothing stands."""
    for (name, about), group in itertools.groupby(rows, lambda row: (row.case, row.about)):
        body = [list(HEADS), *map(cells, group)]
        used = [index for index in range(len(HEADS)) if any(line[index] for line in body[1:])]
        yield name, about, [[line[index] for index in used] for line in body]


def show(rows: Sequence[Row], console: Console) -> None:
    for name, about, (heads, *body) in tables(rows):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            table.add_column(head, overflow="fold")
        for line in body:
            table.add_row(*map(escape, line))
        console.print(f"[bold]{escape(name)}[/bold]  {escape(about)}", table, highlight=False)
    console.print(escape(CAPTION), highlight=False)


CAPTION = (
    "time: median [least, greatest] over the rounds; of a step of training, or of a command. "
    "ratio: this time over that of `against` in the same round; above 1, `against` is faster."
)


def markdown(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """A page: what was run, where and how, and a table for each case."""
    lines = [f"# {about['hardware']['name']}", "", "```", about["command"], "```", ""]
    lines += [f"- {key}: {_words(value)}" for key, value in about.items() if key != "command"]
    lines += ["", CAPTION]
    for name, what, (heads, *body) in tables(rows):
        lines += ["", f"## {name}", "", *([what, ""] if what else [])]
        lines += [_line(heads), "|---" * len(heads) + "|", *map(_line, body)]
    return "\n".join(lines) + "\n"


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def write(rows: Sequence[Row], about: dict[str, Any], stem: Path) -> None:
    """`stem`.md for people and `stem`.json for programs, in place of those of the last call."""
    values = [asdict(row) | {"rate": row.rate, "mfu": row.mfu} for row in rows]
    write_json(stem.with_suffix(".json"), about | {"rows": values})
    with atomic_path(stem.with_suffix(".md")) as temporary:
        temporary.write_text(markdown(rows, about), encoding="utf-8")
