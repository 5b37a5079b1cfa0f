"""torch's optimizers with their own weight decay off; decay.py and the forms decay the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from decaylab.spec import RunSpec


def build_optimizer(spec: RunSpec, groups: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a run. It has one param_group, in which "groups" holds the names of the parameter groups.

    Args:
        groups: group -> its weights, as `FlatParameters` lays them out.
    """
    # Fused kernels on CPU and CUDA. On one CPU core they took 0.2 to 1.0 times as long as foreach kernels for networks
    # of 10,000 to 300,000 weights (AdamW with 100,000 weights: 0.3 ms against 1.2 ms a step).
    param_groups = [{"params": list(groups.values()), "groups": list(groups)}]
    chosen = spec.optimizer
    if chosen.name == "sgd":
        # The fused kernel creates the momentum buffer in the first step and leaves it unfilled if that step is skipped
        # because float16 gradients overflowed. A buffer of zeros gives the same first step, except with dampening,
        # which torch does not apply there; then the unfused kernels must do, although the scaler waits before them.
        skips = spec.precision == "float16" and bool(chosen.momentum)
        optimizer = torch.optim.SGD(
            param_groups,
            lr=chosen.learning_rate,
            momentum=chosen.momentum,
            dampening=chosen.dampening,
            nesterov=chosen.nesterov,
            weight_decay=0.0,
            fused=not (skips and chosen.dampening),
        )
        if skips and not chosen.dampening:
            for weight in groups.values():
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return optimizer
    return torch.optim.AdamW(
        param_groups,
        lr=chosen.learning_rate,
        betas=(chosen.beta1, chosen.beta2),
        eps=chosen.eps,
        weight_decay=0.0,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def grouped_parameters(optimizer: torch.optim.Optimizer) -> dict[str, list[Tensor]]:
    """Parameter group -> its trained weights, in the order of the optimizer."""
    grouped: dict[str, list[Tensor]] = {}
    for rule in optimizer.param_groups:
        for name, weights in zip(rule["groups"], rule["params"], strict=True):
            grouped.setdefault(name, []).append(weights)
    return grouped


def next_directions(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> list[Tensor]:
    """What the next step() will subtract from each parameter, each element up to a positive factor.

    It is computed from gradients and state before the step, so the sign is right even where rounding will undo the
    change. The optimizer has one param_group, as `build_optimizer` makes it.
    """
    rule = optimizer.param_groups[0]
    key = "exp_avg" if "betas" in rule else "momentum_buffer"
    gradients = [parameter.grad for parameter in parameters]
    states = [optimizer.state.get(parameter, {}).get(key) for parameter in parameters]
    if any(state is None for state in states):
        # without momentum, and in a parameter's first step, every optimizer moves along the gradient
        return [
            gradient if state is None else next_directions(optimizer, [parameter])[0]
            for parameter, gradient, state in zip(parameters, gradients, states, strict=True)
        ]
    if "betas" in rule:
        return list(torch._foreach_lerp(states, gradients, 1 - rule["betas"][0]))
    buffers = list(torch._foreach_mul(states, rule["momentum"]))
    torch._foreach_add_(buffers, gradients, alpha=1 - rule["dampening"])
    if not rule["nesterov"]:
        return buffers
    return list(torch._foreach_add(gradients, buffers, alpha=rule["momentum"]))


def last_update(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensor | None:
    """What the last step() subtracted from a parameter per unit of learning rate, before rounding, in float32.

    It is computed from the state after the step, and for SGD without momentum or with Nesterov momentum also from the
    gradient, so call it before gradients are cleared. None for a parameter that was not updated.
    """
    rule = optimizer.param_groups[0]
    state = optimizer.state.get(parameter, {})
    if "betas" in rule:
        if "exp_avg" not in state:
            return None
        step = state["step"].double()
        mean = state["exp_avg"].float() / (1 - rule["betas"][0] ** step)
        deviation = (state["exp_avg_sq"].float() / (1 - rule["betas"][1] ** step)).sqrt()
        return mean / (deviation + rule["eps"])
    buffer = state.get("momentum_buffer")
    if buffer is not None and not rule["nesterov"]:
        return buffer.float()
    if parameter.grad is None:
        return None
    gradient = parameter.grad.float()
    return gradient if buffer is None else gradient + rule["momentum"] * buffer.float()
