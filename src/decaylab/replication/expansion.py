"""From a replication to its runs: axes, scales and the user's data, down to RunSpecs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from decaylab.errors import InputError
from decaylab.replication.schema import Grid, GridOverride, Parameters, Replication, ScaleOverride, path_of_axis
from decaylab.sources import Choice
from decaylab.spec import RunSpec, parse_spec
from decaylab.workspace import Scale
from decaylab.yaml_files import explain, merge, set_path


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


def grids_at(rep: Replication, scale: Scale) -> dict[str, Grid]:
    """The replication's grids at a scale, with all overrides merged in. Raises InputError naming scale and grid."""
    override = rep.scales.get(scale, ScaleOverride())
    grids = {}
    for name, grid in rep.grids.items():
        over = override.grids.get(name, GridOverride())
        if over.skip:
            continue
        where = f"replications/{rep.name}/replication.yaml: scales.{scale}.grids.{name}"
        axes = _axes_at(grid, over, where)
        start = merge(grid.start.model_dump() if grid.start else {}, over.start) or None
        follow = merge(grid.follow.model_dump() if grid.follow else {}, over.follow) or None
        # a grid that starts from or follows another inherits its settings instead of the common base
        common = [] if start or follow else [rep.base, override.base]
        try:
            grids[name] = Grid(
                label=over.label or grid.label,
                base=merge({}, *common, grid.base, over.base),
                axes={key: values for key, values in axes.items() if values is not None},
                only=grid.only if over.only is None else over.only,
                start=start,
                follow=follow,
                priority=grid.priority,
            )
        except ValidationError as error:
            raise InputError(explain(error, where)) from None
    for name, grid in override.add.items():
        common = [] if grid.parent else [rep.base, override.base]
        grids[name] = grid.model_copy(update={"base": merge({}, *common, grid.base)})
    return grids


def _axes_at(grid: Grid, over: GridOverride, where: str) -> dict[str, Any]:
    """A grid's axes with those of the override; None where it removes one."""
    axes = dict(grid.axes)
    for name, value in over.arms.items():
        path, here = path_of_axis(name), f"{where}.arms.{name}"
        changed = {axis: _with_value(axis, values, path, value, here) for axis, values in axes.items()}
        if changed == axes:
            raise InputError(f"{here}: no axis of the grid sets it")
        if name in over.axes:
            raise InputError(f"{here}: axes.{name} would replace what it changes; expected one of the two")
        axes = changed
    for axis, values in over.axes.items():
        fragments = isinstance(values, dict) and all(isinstance(value, dict | None) for value in values.values())
        if fragments and isinstance(axes.get(axis), dict):
            values = {label: value for label, value in merge(axes[axis], values).items() if value is not None}
        axes[axis] = values
    return axes


def _with_value(axis: str, values: Any, path: tuple[str, ...], value: Any, where: str) -> Any:
    """The values of an axis, with `value` at `path` wherever they set it. Labels stay: claims select by them."""
    labelled = values if isinstance(values, dict) else {item: item for item in values}
    if path_of_axis(axis) == path and not any(isinstance(item, dict) for item in labelled.values()):
        return {label: _scaled(item, value, where) for label, item in labelled.items()}
    changed = {}
    for label, item in labelled.items():
        found: Any = item
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        changed[label] = item if found is None else set_path(item, path, _scaled(found, value, where))
    return changed if changed != labelled else values


def _scaled(old: Any, value: Any, where: str) -> Any:
    """`x 2.5` multiplies, anything else replaces."""
    if not (isinstance(value, str) and value.startswith("x ")):
        return value
    try:
        factor = float(value[2:])
        # twelve digits, so that 0.1 x 3 is 0.3
        return type(old)(float(f"{old * factor:.12g}"))
    except (TypeError, ValueError):
        raise InputError(f"{where}: expected a value or `x 2.5`, and a number in the arms, got {value!r}") from None


def expand(
    rep: Replication,
    scale: Scale,
    choices: dict[str, Choice] | None = None,
    where: str | None = None,
    seeds: Mapping[str, int] | None = None,
) -> list[tuple[RunSpec, Parameters, int]]:
    """All runs of a replication at a scale, as (spec, parameters, priority), parents before children.

    `choices` maps `images` and `text` to a source that replaces the replication's own. A run that goes on from another
    with other data than that one's keeps them.
    Snapshots that children start from are added to their parents. `seeds` maps arms (see `arm_key`) to the number of
    seeds they have by now: those beyond the grid's own seeds continue its list, in planned order.

    Raises:
        InputError: a resolved spec is impossible; the line names the grid and its parameters.
    """
    where = where or f"replications/{rep.name}/replication.yaml"
    grids = grids_at(rep, scale)
    done: dict[str, list[tuple[dict[str, Any], Parameters, RunSpec]]] = {}
    wanted_steps: dict[str, set[int]] = {}
    waiting = dict(grids)
    while waiting:
        ready = [name for name, grid in waiting.items() if grid.parent is None or grid.parent.grid not in waiting]
        if not ready:
            raise InputError(
                f"{where}: grids {', '.join(waiting)}: each starts from another or follows it; one must stand alone"
            )
        for name in ready:
            grid = waiting.pop(name)
            done[name] = []
            for fragment, parameters, before in _combinations(name, grid, done, grids, where, seeds or {}):
                label = ", ".join(f"{key}={value}" for key, value in parameters.items())
                spec = parse_spec(_with_choice(fragment, choices or {}, before), f"{where}: {scale}: {label}")
                if spec.start:
                    # also for a child that is not planned yet: its parent would be trained again for the snapshot
                    wanted_steps.setdefault(spec.start.run.run_id, set()).add(spec.start.step)
                if _is_planned(parameters, grids, seeds or {}):
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


def arm_key(parameters: Parameters) -> str:
    """Name of an arm in the record of added seeds: its parameters without the seed, as canonical JSON."""
    rest = {key: value for key, value in parameters.items() if key != "seed"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"))


def planned_seeds(grid: Grid, count: int) -> list[int]:
    """The first `count` seeds of a grid in planned order, but at least its own: these, then the next integers."""
    own = list(grid.axes.get("seed", []))
    return own + [max(own) + 1 + i for i in range(count - len(own))] if own else own


def seeded(grid: Grid, grids: Mapping[str, Grid]) -> Grid:
    """The grid whose axes have the seeds: itself, or the one that its runs come from."""
    while grid.parent is not None:
        grid = grids[grid.parent.grid]
    return grid


def _is_planned(parameters: Parameters, grids: Mapping[str, Grid], seeds: Mapping[str, int]) -> bool:
    grid = seeded(grids[parameters["grid"]], grids)
    return "seed" not in parameters or parameters["seed"] in planned_seeds(grid, seeds.get(arm_key(parameters), 0))


def _combinations(name, grid, done, grids, where, seeds):
    """Yield (fragment, parameters, source) for each combination of a grid's axes and, if it has them, its parents.

    `source` is that of the parent's own data, whatever the user chose; None without a parent.
    """
    most = max((count for key, count in seeds.items() if json.loads(key)["grid"] == name), default=0)
    axes = grid.axes | ({"seed": planned_seeds(grid, most)} if "seed" in grid.axes else {})
    names = list(axes)
    choices = [
        list(values.items()) if isinstance(values, dict) else [(value, value) for value in values]
        for values in axes.values()
    ]
    if grid.parent is None:
        parents: list[tuple[dict[str, Any], Parameters]] = [({}, {})]
    else:
        link = f"{where}: grids.{name}.{'start' if grid.start else 'follow'}"
        if grid.parent.grid not in grids:
            raise InputError(f"{link}.grid: there is no grid {grid.parent.grid!r} at this scale")
        parents = []
        for fragment, parameters, spec in done[grid.parent.grid]:
            if matches(parameters, grid.parent.where):
                parents += _children(grid, fragment, parameters, spec)
        if not parents:
            raise InputError(f"{link}.where: no run of grid {grid.parent.grid!r} matches")
    for parent_fragment, parent_parameters in parents:
        for combination in itertools.product(*choices):
            fragment = merge(parent_fragment, grid.base)
            parameters: Parameters = parent_parameters | {"grid": name}
            for axis, (label, value) in zip(names, combination, strict=True):
                parameters = parameters | {axis: label}
                if isinstance(value, dict):
                    fragment = merge(fragment, value)
                else:
                    fragment = set_path(fragment, path_of_axis(axis), value)
            if grid.only is None or any(matches(parameters, keep) for keep in _only(grid, parameters, seeds)):
                yield fragment, parameters, parent_fragment.get("data", {}).get("source")


def _children(
    grid: Grid, fragment: dict[str, Any], parameters: Parameters, spec: RunSpec
) -> list[tuple[dict[str, Any], Parameters]]:
    """What runs of a grid inherit from one run of the grid that they start from or follow."""
    run = spec.model_dump(mode="json")
    kept = {key: item for key, item in fragment.items() if key not in ("start", "follow")}
    if grid.start is None:
        return [(kept | {"follow": {"run": run}}, parameters)]
    children = []
    for at in grid.start.at:
        step = max(1, round(at * spec.steps))
        start = {"run": run, "step": step, "optimizer_state": grid.start.optimizer_state}
        children.append((kept | {"start": start}, parameters | {"start_at": at}))
    return children


def _only(grid: Grid, parameters: Parameters, seeds: Mapping[str, int]) -> list[dict[str, Any]]:
    """The grid's `only`; for an arm with added seeds without what it says of seeds, which is for the first look."""
    if arm_key(parameters) not in seeds:
        return grid.only or []
    return [{key: value for key, value in keep.items() if key != "seed"} for keep in grid.only or []]


def matches(parameters: Parameters, where: dict[str, Any]) -> bool:
    """True if every key of `where` is a parameter with that value (or one of those values)."""
    return all(
        key in parameters and (parameters[key] in value if isinstance(value, list) else parameters[key] == value)
        for key, value in where.items()
    )


def _with_choice(fragment: dict[str, Any], choices: dict[str, Choice], before: str | None) -> dict[str, Any]:
    """Replace the data source by the user's choice.

    A run that goes on from another takes that one's source, unless its own differs from `before`, the parent's own.
    """
    data = fragment.get("data", {})
    choice = choices.get(data.get("kind"))
    if choice is None:
        return fragment
    # merge() keeps the old digest when the new source has none, so set it outright
    chosen = choice.fields()
    if "start" in fragment:
        if data.get("source") != before:
            return fragment
        parent = fragment["start"]["run"]["data"]
        chosen = {name: parent.get(name) for name in chosen}
    return fragment | {"data": data | chosen}


def plan_runs(
    reps: list[Replication],
    scale: Scale,
    choices: dict[str, Choice] | None = None,
    seeds: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, PlannedRun]:
    """All runs of several replications by run id, parents before children; equal specs appear once.

    `seeds` has the added seeds of each replication by its name, as for `expand`.
    """
    return merge_runs({rep.name: expand(rep, scale, choices, seeds=(seeds or {}).get(rep.name)) for rep in reps})


def merge_runs(expanded: Mapping[str, Iterable[tuple[RunSpec, Parameters, int]]]) -> dict[str, PlannedRun]:
    """Runs of several replications, by the replication's name, as one plan; equal specs appear once."""
    runs: dict[str, PlannedRun] = {}
    for name, items in expanded.items():
        for spec, parameters, priority in items:
            run = runs.setdefault(spec.run_id, PlannedRun(spec, {}, priority))
            run.spec = with_snapshots(run.spec, spec.snapshots)
            run.priority = min(run.priority, priority)
            run.wanted.setdefault(name, []).append(parameters)
    return dict(sorted(runs.items(), key=lambda item: item[1].spec.depth))
