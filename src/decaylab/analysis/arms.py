"""From a claim's selectors to the planned runs that they mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from decaylab.errors import InputError
from decaylab.regime import regime_of
from decaylab.replication import (
    Claim,
    Metric,
    Parameters,
    Replication,
    Scalar,
    Test,
    Variant,
    arm_key,
    expand,
    grids_at,
    matches,
    path_of_axis,
)
from decaylab.seeds import Seeds
from decaylab.sources import Choice
from decaylab.spec import RunSpec
from decaylab.workspace import Scale

BEST = "best"
TUNING_SEEDS = 3
"""the first seeds in planned order choose the settings that `best` stands for, and are not judged"""
Seed = Scalar
Selector = dict[str, Scalar]
Key = tuple[Scalar, ...]
"""values of an arm's free axes"""


class AbsentGrid(InputError):
    """The selected grid exists, but not at this scale."""


class ArmRun(NamedTuple):
    """A planned run with its id, which is slow to compute."""

    id: str
    spec: RunSpec
    parameters: Parameters


@dataclass(frozen=True)
class Arm:
    """The runs of a selector. A plain arm has one cell; `best`, slopes and optima have one for each value."""

    selector: Selector
    cells: dict[Key, dict[Seed, ArmRun]]
    """values of `axes`: seed: run"""
    axes: tuple[str, ...]
    """that of a slope or an optimum, if there is one, then those whose value is `best`"""

    def seeds(self, present: set[str] | None = None) -> list[Seed]:
        """Seeds that every cell has, in planned order; with `present` only those whose runs are all in it."""
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

    def groups(self, along: bool) -> dict[Key, list[Key]]:
        """Cells among which the best is chosen: all of them, or those of each value along the first axis."""
        groups: dict[Key, list[Key]] = {}
        for key in self.cells:
            groups.setdefault(key[:1] if along else (), []).append(key)
        return groups


@dataclass(frozen=True)
class ArmTerm:
    """weight x metric of one arm."""

    arm: Arm
    weight: float
    metric: Metric


def common_seeds(terms: list[ArmTerm], present: set[str] | None = None) -> list[Seed]:
    """Seeds that all arms have, in planned order; see `Arm.seeds`."""
    first, *others = [term.arm.seeds(present) for term in terms]
    return [seed for seed in first if all(seed in seeds for seeds in others)]


def needs_tuning(terms: list[ArmTerm]) -> bool:
    """Whether any arm has a parameter whose value is `best`."""
    return any(BEST in term.arm.selector.values() for term in terms)


def split_seeds(terms: list[ArmTerm]) -> tuple[list[Seed], list[Seed]]:
    """The tuning seeds and the seeds to be judged, in planned order."""
    seeds = common_seeds(terms)
    count = TUNING_SEEDS if needs_tuning(terms) else 0
    return seeds[:count], seeds[count:]


def most_seeds(rep: Replication, scale: Scale, choices: Mapping[str, Choice] | None = None) -> dict[str, int]:
    """The seeds that claims may ever ask for, as `expand` takes them: those of the last look in every arm."""
    last = max((claim.looks[scale][-1] for claim in rep.claims if scale in (claim.looks or {})), default=0)
    if not last:
        return {}
    arms = {arm_key(parameters) for _, parameters, _ in expand(rep, scale, dict(choices or {}))}
    return dict.fromkeys(arms, last + TUNING_SEEDS)


@dataclass
class RunIndex:
    """The planned runs of a replication at a scale, found by selectors."""

    rep: Replication
    scale: Scale
    runs: list[ArmRun]
    grids: set[str]

    @classmethod
    def of(
        cls, rep: Replication, scale: Scale, choices: Mapping[str, Choice] | None = None, seeds: Seeds | None = None
    ) -> RunIndex:
        planned = expand(rep, scale, dict(choices or {}), seeds=seeds)
        runs = [ArmRun(spec.run_id, spec, parameters) for spec, parameters, _ in planned]
        return cls(rep, scale, runs, set(grids_at(rep, scale)))

    def arm(self, selector: Selector, where: str, along: str | None = None, values: list[Scalar] | None = None) -> Arm:
        """The runs of a selector: one for each seed (and value of a free axis). Raises InputError.

        Args:
            along: the axis of a slope or an optimum.
            values: those of its values that count; None takes all.
        """
        axes = ((along,) if along else ()) + tuple(key for key, value in selector.items() if value == BEST)
        fixed = {key: value for key, value in selector.items() if value != BEST}
        shown = ", ".join(f"{key}={value}" for key, value in selector.items())
        found = self._select(fixed, f"{where}: arm {shown}")
        for axis in axes:
            found = [run for run in found if axis in run.parameters]
            if not found:
                raise InputError(f"{where}: arm {shown}: no run at {self.scale} scale has a parameter {axis}")
        if values is not None:
            found = [run for run in found if run.parameters[along] in values]
        cells: dict[Key, dict[Seed, ArmRun]] = {}
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
        arm = Arm(selector, cells, axes)
        if not cells or not arm.seeds():
            raise InputError(f"{where}: arm {shown}: its runs share no seed at {self.scale} scale")
        return arm

    def _select(self, fixed: Selector, where: str) -> list[ArmRun]:
        grid = fixed.get("grid")
        elsewhere = set(self.rep.grids).union(*(override.add for override in self.rep.scales.values()))
        if grid is not None and grid not in self.grids and grid in elsewhere:
            raise AbsentGrid(f"{where}: there is no grid {grid} at {self.scale} scale")
        found = self.runs
        for key in sorted(fixed, key=lambda key: key != "grid"):
            before = found
            found = [run for run in before if matches(run.parameters, {key: fixed[key]})]
            if not found:
                has = dict.fromkeys(repr(run.parameters[key]) for run in before if key in run.parameters)
                what = f"{key} is one of {', '.join(has)}" if has else f"there is no parameter {key}"
                raise InputError(f"{where}: no run at {self.scale} scale; {what}")
        return found

    def terms(self, test: Test, over: Selector, where: str) -> list[ArmTerm]:
        """A test as weighted terms, with the parameters `over` replaced in every arm. Raises InputError."""
        if test.terms:
            parts = [(term.arm, term.weight, term.metric or test.metric) for term in test.terms]
        else:
            parts = [(test.arm, 1.0, test.metric)]
            if test.minus is not None:
                parts.append((test.minus, -1.0, test.metric))
        along = test.along, test.optimum_among
        terms = [ArmTerm(self.arm(arm | over, where, *along), weight, metric) for arm, weight, metric in parts]
        if not common_seeds(terms):
            raise InputError(f"{where}: its arms share no seed at {self.scale} scale")
        if test.along:
            for term in terms:
                abscissae(term.arm, test, where)
        return terms

    def where(self, claim: Claim, test: Test | None = None, variant: Variant | None = None) -> str:
        """Where an error is: file, claim, variant and test."""
        words = [f"replications/{self.rep.name}/replication.yaml: claim {claim.id}"]
        words += [f"also {variant.label!r}"] if variant else []
        words += [f"test {test.name!r}"] if test and test.name else []
        return ": ".join(words)


def abscissae(arm: Arm, test: Test, where: str) -> list[float]:
    """Numeric values of the axis of a slope or an optimum, on its scale: labels or, for text, what the spec has there.

    Raises:
        InputError: a value that is no number or has no logarithm, or too few different ones (2, of an optimum 3).
    """
    axis, fewest = ("slope_over", 2) if test.slope_over else ("optimum_over", 3)
    where = f"{where}: {axis} {test.along}"
    values = []
    for (label, *_), keys in arm.groups(along=True).items():
        value: Any = label
        spec = next(iter(arm.cells[keys[0]].values())).spec
        if test.in_terms_of:
            numbers = {f"regime.{name}": number for name, number in regime_of(spec).numbers().items()}
            if test.in_terms_of not in numbers:
                raise InputError(f"{where}: in_terms_of {test.in_terms_of}: expected one of {', '.join(numbers)}")
            value = numbers[test.in_terms_of]
        elif isinstance(label, str | bool):
            value = spec.model_dump(mode="json")
            for key in path_of_axis(test.along):
                value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str | bool) or value is None:
            raise InputError(f"{where}: {label!r} is no number, nor is it in the spec")
        if test.slope_scale == "log10" and value <= 0:
            raise InputError(f"{where}: {value:g} has no log10; use slope_scale: linear")
        values.append(math.log10(value) if test.slope_scale == "log10" else float(value))
    if len(set(values)) < fewest:
        raise InputError(f"{where}: expected at least {('two', 'three')[fewest - 2]} different values")
    return values


def check_claims(rep: Replication, scale: Scale, choices: dict[str, Choice] | None = None) -> None:
    """Check, without results, that every claim that may be judged at `scale` finds its runs there.

    Each arm must have exactly one run for each seed. A variant may name a grid that this scale leaves out.

    Raises:
        InputError: naming file, claim, selector and the parameters in question.
    """
    index = RunIndex.of(rep, scale, choices)
    for claim in rep.claims:
        if scale not in claim.scales:
            continue
        for test in claim.tests:
            index.terms(test, {}, index.where(claim, test))
        for variant in claim.also:
            for test in variant.tests or claim.tests:
                try:
                    index.terms(test, variant.arm, index.where(claim, test, variant))
                except AbsentGrid:
                    continue
        for condition in claim.preconditions or []:
            for arm in (condition.arm, condition.minus):
                if arm is not None:
                    index.arm(arm, index.where(claim))
