"""Weight decay by each published rule, for one setting, with the claims of this suite that bear on the rule.

All decays are in PyTorch's convention: a step multiplies a weight by 1 - learning_rate x weight_decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from decaylab.analysis import rules
from decaylab.errors import InputError

NANOCHAT_WIDTH, NANOCHAT_DECAY, NANOCHAT_EXPONENT = 768, 0.22, -1.97
"""nanochat's log of 10 January 2026: .22 at depth 12, and a fall with width^-1.97, for Muon's matrices"""
INITIAL_RMS = 0.02
"""standard deviation of GPT-2's initial weights"""


@dataclass(frozen=True)
class Setting:
    """A training run that needs a decay.

    Batch and data are in tokens for text and in examples for images; rules that need tokens say so.
    """

    parameters: float
    """trained weights of the model"""
    data_size: float
    """tokens (or examples) in one pass over the data"""
    batch_size: float
    """tokens (or examples) in one step"""
    learning_rate: float
    """peak"""
    epochs: float = 1.0
    """passes over the data"""
    width: int | None = None
    """of the transformer; only nanochat's rule needs it"""

    def __post_init__(self) -> None:
        for name in ("parameters", "data_size", "batch_size", "learning_rate", "epochs"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"advise: {name}: expected a number above 0, got {value:g}")
        if self.batch_size > self.tokens:
            raise InputError(f"advise: batch_size {self.batch_size:g} is more than the whole training, {self.tokens:g}")

    @property
    def tokens(self) -> float:
        """Tokens (or examples) seen in training."""
        return self.data_size * self.epochs

    @property
    def steps(self) -> float:
        return self.tokens / self.batch_size

    @property
    def tokens_per_parameter(self) -> float:
        return self.tokens / self.parameters


@dataclass(frozen=True)
class Advice:
    """What one rule says about a setting."""

    rule: str
    source: str
    low: float
    """smallest decay that the rule allows; equal to `high` where it names one value"""
    high: float
    why: str
    """how the number comes about, with units"""
    claims: tuple[str, ...] = ()
    """`<replication>/<claim>` of this suite that bear on the rule"""


def advise(setting: Setting) -> list[Advice]:
    """The decay that each published rule gives, in a fixed order. Rules that need more than is known are left out."""
    return [advice for rule in RULES if (advice := rule(setting)) is not None]


def power_lines(setting: Setting) -> Advice:
    tau = rules.power_lines_timescale(setting.tokens_per_parameter)
    decay = rules.power_lines_weight_decay(
        setting.batch_size, setting.learning_rate, setting.tokens, setting.tokens_per_parameter
    )
    why = (
        f"{setting.tokens_per_parameter:.3g} tokens per parameter give an averaging time of {tau:.3g} of the run; "
        "fitted under muP with a learning rate that falls linearly to 0"
    )
    return Advice(
        "Power Lines",
        "Bergsma et al. 2025, arXiv 2505.13738",
        decay,
        decay,
        why,
        (
            "decay_vs_scale/power-lines-predicts-best-decay",
            "gpt2_ablation/power-lines-decay-hurts-at-constant-lr",
            "gpt2_ablation/recomputed-decay-changes-nothing",
        ),
    )


def constant_epochs(setting: Setting) -> Advice:
    def decay(epochs: float) -> float:
        return rules.constant_epochs_weight_decay(setting.batch_size, setting.learning_rate, setting.data_size, epochs)

    if setting.epochs <= 1:
        low = high = decay(setting.epochs)
        why = "an averaging time of the whole run; the rule asks for one epoch or more, and there is no more"
    else:
        low, high = decay(setting.epochs), decay(1.0)
        why = f"an averaging time between one epoch and the {setting.epochs:g} epochs of the run"
    return Advice(
        "constant epochs",
        "Wang and Aitchison 2024, arXiv 2405.13698",
        low,
        high,
        why,
        ("decay_vs_scale/timescale-constant-in-epochs",),
    )


def custom(setting: Setting) -> Advice:
    why = "GPT-1 used 0.01, every GPT-3 model 0.1; no formula"
    return Advice(
        "custom of the GPT series",
        "Radford et al. 2018; Brown et al. 2020, arXiv 2005.14165",
        0.01,
        0.1,
        why,
        ("gpt2_ablation/gpt2-decay-beats-gpt3-decay", "gpt2_ablation/schedule-decides"),
    )


def nanochat(setting: Setting) -> Advice | None:
    if setting.width is None:
        return None
    decay = NANOCHAT_DECAY * (setting.width / NANOCHAT_WIDTH) ** NANOCHAT_EXPONENT
    why = f"{NANOCHAT_DECAY:g} x (width / {NANOCHAT_WIDTH})^{NANOCHAT_EXPONENT:g}; tuned for Muon, not for AdamW"
    return Advice(
        "nanochat's width rule",
        "karpathy/nanochat, dev/LOG.md",
        decay,
        decay,
        why,
        ("decay_vs_scale/best-decay-falls-with-size",),
    )


def equilibrium(setting: Setting) -> Advice:
    decay = setting.learning_rate / (2 * INITIAL_RMS**2)
    steps = rules.equilibrium_steps(setting.learning_rate, decay)
    reached = "is reached" if steps < setting.steps else "is not reached"
    why = (
        f"weights keep the RMS that they start with, {INITIAL_RMS:g}; equilibrium takes about {steps:.3g} steps and "
        f"{reached} in this run of {setting.steps:.3g}"
    )
    return Advice(
        "equilibrium at the initial scale",
        "Kosson et al. 2024, arXiv 2305.17212",
        decay,
        decay,
        why,
        ("equilibrium/rms-at-equilibrium", "equilibrium/time-to-equilibrium"),
    )


RULES: tuple[Callable[[Setting], Advice | None], ...] = (
    power_lines,
    constant_epochs,
    equilibrium,
    nanochat,
    custom,
)
