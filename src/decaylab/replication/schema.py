"""replication.yaml: a question, its references, its runs at each scale, and its claims.

The top of the file has the source's own settings (the `paper` scale). Every other scale says only what it makes
smaller. docs/add-a-replication.md explains every key.
"""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Field, PositiveInt, field_validator, model_validator

from decaylab.replication.claims import Claim, Scalar
from decaylab.spec import RunSpec, Strict
from decaylab.spec.base import WebAddress
from decaylab.workspace import Scale

Parameters = dict[str, Scalar]
"""grid and axes of a run: what its claims select it by"""

ALIASES: dict[str, str] = {
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "decay.weight_decay",
    "train_examples": "data.train_examples",
    "width": "model.width",
    "layers": "model.layers",
}
"""short names of axes; any other path of the spec is its own name"""


class Reference(Strict):
    """A publication."""

    id: str
    """short name used in claims and in replications.md: E1, E2, T, I, N"""
    title: str
    authors: str = ""
    year: int | None = None
    url: WebAddress
    locator: str
    """figures, tables or sections that this replication is about"""


class GridStart(Strict):
    """Runs of this grid start from snapshots of another grid's runs: one run per parent and step."""

    grid: str
    where: dict[str, Scalar | list[Scalar]] = {}
    """only parents with these parameters"""
    at: list[Annotated[float, Field(gt=0, le=1)]]
    """fractions of the parent's steps; becomes the parameter `start_at`"""
    optimizer_state: bool = True


class GridFollow(Strict):
    """Runs of this grid follow runs of another grid: one run per followed run. See `spec.Follow`, whose other keys are
    set by `base` or axes."""

    grid: str
    where: dict[str, Scalar | list[Scalar]] = {}
    """only runs with these parameters"""


class Grid(Strict):
    """All combinations of the values of some axes, over one base."""

    label: str
    """what a reader calls it: 'PreActResNet18 on CIFAR-10'"""
    base: dict[str, Any] = {}
    axes: dict[str, list[Scalar] | dict[Scalar, Any]] = {}
    """axis: list of values, or label: value, or label: fragment of a spec"""
    only: list[dict[str, Scalar | list[Scalar]]] | None = None
    """keep combinations that match at least one of these"""
    start: GridStart | None = None
    follow: GridFollow | None = None
    priority: int = 0
    """`decaylab train --missing` begins with the lowest"""

    @model_validator(mode="after")
    def _check(self) -> Grid:
        if self.start and self.follow:
            raise ValueError("a grid has `start` or `follow`, not both")
        return self

    @property
    def parent(self) -> GridStart | GridFollow | None:
        """The grid whose runs these start from or follow, and whose settings and parameters they inherit."""
        return self.start or self.follow

    @field_validator("axes")
    @classmethod
    def _axes(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"axis {name} has no values")
            plain = values if isinstance(values, list) else [v for v in values.values() if not isinstance(v, dict)]
            if plain and not is_path(path_of_axis(name)):
                raise ValueError(
                    f"axis {name} has plain values, but is no path of the spec; expected a path such as model.depth, "
                    f"one of {', '.join(ALIASES)}, or `label: {{fragment of a spec}}`"
                )
        return axes


class GridOverride(Strict):
    """What a scale changes of a grid."""

    label: str | None = None
    base: dict[str, Any] = {}
    axes: dict[str, list[Scalar] | dict[Scalar, Any] | None] = {}
    """replaces the axis; null removes it. Labels with fragments of a spec are merged over those of the grid."""
    arms: dict[str, Any] = {}
    """path of the spec: a value, or `x 2.5` for a multiple, in every value of an axis that sets this path"""
    only: list[dict[str, Scalar | list[Scalar]]] | None = None
    start: dict[str, Any] = {}
    follow: dict[str, Any] = {}
    skip: bool = False
    """this grid does not exist at this scale"""

    @field_validator("arms")
    @classmethod
    def _arms(cls, arms: dict[str, Any]) -> dict[str, Any]:
        for name in arms:
            if not is_path(path_of_axis(name)):
                raise ValueError(f"{name}: expected a path of the spec such as decay.weight_decay")
        return arms


class ScaleOverride(Strict):
    note: str = ""
    """what was made smaller and how the settings were chosen, shown in the report"""
    base: dict[str, Any] = {}
    grids: dict[str, GridOverride] = {}
    add: dict[str, Grid] = {}
    """grids that exist only at this scale"""


class RegimeArm(Strict):
    """Runs whose regime (see decaylab.regime) is shown for the source and for every scale, side by side."""

    among: dict[str, Scalar]
    until: float = Field(default=1.0, gt=0, le=1)
    """fraction of the run up to which steps count"""


class Replication(Strict):
    name: str
    title: str
    question: str
    row: PositiveInt
    """its place in the list of replications"""
    theme: str = ""
    """heading under which the index lists what was found"""
    headline: bool = False
    """run by `make report` unless others are named"""
    references: list[Reference] = Field(min_length=1)
    base: dict[str, Any]
    grids: dict[str, Grid] = Field(min_length=1)
    scales: dict[Scale, ScaleOverride] = {}
    regimes: dict[str, RegimeArm] = {}
    """label: runs whose dimensionless numbers say how far a scale is from the source"""
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


def path_of_axis(name: str) -> tuple[str, ...]:
    """Keys of the spec that an axis of this name sets when its values are plain."""
    return tuple(ALIASES.get(name, name).split("."))


def is_path(path: tuple[str, ...], kind: Any = RunSpec) -> bool:
    """Whether a RunSpec may have this key. Below a free-form mapping every key is allowed."""
    if not path:
        return True
    if get_origin(kind) is dict or kind is Any:
        return True
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(path[0])
        return field is not None and is_path(path[1:], field.annotation)
    return any(is_path(path, part) for part in get_args(kind))
