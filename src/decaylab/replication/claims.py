"""Claims: a statement, what the source says about it, and the tests that decide it.

replication.yaml writes claims in a short form, which `short_form` expands to what stands here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from decaylab.files import sha256_json
from decaylab.spec import Strict
from decaylab.workspace import Scale

Scalar = bool | int | float | str
Selection = dict[str, Scalar]
"""parameters that select an arm; the value `best` stands for the best value of that axis for this arm"""


class Metric(Strict):
    """A number read from one run.

    Without `at` and `over` it is the value at the end of the run. A name with a dot, such as `lost_updates.mlp`, is a
    column of one parameter group. Losses and errors of a diverged run are at chance level.
    """

    name: str
    at: float | None = Field(default=None, ge=0, le=1)
    """fraction of the run: the last recorded row at or before it"""
    over: tuple[float, float] | None = None
    """between these fractions of the run ..."""
    reduce: Literal["mean", "min", "max", "slope"] = "mean"
    """... the mean, minimum or maximum, or the slope per whole run"""
    log: bool = False
    """natural logarithm of the value, so that differences are ratios"""
    below: float | None = None
    """1 if the value is below this, else 0: for the proportion of runs that fit, say"""
    when: tuple[str, float] | None = None
    """where this other column first falls to this value, by linear interpolation between rows that have both"""

    @model_validator(mode="after")
    def _check(self) -> Metric:
        if (self.at is not None) + (self.over is not None) + (self.when is not None) > 1:
            raise ValueError("a metric has one of `at`, `over` and `when`")
        if self.over and not 0 <= self.over[0] < self.over[1] <= 1:
            raise ValueError("`over` needs two fractions of the run in ascending order")
        return self


def _metric(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Term(Strict):
    """weight x metric of one arm."""

    arm: Selection
    weight: float = 1.0
    metric: Metric | None = None
    """None takes the test's"""

    _shorthand = field_validator("metric", mode="before")(_metric)


class Test(Strict):
    """A contrast: one number per seed, its interval over seeds, and the smallest effect that it must exceed.

    Exactly one form:
    `arm` and `minus`: the seed-paired difference of two arms;
    `arm` alone: the arm's value, minus `reference` if given;
    `arm` and `slope_over`: the slope of the metric along an axis (over log10 of its values, or the values);
    with `optimum_over`, each arm counts by the value of an axis at which its metric is lowest, on the same scale;
    `terms`: any weighted sum.
    """

    __test__ = False  # not a pytest class

    name: str | None = None
    metric: Metric
    arm: Selection | None = None
    minus: Selection | None = None
    terms: list[Term] | None = None
    reference: float = 0.0
    slope_over: str | None = None
    optimum_over: str | None = None
    """where along this axis the metric is lowest, by a fit: `analysis.optimum`"""
    optimum_among: list[Scalar] | None = None
    """the values of that axis that count; None takes all"""
    in_terms_of: str | None = None
    """a number of `decaylab.regime` that takes the place of the axis's values, such as `regime.decay_exponent`"""
    slope_scale: Literal["log10", "linear"] = "log10"
    kind: Literal["mean", "proportion"] = "mean"
    """mean: Student's interval over seeds; proportion: share of seeds (metric 0 or 1), Clopper-Pearson interval"""
    direction: Literal["above", "below", "within"]
    """within: equivalence, the whole interval between -smallest_effect and +smallest_effect"""
    smallest_effect: float = Field(ge=0)
    """in the metric's unit: smaller differences do not matter, whatever their sign"""
    best_by: Metric | None = None
    """what `best` minimises; None takes the metric itself"""
    best_among: dict[str, list[Scalar]] | None = None
    """axis: the values that `best` may choose; None allows all"""

    _shorthand = field_validator("metric", "best_by", mode="before")(_metric)

    @model_validator(mode="after")
    def _check(self) -> Test:
        if (self.arm is None) == (self.terms is None):
            raise ValueError("a test selects an arm (with or without a contrast) or has `terms`")
        if self.terms is not None and (self.minus is not None or self.slope_over):
            raise ValueError("a test with `terms` has no contrast and no `slope_over`")
        if self.minus is not None and self.slope_over:
            raise ValueError("a slope has no contrast")
        if self.slope_over and self.optimum_over:
            raise ValueError("a test has `slope_over` or `optimum_over`, not both")
        if self.kind == "proportion" and (self.minus is not None or self.terms or self.along):
            raise ValueError("a proportion is of one arm")
        if self.kind == "proportion" and self.reference:
            raise ValueError("a proportion has no reference; it is compared with the smallest effect")
        if self.direction == "within" and self.smallest_effect == 0:
            raise ValueError("an equivalence test needs a smallest effect above 0")
        return self

    @property
    def along(self) -> str | None:
        """The axis along which a slope or an optimum is taken."""
        return self.slope_over or self.optimum_over


class Precondition(Strict):
    """What must hold for a claim to be testable, whichever way the claim itself comes out.

    It is read as a mean over the judged seeds, of one arm or of the seed-paired difference of two. A metric
    `regime.<name>` is a number of `decaylab.regime`, computed from the specs of the arm's runs up to `at`; all others
    are read from the runs.
    """

    name: str
    """a phrase that completes 'not testable here: ...', such as 'the arm without decay does not fit'"""
    metric: Metric
    arm: Selection
    minus: Selection | None = None
    direction: Literal["above", "below"]
    threshold: float

    _shorthand = field_validator("metric", mode="before")(_metric)

    @model_validator(mode="after")
    def _check(self) -> Precondition:
        if self.minus is not None and self.metric.name.startswith("regime."):
            raise ValueError("a regime is of one arm; expected no contrast")
        return self


class Variant(Strict):
    """The same claim judged elsewhere: another network, each arm at its best learning rate. Shown beside it."""

    label: str
    arm: Selection = {}
    """replaces these parameters in every arm of the tests"""
    tests: list[Test] | None = None
    """or tests of its own"""


class SourceValue(Strict):
    """What the source reports, in the estimate's unit where it gives a number."""

    value: float | None = None
    text: str
    """the numbers as the source gives them, and how certain they are"""
    same_setting: list[Scale] = ["paper"]
    """scales at which our setting and metric are the source's, so that the difference of both numbers is shown"""


class Claim(Strict):
    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    statement: str
    locator: str
    unit: str
    """of the estimate: 'test error (fraction)', 'nats'"""
    source_value: SourceValue
    tests: list[Test] = Field(min_length=1)
    """all must hold for `reproduced`"""
    also: list[Variant] = []
    scales: list[Scale] = Field(min_length=1)
    """where it may be judged; elsewhere the verdict is `not run`"""
    preconditions: list[Precondition] | None = None
    """what makes it testable, preregistered with it; where one fails the verdict is `not testable here`"""
    looks: dict[Scale, list[PositiveInt]] | None = None
    """numbers of seeds after which it is judged, at scales that add seeds; at all others it is judged once"""
    note: str = ""

    @field_validator("looks")
    @classmethod
    def _looks(cls, looks: dict[str, list[int]] | None) -> dict[str, list[int]] | None:
        for scale, numbers in (looks or {}).items():
            if not numbers or numbers != sorted(set(numbers)):
                raise ValueError(f"{scale}: expected increasing numbers of seeds, got {numbers}")
        return looks

    def sha256(self) -> str:
        """Digest of everything that decides the verdict. Note, locator and source value may still be improved.

        Fields that are None are left out, as in a run's id, so that digests outlive new features.
        """
        value = self.model_dump(mode="json", exclude_none=True, exclude={"note", "source_value", "locator"})
        for test in [*value["tests"], *(test for variant in value["also"] for test in variant.get("tests", []))]:
            if test["kind"] == "proportion":
                test["kind"] = "rate"  # its name when the first claims were preregistered
        return sha256_json(value)
