"""What a reader calls metrics: a label with its unit, and how to read their numbers."""

from __future__ import annotations

from decaylab import probes
from decaylab.report.html import words

METRICS = {
    "train_loss": "training loss (nats)",
    "test_loss": "test loss (nats)",
    "validation_loss": "validation loss (nats)",
    "train_error": "training error",
    "test_error": "test error",
    "validation_error": "validation error",
    "batch_loss": "running training loss (nats)",
    "learning_rate": "learning rate",
    "peak_learning_rate": "peak learning rate",
    "weight_decay": "weight decay",
    "weight_norm": "weight norm (L2)",
    "gradient_norm": "gradient norm (L2)",
    "effective_learning_rate": "effective learning rate",
    "generalisation_gap": "validation loss \u2212 training loss (nats)",
    "seconds": "measured time (s)",
    "predicted_seconds": "predicted time (s)",
    "step": "step",
    "fraction": "fraction of the run",
    "cell": "setting",
    "start_at": "taken at (fraction of the run)",
}
"""what every training writes; the columns of probes are described in their own files"""

GROUPS = {"qk": "W_QK", "vo": "W_VO"}
"""parts of a probe that have another name"""


def label(name: str) -> str:
    """Label of a metric or parameter, with its unit. Shares are shown in percent and have none."""
    if name.startswith("ema_"):
        return f"{label(name.removeprefix('ema_'))}\nof the averaged weights"
    base, _, group = name.partition(".")
    text = METRICS.get(base)
    if text is None and base in probes.columns():
        text, unit = probes.columns()[base]
        text += f" ({unit})" if unit not in ("", "share") else ""
    return (text or words(base)).replace(" x ", " \u00d7 ") + (f", {GROUPS.get(group, group)}" if group else "")


def stem(name: str) -> str:
    """A metric without its parameter group, of the weights themselves rather than of their average."""
    return name.removeprefix("ema_").partition(".")[0]


def is_share(name: str) -> bool:
    """True for metrics between 0 and 1, which are shown in percent."""
    return stem(name).endswith("error") or probes.columns().get(stem(name), ("", ""))[1] == "share"


def lower_is_better(name: str) -> bool:
    """True for losses and errors."""
    return stem(name).endswith(("_loss", "_error"))
