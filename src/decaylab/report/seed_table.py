"""The numbers behind a claim's estimate: each seed with the value of each arm, their contrast and the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from decaylab.analysis.questions import contrast_of
from decaylab.replication import Claim, Scalar, Test
from decaylab.report.html import aligned, is_fraction, number, words


def seed_table(view: Mapping[str, Any], claim: Claim) -> dict[str, Any]:
    """Values of the deciding test, seed by seed, and the runs of other tests and variants.

    Args:
        view: a claim as `claims.claim_views` makes it, with parts, test, unit, runs and text_changed.
        claim: the same claim as replication.yaml has it now; it names the arms.

    Returns:
        `seed_arms`: headings of the arms, empty where the file does not know the arms' values; `seed_value`: heading
        of what is made of them, empty where that is the arm's value itself; `seed_values`: seed, value, cells (text and
        runs of each arm) and all runs; `other_runs`.
    """
    rank = next((rank for rank, part in enumerate(view["parts"]) if part["name"] == view["test"]), 0)
    seeds = view["parts"][rank]["seeds"] if view["parts"] else []
    known = {run["id"]: run for run in view["runs"]}
    names = [] if view["text_changed"] or len(claim.tests) != len(view["parts"]) else arm_names(claim.tests[rank])
    test = claim.tests[rank] if names else None
    rows = _rows(seeds, view["unit"], known, len(names))
    shown = {run_id for item in seeds for run_id in item["runs"]}
    told = bool(rows) and all(row["cells"] for row in rows)
    points = " (points)" if is_fraction(view["unit"]) and (not told or len(names) > 1) else ""
    return {
        "seed_arms": names if told else [],
        "seed_value": (_heading(test) if told and test else "value") + points,
        "seed_values": rows,
        "other_runs": [run for run in view["runs"] if run["id"] not in shown],
    }


def arm_names(test: Test) -> list[str]:
    """What distinguishes each arm of a test, in words; the metric where nothing does."""
    contrast = contrast_of(test)
    terms = test.terms or []
    metrics = [term.metric.name if term.metric else test.metric.name for term in terms]
    names = []
    for rank, (weight, own) in enumerate(contrast):
        own = {key: value for key, value in own.items() if key != "grid" or len(own) == 1}
        parts = [setting(key, value) for key, value in own.items()]
        parts += [words(metrics[rank])] if len(set(metrics)) > 1 else []
        name = ", ".join(parts) or words(test.metric.name)
        names.append(name if abs(weight) == 1 else f"{number(abs(weight))} \u00d7 {name}")
    # values of one metric at several times are told apart by number
    return [
        name if names.count(name) == 1 else f"{name} ({names[: rank + 1].count(name)})"
        for rank, name in enumerate(names)
    ]


def setting(name: str, value: Scalar) -> str:
    """`weight_decay`, 0 -> `no decay`; `decay`, `on` -> `decay on`; `grid`, `matched` -> `matched`."""
    if name == "grid":
        return words(value)
    name = {"weight_decay": "decay"}.get(name, words(name))
    if name == "decay" and value in (0, "none") and not isinstance(value, bool):
        return "no decay"
    if name == "decay" and value == "decay":
        return "decay"
    return f"{name} {number(value) if isinstance(value, int | float) else words(value)}"


def _heading(test: Test) -> str:
    """What a test makes of its arms; empty where that is the value of its only arm."""
    weights = [weight for weight, _ in contrast_of(test)]
    if len(weights) == 1:
        return f"minus {number(test.reference)}" if test.reference else ""
    return "difference" if weights == [1, -1] else "all together"


def _rows(seeds: Sequence[Mapping[str, Any]], unit: str, known: Mapping[str, Any], arms: int) -> list[dict[str, Any]]:
    """One row a seed; all numbers of a table have the same decimals."""
    percent = 100 if is_fraction(unit) else 1
    values = [[value and percent * value for value in item.get("arms") or []] for item in seeds]
    contrasts = [item["value"] and percent * item["value"] for item in seeds]
    size = max((abs(value) for row in [*values, contrasts] for value in row if value), default=0.0)
    sign = "\u00a0%" if percent == 100 else ""
    return [
        {"seed": item["seed"], "value": made, **_runs(item, aligned(row, size, sign), known, arms)}
        for item, row, made in zip(seeds, values, aligned(contrasts, size), strict=True)
    ]


def _runs(item: Mapping[str, Any], texts: Sequence[str], known: Mapping[str, Any], arms: int) -> dict[str, Any]:
    """The runs of one seed, and those of each arm beside its value where they can be told apart."""
    runs = [known.get(run_id, {"id": run_id, "link": None}) for run_id in item["runs"]]
    each, left = divmod(len(runs), arms) if arms else (0, 0)
    together = len(runs) == 1  # all arms are read from one run
    cells = []
    if arms and len(texts) == arms and (together or (each and not left)):
        parts = [runs if together else runs[rank * each : (rank + 1) * each] for rank in range(arms)]
        cells = [{"text": text, "runs": part} for text, part in zip(texts, parts, strict=True)]
    return {"cells": cells, "runs": runs}
