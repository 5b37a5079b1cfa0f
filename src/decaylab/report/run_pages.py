"""A page for each run: its curves, the claims that rest on it, its settings and its files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import yaml

from decaylab.analysis.results import RunResult
from decaylab.files import atomic_path
from decaylab.replication import PlannedRun, Replication
from decaylab.report.html import Html, duration, number, scalar, size, words
from decaylab.report.metric_names import label
from decaylab.report.provenance import data_list
from decaylab.report.references import citation
from decaylab.workspace import Workspace

CURVES = ("train_loss", "test_loss", "validation_loss", "test_error", "validation_error", "weight_norm")
"""metrics that a run's page draws, where the run has them; at most three"""
MOST_POINTS = 150
"""of one curve"""
RUNNING = {"train_loss": "batch_loss"}
"""drawn behind them: recorded more often, and noisier"""


def run_page(
    run: RunResult,
    workspace: Workspace,
    reps: Sequence[Replication],
    claims: Mapping[str, Sequence[Mapping[str, Any]]],
    planned: Mapping[str, PlannedRun],
) -> dict[str, Any]:
    """What the template of a run's page shows, for a page in reports/<scale>/runs/."""
    summary, scale = run.summary, workspace.scale
    plan = planned.get(run.run_id)
    uses = []
    for rep in reps:
        resting = [view for view in claims[rep.name] if run.run_id in {item["id"] for item in view["runs"]}]
        parameters = plan.wanted.get(rep.name, []) if plan else []
        if resting or parameters:
            report = workspace.layout.report(scale, rep.name)
            uses.append(
                {
                    "name": rep.name,
                    "title": rep.title,
                    "published": "; ".join(map(citation, rep.references)),
                    "report": f"../{rep.name}.html" if report.exists() else None,
                    "parameters": [
                        ", ".join(f"{words(key)} {scalar(value)}" for key, value in item.items()) for item in parameters
                    ],
                    "claims": resting,
                }
            )
    spec = summary["spec"]
    predicted = summary.get("predicted_seconds")
    return {
        "scale": scale,
        "run_id": run.run_id,
        "heading": f"{spec['model']['kind'].replace('_', ' ')}, learning rate "
        f"{number(spec['optimizer']['learning_rate'], 4)}, weight decay {number(spec['decay']['weight_decay'], 4)}, "
        f"seed {spec['seed']}",
        "steps": spec["steps"],
        "diverged_at_step": summary["diverged_at_step"],
        "uses": uses,
        "partners": _partners(plan, planned, workspace),
        "curves": [chart for name in CURVES if (chart := line_chart(run.metrics, name, RUNNING.get(name)))][:3],
        "final": [(label(name).replace("\n", " "), number(value, 5)) for name, value in summary["final"].items()],
        "texts": list((summary.get("texts") or {}).items()),
        "decay": [
            (
                group,
                value.get("configured"),
                value.get("measured"),
                ", ".join(
                    f"{words(key)} {scalar(item)}"
                    for key, item in value.items()
                    if key not in ("configured", "measured")
                ),
            )
            for group, value in (summary.get("applied_decay") or {}).items()
        ],
        "cost": [
            ("measured", duration(summary["seconds"])),
            ("predicted", duration(predicted) if predicted else "no prediction was made"),
            ("arithmetic", size(summary.get("flops"), "FLOP")),
            ("peak memory", size(summary.get("peak_memory_bytes"))),
            ("weights", size(summary.get("parameters"), "").strip()),
        ],
        "provenance": [
            ("started", summary["started_at"]),
            ("commit", summary.get("commit") or "unknown"),
            ("code", summary.get("code") or "unknown"),
            ("data, sha256", summary.get("data_sha256") or "unknown"),
            *((words(name), scalar(value)) for name, value in (summary.get("hardware") or {}).items()),
            ("versions", ", ".join(f"{name} {value}" for name, value in (summary.get("versions") or {}).items())),
        ],
        "data": data_list([spec["data"]["source"]], workspace.layout.results),
        "spec": yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True).strip(),
        "command": " ".join(
            [f"decaylab train {run.run_id} --scale {scale}"]
            + [f"--{kind} {shlex.quote(choice.text)}" for kind, choice in sorted(workspace.choices.items())]
        ),
        "metrics": f"{run.run_id}.csv",
    }


def write_metrics(run: RunResult, workspace: Workspace) -> None:
    """The run's metrics beside its page, as CSV, so that the folder of reports needs no other."""
    path = workspace.layout.index(workspace.scale).parent / "runs" / f"{run.run_id}.csv"
    with atomic_path(path) as temporary:
        run.metrics.to_csv(temporary, index=False, float_format="%.5g")


def _partners(
    plan: PlannedRun | None, planned: Mapping[str, PlannedRun], workspace: Workspace
) -> list[tuple[Any, str, bool]]:
    """(seed, run id, is it here) of the runs that differ from this one in their seed only."""
    if plan is None:
        return []
    same = plan.spec.model_dump(mode="json", exclude={"seed", "snapshots"})
    if plan.spec.parents:
        return []
    return [
        (other.spec.seed, run_id, workspace.layout.summary(run_id).exists())
        for run_id, other in planned.items()
        if run_id != plan.run_id and other.spec.model_dump(mode="json", exclude={"seed", "snapshots"}) == same
    ]


def line_chart(
    metrics: pd.DataFrame, name: str, behind: str | None = None, width: float = 300.0, height: float = 150.0
) -> Html | None:
    """One metric over the steps of one run as a small SVG; None if there are fewer than two rows.

    Drawn by hand: matplotlib would take longer for all pages than everything else.

    Args:
        behind: a metric in the same unit, drawn as a thin line where the run has it.
    """
    if name not in metrics:
        return None
    rows = metrics[["step", name]].dropna()
    if len(rows) < 2:
        return None
    names = [name] + ([behind] if behind in metrics else [])
    drawn = {key: metrics[["step", key]].dropna().to_numpy(float) for key in names}
    every = np.concatenate(list(drawn.values()))
    (first, low), (last, high) = every.min(axis=0), every.max(axis=0)
    left, top, right, bottom = 52.0, 10.0, width - 6, height - 22

    def line(rank: int) -> str:
        rows = drawn[names[rank]]
        x, y = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int))].T
        across = left + (right - left) * (x - first) / ((last - first) or 1.0)
        up = bottom - (bottom - top) * (y - low) / ((high - low) or 1.0)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True))
        return f'<polyline class="{"behind" if rank else "own"}" points="{points}"/>'

    texts = [
        (left - 5, 14, "end", number(float(high))),
        (left - 5, bottom, "end", number(float(low))),
        (left, height - 6, "start", f"step {first:.0f}"),
        (right, height - 6, "end", f"{last:.0f}"),
    ]
    written = "".join(f'<text x="{a:g}" y="{b:g}" text-anchor="{side}">{text}</text>' for a, b, side, text in texts)
    values = rows[name].to_numpy(float)
    said = f"{label(name)}: from {number(values[0])} to {number(values[-1])}, lowest {number(values.min())}"
    also = f", and the {label(behind).partition(' (')[0]} (thin)" if len(names) > 1 else ""
    # what templates/run.js needs to read values off the curve
    data = f'data-box="{left:g} {top:g} {right:g} {bottom:g}" data-x="{first:g} {last:g}" data-y="{low:.6g} {high:.6g}"'
    return Html(
        f"<figure><figcaption>{escape(label(name))}{also}</figcaption>"
        f'<svg role="img" aria-label="{escape(said)}" {data} viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}"><path d="M{left:g} 6V{bottom:g}H{width:g}"/>'
        f"{''.join(map(line, reversed(range(len(names)))))}{written}"
        f'<text class="value" x="{right:g}" y="14" text-anchor="end"></text></svg></figure>'
    )
