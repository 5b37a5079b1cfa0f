"""Claims against results: one verdict file for each replication and scale.

docs/read-a-verdict.md says in words what this module does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decaylab.analysis import registry, statistics
from decaylab.analysis.metrics import evaluate
from decaylab.analysis.results import Results, load_runs
from decaylab.errors import InputError
from decaylab.files import Layout, git_commit, write_json
from decaylab.replication import (
    Claim,
    Metric,
    Parameters,
    Replication,
    Scalar,
    Test,
    Variant,
    claim_lines,
    expand,
    grids_at,
    matches,
    path_of_axis,
    replication_file,
)
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import SCALES, Scale

BEST = "best"
Seed = Scalar
Selector = dict[str, Scalar]


class _AbsentGrid(InputError):
    """The selected grid exists, but not at this scale."""


class _Run(NamedTuple):
    """A planned run with its id, which is slow to compute."""

    id: str
    spec: RunSpec
    parameters: Parameters


@dataclass(frozen=True)
class _Arm:
    """What a selector means in a plan. A plain arm has one cell; `best` and a slope's axis have one for each value."""

    selector: Selector
    cells: dict[tuple[Scalar, ...], dict[Seed, _Run]]
    """values of `axes`: seed: run"""
    axes: tuple[str, ...]
    """the slope's axis, if there is one, then those whose value is `best`"""

    def seeds(self, present: set[str] | None = None) -> list[Seed]:
        """Seeds that every cell has, in the plan's order; with `present`, only those whose runs are all there."""
        first, *others = self.cells.values()
        return [
            seed
            for seed in first
            if all(seed in cell for cell in others)
            and (present is None or all(cell[seed].id in present for cell in self.cells.values()))
        ]

    def run_ids(self) -> Iterator[str]:
        for cell in self.cells.values():
            yield from (run.id for run in cell.values())


@dataclass(frozen=True)
class _Term:
    arm: _Arm
    weight: float
    metric: Metric


@dataclass
class _Plan:
    """The runs of a replication at a scale, and the grids they come from."""

    rep: Replication
    scale: Scale
    runs: list[_Run]
    grids: set[str]

    @classmethod
    def make(cls, rep: Replication, scale: Scale, choices: dict[str, Choice] | None) -> _Plan:
        runs = [_Run(spec.run_id, spec, parameters) for spec, parameters, _ in expand(rep, scale, choices)]
        return cls(rep, scale, runs, set(grids_at(rep, scale)))

    def resolve(self, selector: Selector, where: str, slope_over: str | None = None) -> _Arm:
        """Find the runs of a selector: one for each seed (and value of a free axis). Raises InputError."""
        axes = ((slope_over,) if slope_over else ()) + tuple(key for key, value in selector.items() if value == BEST)
        fixed = {key: value for key, value in selector.items() if value != BEST}
        shown = ", ".join(f"{key}={value}" for key, value in selector.items())
        grid = fixed.get("grid")
        elsewhere = set(self.rep.grids).union(*(override.add for override in self.rep.scales.values()))
        if grid is not None and grid not in self.grids and grid in elsewhere:
            raise _AbsentGrid(f"{where}: arm {shown}: there is no grid {grid} at {self.scale} scale")
        found = self.runs
        for key in sorted(fixed, key=lambda key: key != "grid"):
            before = found
            found = [run for run in before if matches(run.parameters, {key: fixed[key]})]
            if not found:
                has = dict.fromkeys(repr(run.parameters[key]) for run in before if key in run.parameters)
                what = f"{key} is one of {', '.join(has)}" if has else f"there is no parameter {key}"
                raise InputError(f"{where}: arm {shown}: no run at {self.scale} scale; {what}")
        for axis in axes:
            found = [run for run in found if axis in run.parameters]
            if not found:
                raise InputError(f"{where}: arm {shown}: no run at {self.scale} scale has a parameter {axis}")
        cells: dict[tuple[Scalar, ...], dict[Seed, _Run]] = {}
        for run in found:
            cell = cells.setdefault(tuple(run.parameters[axis] for axis in axes), {})
            seed = run.parameters.get("seed", run.spec.seed)
            other = cell.setdefault(seed, run)
            if other.id != run.id:
                names = sorted(run.parameters.keys() | other.parameters.keys())
                differ = [name for name in names if run.parameters.get(name) != other.parameters.get(name)]
                raise InputError(
                    f"{where}: arm {shown}: several runs of seed {seed} at {self.scale} scale; "
                    f"they differ in {', '.join(differ)}, so select one"
                )
        arm = _Arm(selector, cells, axes)
        if not arm.seeds():
            raise InputError(f"{where}: arm {shown}: its runs share no seed at {self.scale} scale")
        return arm

    def terms(self, test: Test, over: Selector, where: str) -> list[_Term]:
        """A test as weighted terms, with the parameters `over` replaced in every arm. Raises InputError."""
        if test.terms:
            parts = [(term.arm, term.weight, term.metric or test.metric) for term in test.terms]
        else:
            parts = [(test.arm, 1.0, test.metric)]
            if test.minus is not None:
                parts.append((test.minus, -1.0, test.metric))
        terms = [
            _Term(self.resolve(arm | over, where, test.slope_over), weight, metric) for arm, weight, metric in parts
        ]
        if not _common(terms):
            raise InputError(f"{where}: its arms share no seed at {self.scale} scale")
        if test.slope_over:
            _abscissae(terms[0].arm, test, where)
        return terms

    def words(self, claim: Claim, test: Test | None = None, variant: Variant | None = None) -> str:
        """Where an error is: file, claim, variant and test."""
        words = [f"replications/{self.rep.name}/replication.yaml: claim {claim.id}"]
        words += [f"also {variant.label!r}"] if variant else []
        words += [f"test {test.name!r}"] if test and test.name else []
        return ": ".join(words)


def check_claims(rep: Replication, scale: Scale, choices: dict[str, Choice] | None = None) -> None:
    """Check, without results, that every claim that may be judged at `scale` finds its runs there.

    Each arm must have exactly one run for each seed. A variant may name a grid that this scale leaves out.

    Raises:
        InputError: naming file, claim, selector and the parameters in question.
    """
    plan = _Plan.make(rep, scale, choices)
    for claim in rep.claims:
        if scale not in claim.scales:
            continue
        for test in claim.tests:
            plan.terms(test, {}, plan.words(claim, test))
        for variant in claim.also:
            for test in variant.tests or claim.tests:
                try:
                    plan.terms(test, variant.arm, plan.words(claim, test, variant))
                except _AbsentGrid:
                    continue


def judge(
    rep: Replication, scale: Scale, layout: Layout, root: Path, choices: dict[str, Choice] | None = None
) -> dict[str, Any]:
    """The content of a verdict file: the same for the same claims, results, registry and commit.

    Claims that are not registered yet are registered now.

    Args:
        root: the clone that holds `replications/`.
        choices: data sources in place of the replication's own, as for `expand`.

    Raises:
        InputError: a claim's arms cannot be found in the plan, a metric not in a run, or a result is damaged.
    """
    file = replication_file(root, rep.name)
    plan = _Plan.make(rep, scale, choices)
    results = load_runs(layout, [(run.spec, run.parameters) for run in plan.runs])
    registry.register_claims([rep], layout, root)
    lines = registry.registered(layout)
    places = claim_lines(file)
    claims = []
    for claim in rep.claims:
        sha256 = claim.sha256()
        registered_at = lines[rep.name, claim.id, sha256]["registered_at"]
        value = _judge_claim(claim, plan, results)
        starts = [registry.moment(results.runs[run_id].summary["started_at"]) for run_id in value["run_ids"]]
        value |= {
            "claim_sha256": sha256,
            "registered_at": registered_at,
            "registered_before_runs": all(registry.moment(registered_at) <= start for start in starts),
            "line": places[claim.id],
        }
        claims.append(value)
    verdicts = Counter(claim["verdict"] for claim in claims)
    judged = [claim for claim in claims if claim["verdict"] != "not run"]
    return {
        "replication": rep.name,
        "scale": scale,
        "commit": git_commit(root),
        "claims": claims,
        "counts": {verdict: verdicts[verdict] for verdict in statistics.VERDICTS},
        "expected_false_verdicts": statistics.expected_false_verdicts(len(claim["parts"]) for claim in judged),
    }


def write(verdict: dict[str, Any], layout: Layout) -> Path:
    """Write a verdict file, atomically, and return its path."""
    path = layout.verdicts(verdict["scale"], verdict["replication"])
    write_json(path, verdict)
    return path


def _judge_claim(claim: Claim, plan: _Plan, results: Results) -> dict[str, Any]:
    used: set[str] = set()
    judged_here = plan.scale in claim.scales
    try:
        parts = [_judge_test(test, {}, plan, results, plan.words(claim, test), used) for test in claim.tests]
    except InputError:
        if judged_here:
            raise
        # the plan of a scale at which nobody meant to judge may lack an arm or a probe
        parts = [_part(test) for test in claim.tests]
    verdict = statistics.combine([part["verdict"] for part in parts])
    reason = _reason(parts)
    if not judged_here:
        verdict, reason = "not run", _not_at(plan.scale, claim)
        parts = [part | {"verdict": verdict, "reason": reason} for part in parts]
    first = claim.tests[0]
    estimate = parts[0]["estimate"]
    source = claim.source_value
    comparable = estimate is not None and source.value is not None and plan.scale in source.same_setting
    also = [_judge_variant(claim, variant, plan, results, used) for variant in claim.also] if judged_here else []
    runs = [results.runs[run_id] for run_id in sorted(used)]
    return {
        "claim": claim.id,
        "statement": claim.statement,
        "verdict": verdict,
        "reason": reason,
        "estimate": estimate,
        "interval": parts[0]["interval"],
        "n": parts[0]["n"],
        "unit": claim.unit,
        "source_value": {"value": source.value, "text": source.text},
        "difference_from_source": estimate - source.value if comparable else None,
        "scale": plan.scale,
        "direction": first.direction,
        "smallest_effect": first.smallest_effect,
        "parts": parts,
        "also": also,
        "run_ids": [run.run_id for run in runs],
        "seconds": math.fsum(run.summary["seconds"] for run in runs),
        "commits": sorted({run.summary.get("commit") or "unknown" for run in runs}),
        "hardware": sorted({hardware_name(run.summary) for run in runs}),
    }


def _judge_variant(claim: Claim, variant: Variant, plan: _Plan, results: Results, used: set[str]) -> dict[str, Any]:
    tests = variant.tests or claim.tests
    try:
        parts = [
            _judge_test(test, variant.arm, plan, results, plan.words(claim, test, variant), used) for test in tests
        ]
        reason = _reason(parts)
    except _AbsentGrid:
        parts = [_part(test) for test in tests]
        reason = f"{plan.scale} has no such runs"
    return {
        "label": variant.label,
        "verdict": statistics.combine([part["verdict"] for part in parts]),
        "reason": reason,
        "estimate": parts[0]["estimate"],
        "interval": parts[0]["interval"],
        "n": parts[0]["n"],
        "parts": parts,
    }


def _judge_test(
    test: Test, over: Selector, plan: _Plan, results: Results, where: str, used: set[str]
) -> dict[str, Any]:
    """One test's estimate, interval and verdict; adds the ids of all runs it read to `used`."""
    terms = plan.terms(test, over, where)
    wanted = {run_id for term in terms for run_id in term.arm.run_ids()}
    present = set(results.runs)
    used |= wanted & present
    part = _part(test)
    planned, seeds = _common(terms), _common(terms, present)
    missing = len(wanted - present)
    notes = [f"{missing} of {len(wanted)} runs are missing"] if missing else []
    if missing and seeds:
        notes.append(f"judged on the {len(seeds)} of {len(planned)} seeds that have all theirs")
    values: list[float] = []
    without: list[str] = []
    for seed in seeds:
        value, run_ids, chosen = _contrast(test, terms, seed, present, results, where)
        part["seeds"].append({"seed": seed, "value": value, "runs": run_ids})
        part["chosen"] += chosen
        if value is None:
            without.append(str(seed))
        else:
            values.append(value)
    part["n"] = len(values)
    if values:
        if test.kind == "proportion":
            if set(values) - {0.0, 1.0}:
                raise InputError(f"{where}: a rate needs a metric that is 0 or 1, {test.metric.name} is {values}")
            part["estimate"], part["interval"] = statistics.rate_interval(int(sum(values)), len(values))
        else:
            part["estimate"], part["interval"] = statistics.mean_interval(values)
    part["verdict"] = statistics.decide(
        part["estimate"], part["interval"], test.direction, test.smallest_effect, test.kind
    )
    if without:
        # leaving these seeds out could flatter the claim, so nothing is decided from the rest
        part["verdict"] = "inconclusive"
        names = ", ".join(dict.fromkeys(term.metric.name for term in terms))
        notes.append(f"no number for {names} with seed {', '.join(without)}")
        if BEST in [value for term in terms for value in term.arm.selector.values()] and len(seeds) == 1:
            notes[-1] = "the best setting cannot be chosen with one seed, since a seed never chooses its own"
    elif part["verdict"] == "inconclusive":
        notes.append(_why_open(test, part))
    part["reason"] = "; ".join(notes)
    return part


def _part(test: Test) -> dict[str, Any]:
    """A test's entry in the verdict, before anything is known."""
    return {
        "name": test.name or test.metric.name,
        "verdict": "not run",
        "reason": "",
        "estimate": None,
        "interval": None,
        "n": 0,
        "direction": test.direction,
        "smallest_effect": test.smallest_effect,
        "kind": test.kind,
        "seeds": [],
        "chosen": [],
    }


def _contrast(
    test: Test, terms: list[_Term], seed: Seed, present: set[str], results: Results, where: str
) -> tuple[float | None, list[str], list[dict[str, Any]]]:
    """One seed's number (None if a run has none), the runs it was computed from, and the best values chosen."""
    total: float | None = -test.reference
    run_ids: list[str] = []
    chosen: list[dict[str, Any]] = []
    skip = 1 if test.slope_over else 0  # the slope's axis comes first, then those of the best values
    for term in terms:
        points: list[float | None] = []
        for value, cells in _groups(term.arm, bool(test.slope_over)).items():
            key = _best(term.arm, cells, seed, test.best_by or test.metric, present, results, where)
            if key is None:
                points.append(None)
                continue
            run_id = term.arm.cells[key][seed].id
            run_ids.append(run_id)
            points.append(evaluate(results.runs[run_id], term.metric, where))
            if best := dict(zip(term.arm.axes[skip:], key[skip:], strict=True)):
                at = {test.slope_over: value[0]} if test.slope_over else {}
                chosen.append({"arm": term.arm.selector | at, "seed": seed, "values": best})
        if None in points:
            total = None
        elif total is not None:
            number = statistics.slope(_abscissae(term.arm, test, where), points) if test.slope_over else points[0]
            total += term.weight * number
    # two terms may read different metrics of one run
    return total, list(dict.fromkeys(run_ids)), [item for i, item in enumerate(chosen) if item not in chosen[:i]]


def _groups(arm: _Arm, slope: bool) -> dict[tuple[Scalar, ...], list[tuple[Scalar, ...]]]:
    """Cells among which the best is chosen: all of the arm, or those of each value of the slope's axis."""
    groups: dict[tuple[Scalar, ...], list[tuple[Scalar, ...]]] = {}
    for key in arm.cells:
        groups.setdefault(key[:1] if slope else (), []).append(key)
    return groups


def _best(
    arm: _Arm,
    cells: list[tuple[Scalar, ...]],
    seed: Seed,
    by: Metric,
    present: set[str],
    results: Results,
    where: str,
) -> tuple[Scalar, ...] | None:
    """The cell with the lowest mean of `by` over all seeds but `seed`; None if there are no others.

    A cell with a run that has no number for `by` is never the best.
    """
    if BEST not in arm.selector.values():
        return cells[0]
    others = [other for other in arm.seeds(present) if other != seed]
    if not others:
        return None

    def mean(key: tuple[Scalar, ...]) -> float:
        values = [evaluate(results.runs[arm.cells[key][other].id], by, where) for other in others]
        return math.inf if None in values else float(np.mean(values))

    best = min(cells, key=mean)
    return best if math.isfinite(mean(best)) else None


def _common(terms: list[_Term], present: set[str] | None = None) -> list[Seed]:
    first, *others = [term.arm.seeds(present) for term in terms]
    return [seed for seed in first if all(seed in seeds for seeds in others)]


def _abscissae(arm: _Arm, test: Test, where: str) -> list[float]:
    """Numeric values of the slope's axis, on its scale: the labels, or where these are text the spec's values."""
    values = []
    for (label, *_), keys in _groups(arm, slope=True).items():
        value: Any = label
        if isinstance(label, str | bool):
            value = next(iter(arm.cells[keys[0]].values())).spec.model_dump(mode="json")
            for key in path_of_axis(test.slope_over):
                value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str | bool) or value is None:
            raise InputError(f"{where}: slope_over {test.slope_over}: {label!r} is no number, nor is it in the spec")
        if test.slope_scale == "log10" and value <= 0:
            raise InputError(f"{where}: slope_over {test.slope_over}: {value:g} has no log10; use slope_scale: linear")
        values.append(math.log10(value) if test.slope_scale == "log10" else float(value))
    if len(set(values)) < 2:
        raise InputError(f"{where}: slope_over {test.slope_over}: expected at least two different values")
    return values


def _not_at(scale: Scale, claim: Claim) -> str:
    if SCALES.index(scale) < min(map(SCALES.index, claim.scales)):
        return f"{scale} is too small to judge this claim"
    return f"this claim is judged at {', '.join(claim.scales)}, not at {scale}"


def _reason(parts: list[dict[str, Any]]) -> str:
    """The reasons of a claim's tests, each named if there are several."""
    reasons = [(part["name"], part["reason"]) for part in parts if part["reason"]]
    if len(reasons) == len(parts) and len({reason for _, reason in reasons}) == 1:
        return reasons[0][1]
    return "; ".join(f"{name}: {reason}" for name, reason in reasons)


def _why_open(test: Test, part: dict[str, Any]) -> str:
    """Why a test with an estimate is inconclusive, in plain words."""
    if part["interval"] is None:
        return "one seed has no interval"
    low, high = part["interval"]
    interval = f"the interval {low:.3g} to {high:.3g}"
    effect = f"{test.smallest_effect:g}"
    if test.direction == "within":
        return f"{interval} is neither inside nor outside -{effect} to {effect}"
    if test.kind == "proportion":
        return f"{interval} reaches across {effect}"
    sign = "" if test.direction == "above" or test.smallest_effect == 0 else "-"
    if test.smallest_effect == 0:
        return f"{interval} reaches across 0"
    return f"{interval} is neither wholly {test.direction} {sign}{effect} nor wholly on the other side of 0"


def hardware_name(summary: dict[str, Any]) -> str:
    """What a run ran on, for people: 'NVIDIA H200', or a processor's name."""
    return str(summary.get("hardware", {}).get("name") or "unknown")
