"""Weight decay: which weights, in which form, on which schedule, and how much of it really happened.

The optimizer's own decay is off; everything that decays a weight in this package happens here.
With learning rate lr, its peak lr_max, and c = weight_decay * multiplier of the group * multiplier of the schedule:

    decoupled    w <- (1 - lr c) w, then the optimizer's update         torch.optim.AdamW
    independent  w <- (1 - c) w, then the optimizer's update            Loshchilov and Hutter, arXiv 1711.05101
    l2_gradient  g <- g + c w, after clipping                           torch.optim.SGD and Adam
    l2_loss      loss <- loss + c/2 sum w^2, so before clipping
    cautious     w <- (1 - lr c) w where u w >= 0, and untouched elsewhere; u is what the optimizer's update will
                 subtract from w                                        arXiv 2510.12402
    adamc        w <- (1 - lr c lr/lr_max) w for weight matrices other than embedding and head, which count as
                 normalised; the rest is decoupled                      Defazio, arXiv 2506.02285

The coefficient of `l2_loss` differs from the l2_reg of the source code of arXiv 2310.04415, which adds
l2_reg sum w^2 without the half: weight_decay = 2 l2_reg.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from decaylab.optim.optimizers import grouped_parameters, next_directions
from decaylab.optim.schedules import decay_multiplier_at
from decaylab.spec import Decay

_NORMALISED = ("attention", "mlp", "convolution")
_IN_GRADIENT = ("l2_gradient", "l2_loss")


class WeightDecay:
    """Decays the weights of one run.

    A step of the loop, with gradients already clipped:

        loss = loss + penalty     # penalty = decay.loss_penalty(step), where it is not None; once per step
        ...
        decay.before_step(step, learning_rate)
        optimizer.step()

    Nothing here waits for the device. On the `measured_steps` the decay that reaches the weights is measured as
    well; `applied` reads the result. Parameters without a gradient are left alone, as torch's optimizers do.

    Args:
        optimizer: from `build_optimizer`; its own decay must be off.
        peak_learning_rate: lr_max above.
        steps: updates in the run; steps count from 0.

    Raises:
        ValueError: the optimizer decays weights itself.
    """

    def __init__(self, spec: Decay, optimizer: torch.optim.Optimizer, peak_learning_rate: float, steps: int) -> None:
        for param_group in optimizer.param_groups:
            if param_group["weight_decay"] != 0:
                raise ValueError(f"the optimizer's own decay must be off, it is {param_group['weight_decay']}")
        self.spec = spec
        self.steps = steps
        self.peak_learning_rate = peak_learning_rate
        self.measured_steps = sorted({0} | {(2 * part + 1) * steps // 10 for part in range(5)})
        self._optimizer = optimizer
        self._groups = grouped_parameters(optimizer)
        # groups that decay alike (the first stands for all) are one list, so that a step launches few kernels
        alike: dict[tuple[float, bool], tuple[str, list[Tensor]]] = {}
        for group, parameters in self._groups.items():
            if multiplier := spec.weight_decay * spec.multipliers.get(group, 1.0):
                alike.setdefault((multiplier, group in _NORMALISED), (group, []))[1].extend(parameters)
        self._alike = list(alike.values())
        self._in_loss = spec.form == "l2_loss" and bool(self._alike)
        # for each group and measured step: demanded, measured, share of the weights that decayed
        shape = (len(self._groups), len(self.measured_steps), 3)
        device = optimizer.param_groups[0]["params"][0].device
        self._record = torch.full(shape, math.nan, dtype=torch.float64, device=device)

    def coefficient(self, step: int, learning_rate: float) -> float:
        """weight_decay after its schedule, before the multipliers of the groups."""
        fraction = learning_rate / self.peak_learning_rate
        return self.spec.weight_decay * decay_multiplier_at(self.spec.schedule, self.steps, step, fraction)

    def rate(self, group: str, step: int, learning_rate: float) -> float:
        """What the spec demands of a group in this step.

        The share of a weight that decay subtracts from it; for `l2_gradient` and `l2_loss`, the coefficient c.
        """
        rate = self.coefficient(step, learning_rate) * self.spec.multipliers.get(group, 1.0)
        if self.spec.form in _IN_GRADIENT or self.spec.form == "independent":
            return rate
        if self.spec.form == "adamc" and group in _NORMALISED:
            rate *= learning_rate / self.peak_learning_rate
        return learning_rate * rate

    def shrink(self, group: str, step: int, learning_rate: float) -> float:
        """The share of a weight that decay itself subtracts in this step: 0 for decay inside the gradient."""
        return 0.0 if self.spec.form in _IN_GRADIENT else self.rate(group, step, learning_rate)

    def loss_penalty(self, step: int) -> Tensor | None:
        """What to add to the loss of a step (once, not per micro-batch): c/2 sum w^2. None for all other forms."""
        if not self._in_loss:
            return None
        if step in self.measured_steps:
            for group, parameters in self._groups.items():
                rate = self.rate(group, step, 0.0)
                gradients = torch.autograd.grad(_penalty(parameters, rate), parameters)
                sums = _Sums(self._record.device)
                for weight, gradient in zip(parameters, gradients, strict=True):
                    sums.add(weight.double(), gradient.double())
                self._note(group, step, rate, sums)
        return sum(_penalty(parameters, self.rate(group, step, 0.0)) for group, parameters in self._alike)

    @torch.no_grad()
    def before_step(self, step: int, learning_rate: float, skipped: Tensor | None = None) -> None:
        """Decay the weights, or for `l2_gradient` the gradients. Call it after clipping, just before optimizer.step().

        Args:
            skipped: 0-d bool on the device: the optimizer will leave out this step, because a scaled float16
                gradient overflowed; decay then leaves it out too.
        """
        if self._in_loss:
            return
        if step in self.measured_steps:
            for group in self._groups:
                self._decay_and_measure(group, step, learning_rate, skipped)
            return
        for group, parameters in self._alike:
            if rate := self.rate(group, step, learning_rate):
                self._decay([parameter for parameter in parameters if parameter.grad is not None], rate, skipped)

    def applied(self) -> dict[str, dict[str, Any]]:
        """Per group, averaged over the measured steps: what the spec demanded and what reached the weights.

        Each value has `configured` and `measured`, both the share of a weight subtracted per step (for `l2_gradient`
        and `l2_loss` the coefficient of w in the gradient), and `steps`, the measured updates, counted from 1.
        For `cautious` the two concern the weights chosen to decay, and `share` is their fraction. Steps where a
        group was all zero, or not finite, say nothing and are left out; without any, the numbers are NaN.
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
            if self.spec.form == "cautious":
                result[group]["share"] = _mean([row[2] for row in rows if math.isfinite(row[2])])
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """The measurements so far, for a checkpoint."""
        return {"record": self._record}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._record.copy_(state["record"])

    def _decay(self, parameters: list[Tensor], rate: float, skipped: Tensor | None) -> list[Tensor] | None:
        """Decay weights or gradients in place; for `cautious`, return which elements decayed (1 or 0)."""
        if self.spec.form == "l2_gradient":
            torch._foreach_add_([parameter.grad for parameter in parameters], parameters, alpha=rate)
        elif self.spec.form == "cautious":
            # signs, because a product of two small numbers underflows
            chosen = torch._foreach_sign(next_directions(self._optimizer, parameters))
            torch._foreach_mul_(chosen, torch._foreach_sign(parameters))
            torch._foreach_add_(chosen, 1)
            torch._foreach_clamp_max_(chosen, 1)
            if skipped is not None:
                torch._foreach_mul_(chosen, (~skipped).to(chosen[0].dtype))
            torch._foreach_addcmul_(parameters, parameters, chosen, value=-rate)
            return chosen
        elif skipped is None:
            torch._foreach_mul_(parameters, 1 - rate)
        else:
            torch._foreach_mul_(parameters, torch.where(skipped, 1.0, 1 - rate))
        return None

    def _decay_and_measure(self, group: str, step: int, learning_rate: float, skipped: Tensor | None) -> None:
        rate = self.rate(group, step, learning_rate)
        sums = _Sums(self._record.device)
        # one parameter at a time, to hold only one copy
        for parameter in self._groups[group]:
            if parameter.grad is None:
                continue
            changed, sign = (parameter.grad, 1) if self.spec.form == "l2_gradient" else (parameter, -1)
            weight = parameter.to(torch.float64, copy=True)
            before = changed.to(torch.float64, copy=True)
            chosen = self._decay([parameter], rate, skipped) if rate or self.spec.form == "cautious" else None
            sums.add(weight, (changed - before) * sign, chosen[0] if chosen else None)
        self._note(group, step, rate, sums, skipped)

    def _note(self, group: str, step: int, rate: float, sums: _Sums, skipped: Tensor | None = None) -> None:
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
        """Take in one parameter before decay and what decay moved; `chosen` (1 or 0) restricts both."""
        if chosen is not None:
            weight = weight * chosen
            self.chosen = self.chosen + chosen.sum(dtype=torch.float64)
        self.moved = self.moved + torch.dot(moved.flatten(), weight.flatten())
        self.squares = self.squares + torch.dot(weight.flatten(), weight.flatten())
        self.count = self.count + weight.numel()


def _penalty(parameters: list[Tensor], coefficient: float) -> Tensor:
    # a bfloat16 sum of squares would round the coefficient too
    wide = [parameter.to(torch.promote_types(parameter.dtype, torch.float32)) for parameter in parameters]
    return 0.5 * coefficient * sum(weight.square().sum() for weight in wide)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
