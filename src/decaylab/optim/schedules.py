"""Learning rate and weight decay as pure functions of the step.

Steps count from 0: the value at `step` is used by the update that follows `step` finished updates.
"""

from __future__ import annotations

import math

from decaylab.spec import DecaySchedule, Schedule


def learning_rate_at(schedule: Schedule, peak: float, steps: int, step: int) -> float:
    """Learning rate of update `step` in a run of `steps` updates.

    Warm-up is peak * step / warmup_steps, so the first update has learning rate 0 (as in the code of arXiv 2310.04415).
    Cosine and linear then fall from `peak` to `peak * final_fraction` at the horizon and stay there. A drop overrides
    all of this from its step on.
    """
    drops = [drop.learning_rate for drop in schedule.drops if drop.step <= step]
    if drops:
        return drops[-1]
    if step < schedule.warmup_steps:
        return peak * step / schedule.warmup_steps
    if schedule.kind in ("constant", "step"):
        return peak
    horizon = schedule.horizon or steps
    if step >= horizon:
        return peak * schedule.final_fraction
    progress = (step - schedule.warmup_steps) / (horizon - schedule.warmup_steps)
    return peak * _fall(schedule.kind, progress, schedule.final_fraction)


def decay_multiplier_at(schedule: DecaySchedule, steps: int, step: int, learning_rate_fraction: float) -> float:
    """Factor on weight_decay in update `step` of `steps`.

    Args:
        learning_rate_fraction: learning rate of this update over the peak, for `follow_learning_rate`.
    """
    match schedule.kind:
        case "constant":
            return 1.0
        case "follow_learning_rate":
            return learning_rate_fraction
        case "window":
            # whole steps: 0.1 * 30 is a little more than 3
            return float(round(schedule.start * steps) <= step < round(schedule.end * steps))
        case kind:
            return _fall(kind, min(step / max(steps - 1, 1), 1.0), schedule.final_fraction)


def _fall(kind: str, progress: float, final: float) -> float:
    """From 1 at progress 0 to `final` at progress 1, along a line or half a cosine wave."""
    remaining = 1 - progress if kind == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return final + (1 - final) * remaining
