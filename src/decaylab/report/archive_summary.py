"""One archive file of a replication on a page of its own, computed from the file alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.replication import Replication
from decaylab.report.html import DASH, duration, measured, number, table
from decaylab.report.provenance import data_list, sources_text


def page_name(file: Mapping[str, Any]) -> str:
    """Where the page lies, relative to the folder of a scale's reports."""
    return f"archive/{file['replication']}-{Path(file['file']).stem}.html"


def summary_page(file: Mapping[str, Any], rep: Replication) -> dict[str, Any]:
    """What the template `archive.html.j2` shows."""
    statements = {claim.id: claim.statement for claim in rep.claims}
    rows = [
        {
            "claim": statements.get(claim.claim, claim.claim),
            "where": label,
            "verdict": judged.verdict,
            "ours [95 % interval]": measured(judged.estimate, judged.interval, claim.unit),
            "seeds": judged.n or DASH,
        }
        for claim in file["verdicts"].claims
        for label, judged in [("", claim), *((variant.label, variant) for variant in claim.also)]
        if judged.verdict != "not run"
    ]
    return {
        "title": rep.title,
        "name": rep.name,
        "about": f"{file['scale']} scale, {sources_text(file['data'])}, {file['hardware']}",
        "facts": f"{len(file['runs'])} of {file['runs_planned']} planned runs, {duration(file.get('seconds'))} of "
        f"training, archived on {file['made_at'][:10]} as {file['file']}",
        "data": data_list(item["source"] for item in file["data"]),
        "claims": table(pd.DataFrame(rows), "Claims and their variants, as judged from these runs", left=["seeds"]),
        "arms": table(arms(file), "Arms: mean and standard deviation over seeds", left=list(file["metrics"])),
    }


def arms(file: Mapping[str, Any]) -> pd.DataFrame:
    """One row an arm: its parameters, seeds, and each metric as mean and standard deviation."""
    axes = list(dict.fromkeys(axis for arm in file["arms"] for axis in arm["parameters"]))
    return pd.DataFrame(
        {axis: arm["parameters"].get(axis) for axis in axes}
        | {"seeds": arm["n"]}
        | {
            name: mean_text(mean, deviation)
            for name, mean, deviation in zip(file["metrics"], arm["mean"], arm["sd"], strict=True)
            if name not in axes
        }
        for arm in file["arms"]
    )


def mean_text(mean: float | None, deviation: float | None) -> str:
    """`0.312 ± 0.012`."""
    spread = f" \u00b1 {number(deviation, 2)}" if deviation is not None else ""
    return f"{number(mean, 4)}{spread}"
