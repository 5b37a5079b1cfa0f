"""RunSpec: everything that decides the numbers of one training, and nothing else.

Two runs with equal resolved specs are the same run and share one id. No arithmetic of a training stands
here: a change to this file alone never changes a result, so it does not make runs stale.

A field added later must have the default None, meaning "as before": fields that are None are left out of
the id, so that ids (and the evidence filed under them) outlive new features.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from decaylab import plugins
from decaylab.errors import InputError
from decaylab.files import sha256_json
from decaylab.sources import source_of
from decaylab.yaml_files import explain, load_yaml

Group = Literal["embedding", "attention", "mlp", "convolution", "norm", "bias", "head"]
GROUPS: tuple[Group, ...] = ("embedding", "attention", "mlp", "convolution", "norm", "bias", "head")
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Unknown keys, wrong types, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageData(Strict):
    """Labelled images, held as uint8 tensors, normalised by the training set's channel mean and deviation."""

    kind: Literal["images"] = "images"
    source: str = "procedural"
    """a file of `data/sources` by its name, or the name of the user's archive or folder"""
    sha256: str | None = None
    """digest of the archive or folder, set when a path is given, so that the id follows the content"""
    image_size: PositiveInt = 16
    """height and width in pixels; other sizes are resized by area"""
    train_examples: PositiveInt | None = None
    """a fixed, class-balanced subset; None takes all (generated images need a number)"""
    test_examples: PositiveInt | None = None
    subset_seed: int = 0
    """chooses the subset, and the procedural world; never varies between seeds of one arm"""
    classes: PositiveInt = 10
    """generated images only; other sources know theirs"""
    clutter: NonNegative = 0.5
    """procedural only: strength of distracting shapes"""
    noise: NonNegative = 0.7
    """procedural only: standard deviation of pixel noise, in units of the signal's"""
    fresh: bool = False
    """generated images only: every training batch is new (one pass over endless data)"""
    augmentation: Literal["none", "flip_translate"] = "none"

    @model_validator(mode="after")
    def _check(self) -> ImageData:
        generated = source_of("images", self.source).generated
        if generated and (self.train_examples is None or self.test_examples is None):
            raise ValueError(f"{self.source} images need train_examples and test_examples (they have no end)")
        if self.fresh and not generated:
            raise ValueError(f"fresh is for generated images only, not {self.source}")
        return self


class TextData(Strict):
    """Tokens in a flat memory-mapped array, split by document into train, validation and test."""

    kind: Literal["text"] = "text"
    source: str = "stdlib"
    """a file of `data/sources` by its name, or the names of the user's archives, folders and files, joined by +"""
    sha256: str | None = None
    tokenizer: Literal["bytes", "gpt2"] = "bytes"
    train_tokens: PositiveInt | None = None
    """use only the first tokens of the training split; None uses all"""
    order: Literal["random_offsets", "one_pass"] = "random_offsets"
    """windows at random offsets with replacement, or consecutive windows without repetition"""


Data = Annotated[ImageData | TextData, Field(discriminator="kind")]


class MLP(Strict):
    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 256
    depth: PositiveInt = 2
    """number of hidden layers"""
    bias: bool = True


class VGG(Strict):
    """VGG for small images: stages of 3x3 convolutions, 2x2 max pooling after each, then a classifier."""

    kind: Literal["vgg"] = "vgg"
    width: PositiveInt = 64
    """channels of the first stage; doubled by each later stage up to eightfold"""
    stages: tuple[PositiveInt, ...] = (2, 2, 3, 3, 3)
    """convolutions in each stage; the default is VGG16"""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """fully connected layers before the last one"""
    batch_norm: bool = False
    bias: bool = True


class PreActResNet(Strict):
    kind: Literal["preact_resnet"] = "preact_resnet"
    width: PositiveInt = 64
    """channels of the first stage; doubled by each later stage"""
    blocks: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    """blocks in each stage: (2, 2, 2, 2) is PreActResNet18, (3, 4, 6, 3) is 34, (1, 1, 1) is 8"""
    norm_affine: bool = True
    """learnable scale and shift in batch norm; False makes the network scale-invariant up to its head"""
    shortcut_norm: bool = False
    """batch norm on shortcut convolutions as well"""


class GPT(Strict):
    """GPT-2 (pre-norm, learned positions, GELU). Defaults: GPT-2 small."""

    kind: Literal["gpt"] = "gpt"
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    width: PositiveInt = 768
    context_length: PositiveInt = 1024
    """tokens in one training sequence"""
    vocabulary: PositiveInt | None = None
    """size of the embedding; None takes the tokenizer's"""
    tied: bool = True
    """the head shares the token embedding's weights"""
    bias: bool = True
    """biases in linear layers and layer norms"""
    qkv_bias: bool = True
    """bias of the query, key and value projection (only where `bias` is on)"""
    dropout: Fraction = 0.0
    qk_norm: bool = False
    """RMS norm of queries and keys"""

    @model_validator(mode="after")
    def _check(self) -> GPT:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self


Model = Annotated[MLP | VGG | PreActResNet | GPT, Field(discriminator="kind")]


class SGD(Strict):
    name: Literal["sgd"] = "sgd"
    learning_rate: Positive
    momentum: Fraction = 0.0
    dampening: Fraction = 0.0
    nesterov: bool = False


class AdamW(Strict):
    name: Literal["adamw"] = "adamw"
    learning_rate: Positive
    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    eps: Positive = 1e-8


Optimizer = Annotated[SGD | AdamW, Field(discriminator="name")]


class DecaySchedule(Strict):
    """Multiplier of weight_decay over the steps of the run."""

    kind: Literal["constant", "linear", "cosine", "follow_learning_rate", "window"] = "constant"
    final_fraction: NonNegative = 0.0
    """linear and cosine: multiplier at the last step"""
    start: Fraction = 0.0
    """window: decay is on from this fraction of the run ..."""
    end: Fraction = 1.0
    """... to this one"""


@functools.cache
def _form_literal(form: str, constant: str) -> dict[str, Any]:
    return plugins.literal("optim/forms", form, constant) or {}


@functools.cache
def _form_options(form: str) -> type[Strict]:
    """What `decay.parameters` may hold for a form."""
    declared = _form_literal(form, "PARAMETERS").items()
    fields: dict[str, Any] = {name: (type(options["default"]), Field(**options)) for name, options in declared}
    return create_model(f"{form} parameters", __base__=Strict, **fields)


class Decay(Strict):
    """Weight decay: how much, in which form, of which groups, on which schedule."""

    weight_decay: NonNegative = 0.0
    form: str = "decoupled"
    """what decay does to a weight: a file of `optim/forms/`"""
    parameters: dict[str, Any] | None = None
    """of the form, as its file declares them; those equal to their default are left out"""
    multipliers: dict[Group, NonNegative] = {}
    """factor on weight_decay for each parameter group; absent groups have 1"""
    schedule: DecaySchedule = DecaySchedule()

    @field_validator("form")
    @classmethod
    def _exists(cls, form: str) -> str:
        known = plugins.available("optim/forms")
        if form not in known:
            raise ValueError(f"expected one of {', '.join(known)}, got {form!r}")
        return form

    @field_validator("parameters")
    @classmethod
    def _canonical(cls, parameters: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if not parameters or "form" not in info.data:
            return None
        form = info.data["form"]
        known = _form_literal(form, "PARAMETERS")
        try:
            checked = _form_options(form).model_validate(parameters).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                raise ValueError(f"form {form} has no {name}; expected {', '.join(known) or 'no parameters'}") from None
            raise ValueError(f"{name}: {first['msg']}, got {first['input']!r:.80}") from None
        return {name: value for name, value in checked.items() if value != known[name]["default"]} or None

    @property
    def form_parameters(self) -> dict[str, Any]:
        """All parameters of the form, with defaults filled in."""
        return _form_options(self.form)(**(self.parameters or {})).model_dump()


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


class Evaluation(Strict):
    """What is measured and how often. Evaluation sets are fixed for a run, so curves are comparable."""

    every: PositiveInt
    """steps between evaluations; the last step is always evaluated"""
    log_every: PositiveInt
    """steps between rows of the running training loss, norms and effective learning rate"""
    train_examples: PositiveInt = 1000
    """training examples (windows of context_length for text) in the fixed evaluation of the training loss"""
    examples: PositiveInt | None = None
    """test images, or validation windows; None takes all"""
    probes: tuple[str, ...] = ()
    """names from decaylab.probes, run at each evaluation"""


Precision = Literal["float32", "tf32", "bfloat16", "float16", "bfloat16_weights"]
"""float32; float32 weights with TF32 products; autocast over float32 weights; weights stored in bfloat16"""


class Start(Strict):
    """Begin from a snapshot of another run instead of a fresh initialisation."""

    run: RunSpec
    step: PositiveInt
    optimizer_state: bool = True


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
    gradient_clip: Positive | None = None
    """largest global gradient norm"""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """coefficient of the exponential moving average of the weights; None keeps no average"""
    evaluation: Evaluation
    seed: int
    """initialisation, data order and dropout, unless the next two are given"""
    init_seed: int | None = None
    data_seed: int | None = None
    """data order and dropout"""
    start: Start | None = None
    snapshots: tuple[PositiveInt, ...] = ()
    """steps after which the state is saved for other runs; changes no number, so not part of the id"""

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
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
        for path, allowed in _form_literal(self.decay.form, "REQUIRES").items():
            value = functools.reduce(getattr, path.split("."), self)
            if value not in allowed:
                expected = " or ".join(map(str, allowed))
                raise ValueError(f"{path}: decay form {self.decay.form} needs {expected}, got {value}")
        if self.start:
            if self.start.step > self.start.run.steps:
                raise ValueError(f"starts from step {self.start.step} of a run of {self.start.run.steps}")
            if self.start.run.model != self.model:
                raise ValueError("starts from a run of another model")
        return self

    def identity(self) -> dict[str, Any]:
        """The resolved spec without what changes no number: the content of the id."""
        value = self.model_dump(mode="json", exclude_none=True, exclude={"snapshots", "start"})
        if self.start:
            value["start"] = {
                "run": self.start.run.identity(),
                "step": self.start.step,
                "optimizer_state": self.start.optimizer_state,
            }
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
    def depth(self) -> int:
        """How many runs must be finished before this one, each starting from the one before."""
        return 1 + self.start.run.depth if self.start else 0

    def arm_id(self) -> str:
        """Hash shared by runs that differ only in seed."""
        return sha256_json(_without_seed(self.identity()))[:10]


def _without_seed(value: dict[str, Any]) -> dict[str, Any]:
    rest = {key: item for key, item in value.items() if key not in ("seed", "init_seed", "data_seed")}
    if "start" in rest:
        rest["start"] = rest["start"] | {"run": _without_seed(rest["start"]["run"])}
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
RunSpec.model_rebuild()
