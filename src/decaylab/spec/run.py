"""RunSpec: everything that decides the numbers of one training, and nothing else.

Two runs with equal resolved specs are the same run and share one id. This package does no arithmetic of a training, so
an edit to it makes no run stale.

A field added later must default to None, which means "as before": fields that are None are left out of the id, so ids
(and the evidence filed under them) outlive new features.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from decaylab.errors import InputError
from decaylab.files import sha256_json
from decaylab.spec.base import Fraction, Positive, Strict, declared
from decaylab.spec.data import Data
from decaylab.spec.decay import Decay
from decaylab.spec.evaluation import Evaluation
from decaylab.spec.models import Model
from decaylab.yaml_files import explain, load_yaml


class SGD(Strict):
    name: Literal["sgd"] = "sgd"
    learning_rate: Positive
    momentum: Fraction = 0.0
    dampening: Fraction = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _check(self) -> SGD:
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise ValueError("nesterov needs momentum above 0, and dampening 0")
        return self


Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Strict):
    name: Literal["adamw"] = "adamw"
    learning_rate: Positive
    beta1: Beta = 0.9
    beta2: Beta = 0.95
    eps: Positive = 1e-8


Optimizer = Annotated[SGD | AdamW, Field(discriminator="name")]


class Drop(Strict):
    step: PositiveInt
    learning_rate: Positive


class Schedule(Strict):
    """Learning rate over steps: linear warm-up from 0, then the kind."""

    kind: Literal["constant", "cosine", "linear", "step"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final_fraction: Fraction = 0.0
    """cosine and linear: learning rate at the horizon, as a fraction of the peak"""
    horizon: PositiveInt | None = None
    """cosine and linear: the step at which the final fraction is reached; None is the end of the run"""
    drops: tuple[Drop, ...] = ()
    """step: from each of these steps on, this learning rate"""

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        if (self.kind == "step") != bool(self.drops):
            raise ValueError("drops are needed by the step schedule, and by no other")
        if list(self.drops) != sorted(self.drops, key=lambda drop: drop.step):
            raise ValueError("drops must be in order of their steps")
        return self


class NormControl(Strict):
    """Hold the norm of all trained weights at a radius, as one vector."""

    radius: Positive
    every: PositiveInt | None = None
    """updates between projections onto the sphere; None scales the initial weights, and never again"""


Precision = Literal["float32", "tf32", "bfloat16", "float16", "bfloat16_weights"]
"""float32; float32 weights with TF32 products; autocast over float32 weights; weights stored in bfloat16"""


Part = Literal["attention", "embedding", "linear", "logits", "norms", "optimizer", "residual"]
"""of a GPT: attention logits, softmax and the mixing of values; both embeddings; the linear layers of the blocks; the
output logits; layer norms; the optimizer's step (stored weights and moments); the stream that blocks add to"""
_AUTOCAST_PARTS: tuple[Part, ...] = ("attention", "linear", "logits")
"""parts that autocast computes in bfloat16"""


class Start(Strict):
    """Begin from a snapshot of another run instead of a fresh initialisation."""

    run: RunSpec
    step: PositiveInt
    optimizer_state: bool = True


class Follow(Strict):
    """Take step sizes from another run: each update is scaled so that it moves the weights as far, relative to their
    norm, as an update of the followed run moves its own."""

    run: RunSpec
    """has this run's network and at least its steps, and records `matrix_norms`"""
    match: Literal["effective_learning_rate", "norm"] = "effective_learning_rate"
    """scale updates until learning rate / norm (for SGD, norm squared) is that run's; or, after updates as they are,
    the weights until their norm is"""
    per: Literal["all", "group", "matrix"] = "matrix"
    """one factor for all weights, for each parameter group, or for each matrix (vectors then stay as they are)"""


class RunSpec(Strict):
    """One training of one model with one seed."""

    data: Data
    model: Model
    optimizer: Optimizer
    decay: Decay = Decay()
    schedule: Schedule = Schedule()
    steps: PositiveInt
    batch_size: PositiveInt
    """images, or windows of context_length tokens, in one step"""
    micro_batch_size: PositiveInt | None = None
    """examples held in memory at once; gradients are accumulated; None is the whole batch"""
    precision: Precision = "float32"
    float32_parts: tuple[Part, ...] | None = None
    """parts of the network that stay in float32 where `precision` is bfloat16 or bfloat16_weights"""
    rounding: Literal["nearest", "stochastic"] | None = None
    """of updated weights to bfloat16 where `precision` is bfloat16_weights; None is nearest"""
    gradient_clip: Positive | None = None
    """largest global gradient norm"""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """coefficient of the exponential moving average of the weights; None keeps no average"""
    norm_control: NormControl | None = None
    """None leaves the norm of the weights alone"""
    evaluation: Evaluation
    seed: int
    """initialisation, data order and dropout, unless the next two are given"""
    init_seed: int | None = None
    data_seed: int | None = None
    """data order and dropout"""
    start: Start | None = None
    follow: Follow | None = None
    snapshots: tuple[PositiveInt, ...] = ()
    """steps after which the state is saved for other runs; changes no number, so not part of the id"""

    @field_validator("float32_parts")
    @classmethod
    def _in_order(cls, parts: tuple[Part, ...] | None) -> tuple[Part, ...] | None:
        return tuple(sorted(set(parts or ()))) or None

    @field_validator("rounding")
    @classmethod
    def _without_default(cls, rounding: str | None) -> str | None:
        return None if rounding == "nearest" else rounding

    @property
    def casts_weights(self) -> bool:
        """Whether weights are kept in float32 memory, with values of bfloat16 where they are stored so."""
        return self.precision == "bfloat16_weights" and (self.float32_parts or self.rounding) is not None

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
        self._check_parts()
        if (self.model.kind == "gpt") != (self.data.kind == "text"):
            raise ValueError(f"model {self.model.kind} cannot be trained on {self.data.kind}")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        if self.schedule.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.schedule.warmup_steps} is more than steps {self.steps}")
        for drop in self.schedule.drops:
            if drop.step >= self.steps:
                raise ValueError(f"the learning rate drops at step {drop.step}, but the run has {self.steps}")
        for step in self.snapshots:
            if step > self.steps:
                raise ValueError(f"snapshot at step {step}, but the run has {self.steps}")
        for path, allowed in declared("optim/forms", self.decay.form, "REQUIRES").items():
            value = functools.reduce(getattr, path.split("."), self)
            if value not in allowed:
                expected = " or ".join(map(str, allowed))
                raise ValueError(f"{path}: decay form {self.decay.form} needs {expected}, got {value}")
        for probe in self.evaluation.requests:
            needed = declared("probes", probe.name, "NEEDS")
            if needed and needed != self.data.kind:
                raise ValueError(f"evaluation.probes: {probe.name} needs {needed}, but the run has {self.data.kind}")
        if self.start:
            if self.start.step > self.start.run.steps:
                raise ValueError(f"starts from step {self.start.step} of a run of {self.start.run.steps}")
            if self.start.run.model != self.model:
                raise ValueError("starts from a run of another model")
        if self.follow:
            self._check_follow(self.follow.run)
        return self

    def _check_parts(self) -> None:
        parts = self.float32_parts or ()
        if (parts or self.rounding) and self.model.kind != "gpt":
            raise ValueError(f"{'float32_parts' if parts else 'rounding'}: expected a gpt, got {self.model.kind}")
        if parts and self.precision not in ("bfloat16", "bfloat16_weights"):
            raise ValueError(f"float32_parts: precision {self.precision} has no parts in bfloat16")
        if self.precision == "bfloat16" and (wide := sorted(set(parts) - set(_AUTOCAST_PARTS))):
            raise ValueError(
                f"float32_parts: under autocast, {wide[0]} is in float32 anyway; "
                f"expected some of {', '.join(_AUTOCAST_PARTS)}"
            )
        if self.rounding and self.precision != "bfloat16_weights":
            raise ValueError(f"rounding: precision {self.precision} rounds no weights; expected bfloat16_weights")
        if self.rounding and "optimizer" in parts:
            raise ValueError("rounding: no weight is rounded while the optimizer's step is in float32")
        if self.casts_weights and (self.norm_control or self.start or self.follow):
            raise ValueError("float32_parts and rounding do not go with norm_control, start or follow")

    def _check_follow(self, run: RunSpec) -> None:
        if run.model != self.model or run.optimizer != self.optimizer or run.schedule != self.schedule:
            raise ValueError("follow: expected a run with the same model, optimizer and schedule")
        if self.steps > run.steps:
            raise ValueError(f"follow: the run has {self.steps} steps, the followed run only {run.steps}")
        if "matrix_norms" not in (request.name for request in run.evaluation.requests):
            raise ValueError("follow: the followed run needs the probe matrix_norms, which records its norms")
        if self.decay.weight_decay:
            raise ValueError("follow: expected weight_decay 0, since the followed norms already show that run's decay")

    def identity(self) -> dict[str, Any]:
        """The resolved spec without what changes no number: the content of the id."""
        value = self.model_dump(mode="json", exclude_none=True, exclude={"snapshots", "start", "follow"})
        if self.start:
            value["start"] = {
                "run": self.start.run.identity(),
                "step": self.start.step,
                "optimizer_state": self.start.optimizer_state,
            }
        if self.follow:
            value["follow"] = self.follow.model_dump(mode="json", exclude={"run"}) | {"run": self.follow.run.identity()}
        return value

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunSpec:
        """A copy with other fields, which knows nothing that was computed from the old ones."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("run_id", None)
        return copied

    @cached_property
    def run_id(self) -> str:
        """Readable prefix and hash, safe as a file name: `gpt-lr0.003-wd0.1-s0-0a1b2c3d4e`."""
        prefix = f"{self.model.kind}-lr{self.optimizer.learning_rate:g}-wd{self.decay.weight_decay:g}-s{self.seed}"
        return f"{re.sub(r'[^A-Za-z0-9.-]', '_', prefix)}-{sha256_json(self.identity())[:10]}"

    @property
    def parents(self) -> tuple[RunSpec, ...]:
        """Runs that must be finished before this one: that which it starts from, and that which it follows."""
        return tuple(link.run for link in (self.start, self.follow) if link)

    @property
    def depth(self) -> int:
        """Length of the longest chain of runs that must be finished before this one."""
        return max((1 + parent.depth for parent in self.parents), default=0)

    def arm_id(self) -> str:
        """Hash shared by runs that differ only in seed."""
        return sha256_json(_without_seed(self.identity()))[:10]


def _without_seed(value: dict[str, Any]) -> dict[str, Any]:
    rest = {key: item for key, item in value.items() if key not in ("seed", "init_seed", "data_seed")}
    for link in ("start", "follow"):
        if link in rest:
            rest[link] = rest[link] | {"run": _without_seed(rest[link]["run"])}
    return rest


def parse_spec(value: Any, where: str) -> RunSpec:
    """Validate a resolved spec. Raises InputError with one line that starts with `where`."""
    try:
        # strict JSON: no "100" for 100, no true for 1, but lists where tuples are meant
        return RunSpec.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise InputError(explain(error, where)) from None


def load_spec(path: Path) -> RunSpec:
    """Read a RunSpec from a YAML or JSON file. Raises InputError."""
    return parse_spec(load_yaml(path), str(path))


def dump_spec(spec: RunSpec) -> str:
    """The resolved spec as JSON text, complete enough for `decaylab train --spec`."""
    return json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=1)


Start.model_rebuild()
Follow.model_rebuild()
RunSpec.model_rebuild()
