"""Weight decay: which weights decay, on which schedule, and how much decay really reached them.

The optimizer's own decay is off. What decay does to a weight is up to the form (`optim/forms/`); this module calls the
form at the right moments, and measures what the weights show of it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from decaylab import plugins
from decaylab.optim.form import DecayForm, Rate
from decaylab.optim.optimizers import grouped_parameters
from decaylab.optim.schedules import decay_multiplier_at
from decaylab.spec import Decay, Group


class WeightDecay:
    """Decays the weights of one run.

    A step of the loop, with gradients already clipped:

        loss = loss + penalty     # penalty = decay.loss_penalty(step), where it is not None; once per step
        ...
        decay.before_step(step, learning_rate)
        optimizer.step()

    Nothing here waits for the device. On the `measured_steps`, the decay that reaches the weights is measured as
    well; `applied` reads the result. Parameters without a gradient are left alone, as torch's optimizers do.

    Args:
        optimizer: from `build_optimizer`; its own decay must be off.
        peak_learning_rate: largest learning rate of the schedule.
        steps: updates in the run; steps count from 0.

    Raises:
        ValueError: the optimizer decays weights itself.
    """

    def __init__(self, spec: Decay, optimizer: torch.optim.Optimizer, peak_learning_rate: float, steps: int) -> None:
        for param_group in optimizer.param_groups:
            if param_group["weight_decay"] != 0:
                raise ValueError(f"the optimizer's own decay must be off, it is {param_group['weight_decay']}")
        self.spec = spec
        self.form: DecayForm = plugins.load("optim/forms", spec.form).Form(spec, optimizer, peak_learning_rate, steps)
        self.steps = steps
        self.peak_learning_rate = peak_learning_rate
        self.measured_steps = sorted({0} | {(2 * part + 1) * steps // 10 for part in range(5)})
        self._groups = grouped_parameters(optimizer)
        # groups that decay alike (the first stands for all) are one list, so that a step launches few kernels
        alike: dict[Hashable, tuple[Group, list[Tensor]]] = {}
        for group, weights in self._groups.items():
            if multiplier := spec.weight_decay * spec.multipliers.get(group, 1.0):
                alike.setdefault((multiplier, self.form.shared(group)), (group, []))[1].extend(weights)
        self._alike = list(alike.values())
        # for each group and measured step: demanded, measured, mean factor of the elements
        shape = (len(self._groups), len(self.measured_steps), 3)
        device = optimizer.param_groups[0]["params"][0].device
        self._record = torch.full(shape, math.nan, dtype=torch.float64, device=device)

    def coefficient(self, step: int, learning_rate: float) -> float:
        """weight_decay after its schedule, before the multipliers of the groups."""
        fraction = learning_rate / self.peak_learning_rate
        return self.spec.weight_decay * decay_multiplier_at(self.spec.schedule, self.steps, step, fraction)

    def rate(self, group: Group, step: int, learning_rate: float) -> Rate:
        """What the spec demands of a group in this step; see `DecayForm.rate`."""
        coefficient = self.coefficient(step, learning_rate) * self.spec.multipliers.get(group, 1.0)
        return self.form.rate(group, coefficient, learning_rate)

    def intended(self, group: Group, weight: Tensor, update: Tensor, step: int, learning_rate: float) -> Tensor:
        """What decay itself means to subtract from a weight in this step, before any rounding, in float32.

        Args:
            update: what the optimizer subtracts per unit of learning rate, float32.
        """
        return self.form.intended(weight.detach().float(), self.rate(group, step, learning_rate), update)

    def loss_penalty(self, step: int) -> Tensor | None:
        """What to add to the loss of a step, once and not per micro-batch. None if the form acts elsewhere."""
        if self.form.acts_on != "loss" or not self._alike:
            return None
        if step in self.measured_steps:
            for group, weights in self._groups.items():
                rate = self.rate(group, step, 0.0)
                gradients = torch.autograd.grad(self.form.penalty(weights, rate), weights)
                sums = _Sums(self._record.device)
                for weight, gradient in zip(weights, gradients, strict=True):
                    sums.add(weight.double(), gradient.double())
                self._note(group, step, rate, sums)
        return sum(self.form.penalty(weights, self.rate(group, step, 0.0)) for group, weights in self._alike)

    @torch.no_grad()
    def before_step(self, step: int, learning_rate: float, skipped: Tensor | None = None) -> None:
        """Decay the weights or their gradients. Call it after clipping, just before optimizer.step().

        Args:
            skipped: 0-d bool on the device: the optimizer will leave out this step, because a scaled float16
                gradient overflowed; decay then leaves it out as well.
        """
        self.form.observe(step, learning_rate, skipped)
        measured = step in self.measured_steps
        if self.form.acts_on == "loss" and self._alike:
            if measured and skipped is not None:
                self._record[:, self.measured_steps.index(step)].masked_fill_(skipped, math.nan)
        elif measured:
            for group in self._groups:
                self._decay_and_measure(group, step, learning_rate, skipped)
        else:
            for group, weights in self._alike:
                rate = self.rate(group, step, learning_rate)
                trained = [weight for weight in weights if weight.grad is not None]
                if trained and not _is_zero(rate):
                    self.form.decay(trained, rate, skipped)

    def applied(self) -> dict[str, dict[str, Any]]:
        """Per group, averaged over the measured steps: what the spec demanded and what reached the weights.

        Each value has `configured` and `measured`, both the fraction of a weight subtracted per step (for decay in
        gradient or loss, the coefficient of w in the gradient), and `steps`, the measured updates, counted from 1.
        For a selective form, the two concern the elements that decay, and `share` is their fraction. Steps in which a
        group was all zero or not finite, or that were skipped, are left out; if none is left, the numbers are NaN.
        This call waits for the device.
        """
        result = {}
        for group, rows in zip(self._groups, self._record.tolist(), strict=True):
            valid = [(step, row) for step, row in zip(self.measured_steps, rows, strict=True) if math.isfinite(row[1])]
            result[group] = {
                "configured": _mean([row[0] for _, row in valid]),
                "measured": _mean([row[1] for _, row in valid]),
                "steps": [step + 1 for step, _ in valid],
            }
            if self.form.selective:
                result[group]["share"] = _mean([row[2] for row in rows if math.isfinite(row[2])])
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """The measurements so far and the form's state, for a checkpoint."""
        return {"record": self._record} | {f"form.{name}": value for name, value in self.form.state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._record.copy_(state["record"])
        for name, value in self.form.state.items():
            value.copy_(state[f"form.{name}"])

    def _decay_and_measure(self, group: Group, step: int, learning_rate: float, skipped: Tensor | None) -> None:
        rate = self.rate(group, step, learning_rate)
        sums = _Sums(self._record.device)
        # one parameter at a time, to hold only one copy
        for weight in self._groups[group]:
            if weight.grad is None:
                continue
            changed, sign = (weight.grad, 1) if self.form.acts_on == "gradient" else (weight, -1)
            wide = weight.to(torch.float64, copy=True)
            before = changed.to(torch.float64, copy=True)
            chosen = None
            if self.form.selective or not _is_zero(rate):
                chosen = self.form.decay([weight], rate, skipped)
            sums.add(wide, (changed - before) * sign, chosen[0] if chosen else None)
        self._note(group, step, rate, sums, skipped)

    def _note(self, group: Group, step: int, rate: Rate, sums: _Sums, skipped: Tensor | None = None) -> None:
        row = self._record[list(self._groups).index(group), self.measured_steps.index(step)]
        row[0] = rate
        row[1] = sums.moved / sums.squares
        row[2] = sums.chosen / sums.count
        if skipped is not None:
            row.masked_fill_(skipped, math.nan)


class _Sums:
    """Regression of what decay moved on the weights themselves, in float64, on the device."""

    def __init__(self, device: torch.device) -> None:
        self.moved, self.squares, self.chosen = torch.zeros(3, dtype=torch.float64, device=device)
        self.count = torch.zeros_like(self.chosen)

    def add(self, weight: Tensor, moved: Tensor, chosen: Tensor | None = None) -> None:
        """Add one parameter as it was before decay, what decay moved, and the factor of each element, if not 1."""
        if chosen is not None:
            weight = weight * chosen
            self.chosen = self.chosen + chosen.sum(dtype=torch.float64)
        self.moved = self.moved + torch.dot(moved.flatten(), weight.flatten())
        self.squares = self.squares + torch.dot(weight.flatten(), weight.flatten())
        self.count = self.count + weight.numel()


def _is_zero(rate: Rate) -> bool:
    """Whether a rate is known to be zero without waiting for the device."""
    return not isinstance(rate, Tensor) and rate == 0


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
