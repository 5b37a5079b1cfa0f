"""Verdicts as types, and the one place that writes and reads them as JSON.

A claim has one or more tests. The claim's estimate, interval and n are those of the test that decides its verdict, so
that the numbers shown always support the word beside them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from decaylab.errors import InputError
from decaylab.files import Layout, read_json, write_json
from decaylab.replication import Scalar
from decaylab.workspace import Scale
from decaylab.yaml_files import explain

Verdict = Literal["reproduced", "contradicted", "negligible", "inconclusive", "not testable here", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
DECIDED: tuple[Verdict, ...] = ("reproduced", "contradicted", "negligible")
Interval = tuple[float, float]

RULE = 2
"""version of the rule that turns runs into verdicts"""
FALSE_PER_TEST = 0.05
"""largest probability that a test is decided wrongly: 2.5 % on each side, over all its looks"""
OLD_RULE = (
    "Judged under the earlier rule: one 95 % interval over a fixed number of seeds, decided from two seeds on, and "
    "`best` chosen by leaving out the seed that is judged."
)


class SeedValue(BaseModel):
    """One seed's contrast."""

    seed: Scalar
    value: float | None
    """None if a run has no such number"""
    runs: list[str]
    arms: list[float | None] = []
    """the number of each arm, in the order of the test's arms; empty in older files"""


class ChosenSetting(BaseModel):
    """The setting that `best` stands for in one arm."""

    arm: dict[str, Scalar]
    values: dict[str, Scalar]
    tuned_on: list[Scalar] = []
    """seeds that chose it and are not judged"""
    seed: Scalar | None = None
    """under the earlier rule: the seed for which it was chosen by all others"""


class LookResult(BaseModel):
    """A test after its first n seeds."""

    n: int
    estimate: float
    interval: Interval | None
    """of these seeds alone"""


class Outlook(BaseModel):
    """What more seeds would bring to an undecided test."""

    seeds: int | None = None
    """how many more would probably decide it; None if more cannot help"""
    minutes: float | None = None
    """time to train them, one run after another, on the hardware of the finished runs"""
    text: str


class TestResult(BaseModel):
    """The outcome of one test."""

    __test__ = False  # not a pytest class

    name: str
    verdict: Verdict = "not run"
    reason: str = ""
    estimate: float | None = None
    interval: Interval | None = None
    """intersection of the looks' intervals"""
    n: int = 0
    """seeds at the last look; before the first look, seeds so far"""
    direction: Literal["above", "below", "within"]
    smallest_effect: float
    kind: Literal["mean", "proportion"] = "mean"
    seeds: list[SeedValue] = []
    """those that were judged, in planned order"""
    chosen: list[ChosenSetting] = []
    looks: list[LookResult] = []
    decided_at: int | None = None
    """the first look with a decision"""
    p_values: dict[str, float] = {}
    """of each verdict that the test could have had"""
    detectable: float | None = None
    """smallest true effect that n seeds show at 80 % power with this noise"""
    outlook: Outlook | None = None
    """of an undecided test"""

    @field_validator("kind", mode="before")
    @classmethod
    def _old_kind(cls, kind: Any) -> Any:
        return "proportion" if kind == "rate" else kind


class PreconditionResult(BaseModel):
    """Whether a preregistered precondition holds in the judged runs."""

    name: str
    metric: str
    value: float | None
    """mean over the judged seeds, or the regime's number; None if it is not known yet"""
    difference: bool = False
    """whether the value is a difference of two arms"""
    direction: Literal["above", "below"]
    threshold: float

    @property
    def fails(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.threshold if self.direction == "above" else self.value >= self.threshold


class Judged(BaseModel):
    """The outcome of several tests that must all hold."""

    verdict: Verdict
    reason: str = ""
    parts: list[TestResult] = Field(min_length=1)
    preconditions: list[PreconditionResult] = []

    @property
    def deciding(self) -> TestResult:
        """The test that the verdict rests on: the first one with the claim's own verdict, else the first.

        That is the test that contradicts a contradicted claim, the open test of an inconclusive one, and the main
        test of a reproduced one.
        """
        return next((part for part in self.parts if part.verdict == self.verdict), self.parts[0])

    @property
    def test(self) -> str:
        """Name of the deciding test."""
        return self.deciding.name

    @property
    def estimate(self) -> float | None:
        return self.deciding.estimate

    @property
    def interval(self) -> Interval | None:
        return self.deciding.interval

    @property
    def n(self) -> int:
        return self.deciding.n

    @property
    def direction(self) -> str:
        return self.deciding.direction

    @property
    def smallest_effect(self) -> float:
        return self.deciding.smallest_effect

    @property
    def kind(self) -> str:
        return self.deciding.kind

    def to_json(self) -> dict[str, Any]:
        """Stored fields and, first, the deciding test's numbers."""
        deciding = self.deciding.model_dump(mode="json")
        names = ("estimate", "interval", "n", "direction", "smallest_effect", "kind", "looks", "detectable", "outlook")
        return {"test": self.test} | {name: deciding[name] for name in names} | self.model_dump(mode="json")


class VariantVerdict(Judged):
    """The same claim judged on another network or at other settings."""

    label: str
    same_question: bool | None = None
    """whether it only moves the claim's tests to other runs (see `questions`); None in older files"""

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "verdict": self.verdict, "reason": self.reason} | super().to_json()


class ReportedValue(BaseModel):
    """What the source reports for the claim's first test, in the unit of its estimate."""

    value: float | None = None
    text: str = ""


class ClaimVerdict(Judged):
    """One claim's verdict at one scale."""

    claim: str
    statement: str = ""
    unit: str = ""
    source_value: ReportedValue = ReportedValue()
    """without the number where another test than the first decides, since that is not what the source measured"""
    difference_from_source: float | None = None
    """ours minus the source's, where the setting is the source's own"""
    scale: Scale
    also: list[VariantVerdict] = []
    run_ids: list[str] = []
    """every run that was read, those of variants included"""
    seconds: float = 0.0
    commits: list[str] = []
    hardware: list[str] = []
    claim_sha256: str | None = None
    registered_at: str | None = None
    registered_before_runs: bool | None = None
    line: int | None = None
    """of the claim in replication.yaml"""
    planned_looks: list[int] = []
    """numbers of seeds after which the claim is judged; empty if it is judged once"""
    p_value: float | None = None
    """two-sided, of the claim with all its tests"""
    disagrees: list[str] = []
    """other networks or settings in which the same tests come out differently"""
    rule: int = 1
    """version of the rule it was judged under"""

    @property
    def tests_judged(self) -> int:
        """Tests that could have been decided wrongly."""
        return 0 if self.verdict in ("not run", "not testable here") else len(self.parts)

    @property
    def rule_note(self) -> str:
        """For readers, if the claim was judged under an earlier rule."""
        return OLD_RULE if self.rule < RULE and self.verdict != "not run" else ""

    @property
    def outlook(self) -> Outlook | None:
        """What more seeds would bring, if the claim is undecided."""
        return self.deciding.outlook if self.verdict == "inconclusive" else None

    @model_validator(mode="before")
    @classmethod
    def _old_files(cls, value: Any) -> Any:
        """Files from before tests were listed have the numbers of their only test at the top."""
        if isinstance(value, dict) and not value.get("parts"):
            names = ("verdict", "reason", "estimate", "interval", "n", "direction", "smallest_effect")
            part = {"name": value.get("claim", "")} | {name: value[name] for name in names if name in value}
            return value | {"parts": [part]}
        return value

    @model_validator(mode="after")
    def _source_of_the_first_test(self) -> Self:
        if self.deciding is not self.parts[0]:
            self.source_value = ReportedValue(text=self.source_value.text)
            self.difference_from_source = None
        return self

    def to_json(self) -> dict[str, Any]:
        first = {name: getattr(self, name) for name in ("claim", "statement", "verdict", "reason")}
        more = {"also": [variant.to_json() for variant in self.also], "rule_note": self.rule_note}
        return first | super().to_json() | more


class VerdictFile(BaseModel):
    """The verdicts of one replication at one scale."""

    replication: str
    scale: Scale
    commit: str | None = None
    """of the clone that judged; ends with `+dirty` if it had uncommitted changes"""
    claims: list[ClaimVerdict]

    @property
    def counts(self) -> dict[Verdict, int]:
        """Claims with each verdict."""
        found = Counter(claim.verdict for claim in self.claims)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def to_json(self) -> dict[str, Any]:
        return {
            "replication": self.replication,
            "scale": self.scale,
            "commit": self.commit,
            "claims": [claim.to_json() for claim in self.claims],
            "counts": self.counts,
            "false_verdicts_bound": FALSE_PER_TEST * sum(claim.tests_judged for claim in self.claims),
        }

    def write(self, layout: Layout) -> Path:
        """Write results/verdicts/<scale>/<replication>.json atomically; returns its path."""
        path = layout.verdicts(self.scale, self.replication)
        write_json(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: Path) -> VerdictFile | None:
        """A verdict file, or None if there is none. Raises InputError if it is damaged."""
        return cls.parse(read_json(path), str(path)) if path.exists() else None

    @classmethod
    def parse(cls, value: Any, where: str) -> VerdictFile:
        """Verdicts from JSON, as written by this or an earlier version. Raises InputError that begins with `where`."""
        if not isinstance(value, dict) or not isinstance(value.get("claims"), list):
            raise InputError(f"{where}: expected a JSON object with a list `claims`")
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(explain(error, where)) from None
