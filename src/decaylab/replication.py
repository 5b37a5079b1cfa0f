"""replication.yaml: a question, its source, its runs at each scale, its claims; and the runs it expands to.

The top of the file has the source's own settings (the `paper` scale); every other scale says only what it
makes smaller. See docs/add-a-replication.md for a commented example of every key.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from decaylab.errors import InputError
from decaylab.files import sha256_json
from decaylab.sources import Choice
from decaylab.spec import RunSpec, Strict, explain, load_yaml, merge, parse_spec, set_path
from decaylab.workspace import Scale

Scalar = bool | int | float | str
Parameters = dict[str, Scalar]

# An axis named as one of these sets that key of the spec when its values are plain.
AXIS_PATHS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("optimizer", "learning_rate"),
    "weight_decay": ("decay", "weight_decay"),
    "precision": ("precision",),
    "seed": ("seed",),
    "train_examples": ("data", "train_examples"),
    "batch_size": ("batch_size",),
    "width": ("model", "width"),
    "layers": ("model", "layers"),
    "steps": ("steps",),
}


class Source(Strict):
    id: str
    """short name used in claims and in replications.md: E1, E2, T, I, N"""
    title: str
    url: str
    locator: str
    """figures, tables or sections that this replication is about"""


class Hyperparameters(Strict):
    """In the words of the Deep Learning Tuning Playbook: what is studied, what must be tuned for it, what is fixed."""

    scientific: list[str]
    nuisance: dict[str, str] = {}
    """name: how it was chosen, or its search range"""
    fixed: dict[str, str] = {}


class GridStart(Strict):
    """Runs of this grid start from snapshots of runs of another: one run for each parent and step."""

    grid: str
    where: dict[str, Scalar | list[Scalar]] = {}
    """only parents with these parameters"""
    at: list[Annotated[float, Field(gt=0, le=1)]]
    """fractions of the parent's steps; becomes the parameter `start_at`"""
    optimizer_state: bool = True


class Grid(Strict):
    """All combinations of the values of some axes, over one base."""

    label: str
    """what a reader calls it: 'PreActResNet18 on CIFAR-10'"""
    base: dict[str, Any] = {}
    axes: dict[str, list[Scalar] | dict[str, Any]] = {}
    """axis: list of values, or label: value, or label: fragment of a spec"""
    only: list[dict[str, Scalar | list[Scalar]]] | None = None
    """keep combinations that match at least one of these"""
    start: GridStart | None = None
    priority: int = 0
    """`decaylab train --missing` begins with the lowest"""

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"axis {name} has no values")
            plain = values if isinstance(values, list) else [v for v in values.values() if not isinstance(v, dict)]
            if plain and name not in AXIS_PATHS:
                raise ValueError(
                    f"axis {name} has plain values, which only {', '.join(AXIS_PATHS)} may have; "
                    "expected `label: {fragment of a spec}`"
                )
        return axes


class GridOverride(Strict):
    label: str | None = None
    base: dict[str, Any] = {}
    axes: dict[str, list[Scalar] | dict[str, Any] | None] = {}
    """replaces the axis; None removes it"""
    only: list[dict[str, Scalar | list[Scalar]]] | None = None
    start: dict[str, Any] = {}
    skip: bool = False
    """this grid does not exist at this scale"""


class ScaleOverride(Strict):
    note: str = ""
    """what was made smaller and how that was chosen, shown in the report"""
    base: dict[str, Any] = {}
    grids: dict[str, GridOverride] = {}
    add: dict[str, Grid] = {}
    """grids that exist only at this scale"""


class Metric(Strict):
    """A number read from one run.

    Without `at` and `over` it is the value at the end. A name with a dot, as `lost_updates.mlp`, is a column.
    A diverged run has the value of a guess (chance) for losses and errors.
    """

    name: str
    at: float | None = Field(default=None, ge=0, le=1)
    """fraction of the run: the last row at or before it"""
    over: tuple[float, float] | None = None
    """between these fractions of the run ..."""
    reduce: Literal["mean", "min", "max", "slope"] = "mean"
    """... take the mean, or the slope per whole run, and so on"""
    log: bool = False
    """natural logarithm of the value, so that differences are ratios"""

    @model_validator(mode="after")
    def _check(self) -> Metric:
        if self.at is not None and self.over is not None:
            raise ValueError("a metric has `at` or `over`, not both")
        if self.over and not 0 <= self.over[0] < self.over[1] <= 1:
            raise ValueError("`over` needs two fractions of the run in rising order")
        return self


def _metric(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Term(Strict):
    """weight x metric of one arm; `best` as a parameter's value means the best one of that axis for this arm."""

    arm: dict[str, Scalar]
    weight: float = 1.0
    metric: Metric | None = None
    """None takes the test's"""

    _shorthand = field_validator("metric", mode="before")(_metric)


class Test(Strict):
    """A contrast: one number for each seed, with an interval over seeds, held against a smallest effect.

    Exactly one form:
    `arm` and `minus`: the difference of two arms;
    `arm` alone: the arm's value, minus `reference` if given;
    `arm` and `slope_over`: the slope of the metric along an axis (over log10 of its values, or the values);
    `terms`: any weighted sum.
    """

    __test__ = False  # not a pytest class

    name: str | None = None
    metric: Metric
    arm: dict[str, Scalar] | None = None
    minus: dict[str, Scalar] | None = None
    terms: list[Term] | None = None
    reference: float = 0.0
    slope_over: str | None = None
    slope_scale: Literal["log10", "linear"] = "log10"
    kind: Literal["mean", "rate"] = "mean"
    """mean: Student's interval over seeds; rate: share of seeds (metric 0 or 1), Clopper-Pearson interval"""
    direction: Literal["above", "below", "within"]
    """within: equivalence, the whole interval between -smallest_effect and +smallest_effect"""
    smallest_effect: float = Field(ge=0)
    """in the metric's unit: smaller differences do not matter, whatever their sign"""
    best_by: Metric | None = None
    """what `best` minimises; None takes the metric itself"""

    _shorthand = field_validator("metric", "best_by", mode="before")(_metric)

    @model_validator(mode="after")
    def _check(self) -> Test:
        if (self.arm is None) == (self.terms is None):
            raise ValueError("a test has `arm` (with or without `minus`) or `terms`")
        if self.terms is not None and (self.minus is not None or self.slope_over):
            raise ValueError("a test with `terms` has no `minus` and no `slope_over`")
        if self.minus is not None and self.slope_over:
            raise ValueError("a slope has no `minus`")
        if self.kind == "rate" and (self.minus is not None or self.terms or self.slope_over):
            raise ValueError("a rate is of one arm")
        if self.kind == "rate" and self.reference:
            raise ValueError("a rate has no reference; its smallest effect is what it is held against")
        if self.direction == "within" and self.smallest_effect == 0:
            raise ValueError("an equivalence needs a smallest effect above 0")
        return self


class Variant(Strict):
    """The same claim judged elsewhere (another network, each arm at its best learning rate), shown beside it."""

    label: str
    arm: dict[str, Scalar] = {}
    """replaces these parameters in every arm of the test"""
    tests: list[Test] | None = None
    """or other tests altogether"""


class SourceValue(Strict):
    """What the source reports, in the estimate's unit, where it gives a number."""

    value: float | None = None
    text: str
    """the numbers as the source gives them, and how sure they are"""
    same_setting: list[Scale] = []
    """scales at which our setting is the source's, so that the difference of both numbers is shown"""


class Claim(Strict):
    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    statement: str
    locator: str
    unit: str
    """of the estimate: 'test error (fraction)', 'nats'"""
    source_value: SourceValue
    tests: list[Test] = Field(min_length=1)
    """all must hold for `reproduced`; the first gives the estimate that is shown"""
    also: list[Variant] = []
    scales: list[Scale] = Field(min_length=1)
    """where it may be judged; elsewhere the verdict is `not run`"""
    note: str = ""

    def sha256(self) -> str:
        """Digest of everything that decides the verdict; note, locator and source value may still be improved.

        As in a run's id, fields that are None are left out, so that digests outlive new features.
        """
        return sha256_json(self.model_dump(mode="json", exclude_none=True, exclude={"note", "source_value", "locator"}))


class Replication(Strict):
    name: str
    title: str
    question: str
    row: PositiveInt
    """its row in the list of replications"""
    headline: bool = False
    """run by `make report` without further words"""
    sources: list[Source] = Field(min_length=1)
    hyperparameters: Hyperparameters
    base: dict[str, Any]
    grids: dict[str, Grid]
    scales: dict[Scale, ScaleOverride] = {}
    claims: list[Claim]

    @model_validator(mode="after")
    def _check(self) -> Replication:
        ids = [claim.id for claim in self.claims]
        for claim_id in ids:
            if ids.count(claim_id) > 1:
                raise ValueError(f"claim {claim_id} stands twice")
        for scale, override in self.scales.items():
            for grid in override.grids:
                if grid not in self.grids:
                    raise ValueError(f"scales.{scale}.grids: there is no grid {grid!r}")
            for grid in override.add:
                if grid in self.grids:
                    raise ValueError(f"scales.{scale}.add: grid {grid!r} exists already; use grids")
        return self


@dataclass
class PlannedRun:
    """A run and why it is wanted: for each replication, the parameters under which its claims know it."""

    spec: RunSpec
    wanted: dict[str, list[Parameters]] = field(default_factory=dict)
    """replication name: one or more sets of parameters (grid, axes)"""
    priority: int = 0

    @property
    def run_id(self) -> str:
        return self.spec.run_id


def list_replications(root: Path) -> list[str]:
    """Names of all replications, in the order of their rows."""
    files = (root / "replications").glob("*/replication.yaml")
    return [rep.name for rep in sorted(map(load_replication, files), key=lambda rep: rep.row)]


def replication_file(root: Path, name: str) -> Path:
    return root / "replications" / name / "replication.yaml"


def select(root: Path, names: list[str] | str) -> list[Replication]:
    """Replications by name; `all` and `headline` stand for many. Raises InputError for unknown names."""
    wanted = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    known = [load_replication(replication_file(root, name)) for name in list_replications(root)]
    for name in wanted:
        if name not in ("all", "headline") and name not in [rep.name for rep in known]:
            expected = ", ".join(["all", "headline", *(rep.name for rep in known)])
            raise InputError(f"replication {name!r}: unknown; expected one of {expected}")
    return [rep for rep in known if "all" in wanted or rep.name in wanted or ("headline" in wanted and rep.headline)]


def load_replication(path: Path) -> Replication:
    """Read and check one replication.yaml. Raises InputError naming file, line and key."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return _load(Path(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _load(path: Path, _modified: int, _size: int) -> Replication:
    value = load_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a mapping of keys")
    value = {"name": Path(path).parent.name} | value
    if value["name"] != Path(path).parent.name:
        raise InputError(f"{path}: name: expected {Path(path).parent.name!r}, as the folder, got {value['name']!r}")
    try:
        return Replication.model_validate(value)
    except ValidationError as error:
        raise InputError(explain(error, f"{path}:{line_of(path, error.errors()[0]['loc'])}")) from None


def line_of(path: Path, location: tuple[str | int, ...]) -> int:
    """Line (from 1) of the deepest part of a location that stands in a YAML file."""
    node = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def claim_lines(path: Path) -> dict[str, int]:
    """claim id: its line in the file, for links from a page to the text that was judged."""
    claims = load_yaml(path).get("claims", [])
    return {claim["id"]: line_of(path, ("claims", index)) for index, claim in enumerate(claims)}


def grids_at(rep: Replication, scale: Scale) -> dict[str, Grid]:
    """The replication's grids at a scale, with all overrides merged in. Raises InputError naming scale and grid."""
    override = rep.scales.get(scale, ScaleOverride())
    grids = {}
    for name, grid in rep.grids.items():
        over = override.grids.get(name, GridOverride())
        if over.skip:
            continue
        axes = {key: over.axes.get(key, values) for key, values in grid.axes.items()}
        axes |= {key: values for key, values in over.axes.items() if key not in axes}
        start = merge(grid.start.model_dump() if grid.start else {}, over.start) or None
        # a grid that starts from another inherits its parent's settings instead of the common base
        common = [] if start else [rep.base, override.base]
        try:
            grids[name] = Grid(
                label=over.label or grid.label,
                base=merge({}, *common, grid.base, over.base),
                axes={key: values for key, values in axes.items() if values is not None},
                only=grid.only if over.only is None else over.only,
                start=start,
                priority=grid.priority,
            )
        except ValidationError as error:
            where = f"replications/{rep.name}/replication.yaml: scales.{scale}.grids.{name}"
            raise InputError(explain(error, where)) from None
    for name, grid in override.add.items():
        common = [] if grid.start else [rep.base, override.base]
        grids[name] = grid.model_copy(update={"base": merge({}, *common, grid.base)})
    return grids


def expand(
    rep: Replication,
    scale: Scale,
    choices: dict[str, Choice] | None = None,
    where: str | None = None,
) -> list[tuple[RunSpec, Parameters, int]]:
    """All runs of a replication at a scale, as (spec, parameters, priority), parents before children.

    `choices` maps `images` and `text` to a source that replaces the replication's own.
    Snapshots that children start from are added to their parents.

    Raises:
        InputError: a resolved spec is impossible; the line names the grid and its parameters.
    """
    where = where or f"replications/{rep.name}/replication.yaml"
    grids = grids_at(rep, scale)
    done: dict[str, list[tuple[dict[str, Any], Parameters, RunSpec]]] = {}
    wanted_steps: dict[str, set[int]] = {}
    waiting = dict(grids)
    while waiting:
        ready = [name for name, grid in waiting.items() if grid.start is None or grid.start.grid not in waiting]
        if not ready:
            raise InputError(f"{where}: grids {', '.join(waiting)}: each starts from another; one must start fresh")
        for name in ready:
            grid = waiting.pop(name)
            done[name] = []
            for fragment, parameters in _combinations(name, grid, done, grids, where):
                label = ", ".join(f"{key}={value}" for key, value in parameters.items())
                spec = parse_spec(_with_choice(fragment, choices or {}), f"{where}: {scale}: {label}")
                if spec.start:
                    wanted_steps.setdefault(spec.start.run.run_id, set()).add(spec.start.step)
                done[name].append((fragment, parameters, spec))
    runs = []
    for name in grids:
        for _, parameters, spec in done[name]:
            spec = with_snapshots(spec, wanted_steps.get(spec.run_id, ()))
            runs.append((spec, parameters, grids[name].priority))
    return sorted(runs, key=lambda run: run[0].depth)


def with_snapshots(spec: RunSpec, steps: Iterable[int]) -> RunSpec:
    """The same run, which saves its state after these steps as well."""
    steps = tuple(sorted({*spec.snapshots, *steps}))
    return spec if steps == spec.snapshots else spec.model_copy(update={"snapshots": steps})


def _combinations(name, grid, done, grids, where):
    """Yield (fragment, parameters) for each combination of a grid's axes and, if it has them, its parents."""
    names = list(grid.axes)
    choices = [
        list(values.items()) if isinstance(values, dict) else [(value, value) for value in values]
        for values in grid.axes.values()
    ]
    if grid.start is None:
        parents: list[tuple[dict[str, Any], Parameters]] = [({}, {})]
    else:
        if grid.start.grid not in grids:
            raise InputError(f"{where}: grids.{name}.start.grid: there is no grid {grid.start.grid!r} at this scale")
        parents = []
        for fragment, parameters, spec in done[grid.start.grid]:
            if not matches(parameters, grid.start.where):
                continue
            for at in grid.start.at:
                start = {
                    "run": spec.model_dump(mode="json"),
                    "step": max(1, round(at * spec.steps)),
                    "optimizer_state": grid.start.optimizer_state,
                }
                kept = {key: item for key, item in fragment.items() if key != "start"}
                parents.append((kept | {"start": start}, parameters | {"start_at": at}))
        if not parents:
            raise InputError(f"{where}: grids.{name}.start.where: no run of grid {grid.start.grid!r} matches")
    for parent_fragment, parent_parameters in parents:
        for combination in itertools.product(*choices):
            fragment = merge(parent_fragment, grid.base)
            parameters: Parameters = parent_parameters | {"grid": name}
            for axis, (label, value) in zip(names, combination, strict=True):
                parameters = parameters | {axis: label}
                if isinstance(value, dict):
                    fragment = merge(fragment, value)
                else:
                    fragment = set_path(fragment, AXIS_PATHS[axis], value)
            if grid.only is None or any(matches(parameters, keep) for keep in grid.only):
                yield fragment, parameters


def matches(parameters: Parameters, where: dict[str, Any]) -> bool:
    """True if every key of `where` is a parameter with that value (or one of those values)."""
    return all(
        key in parameters and (parameters[key] in value if isinstance(value, list) else parameters[key] == value)
        for key, value in where.items()
    )


def _with_choice(fragment: dict[str, Any], choices: dict[str, Choice]) -> dict[str, Any]:
    """Replace the data source by the user's choice, in the run and in the run it starts from."""
    choice = choices.get(fragment.get("data", {}).get("kind"))
    if choice is None:
        return fragment
    # merge() keeps the old digest when the new source has none, so set it outright
    return fragment | {"data": fragment["data"] | choice.fields()}


def plan_runs(reps: list[Replication], scale: Scale, choices: dict[str, Choice] | None = None) -> dict[str, PlannedRun]:
    """All runs of several replications by run id, parents before children; equal specs appear once."""
    runs: dict[str, PlannedRun] = {}
    for rep in reps:
        for spec, parameters, priority in expand(rep, scale, choices):
            run = runs.setdefault(spec.run_id, PlannedRun(spec, {}, priority))
            run.spec = with_snapshots(run.spec, spec.snapshots)
            run.priority = min(run.priority, priority)
            run.wanted.setdefault(rep.name, []).append(parameters)
    return dict(sorted(runs.items(), key=lambda item: item[1].spec.depth))
