"""Takes a training through its steps on a fake CUDA device: `python -m tests.training.fake_cuda CASE PRECISION FOLDER`.

Fake tensors have shapes, types and devices, but no values: an operation on tensors of two devices raises, and so does
whatever asks for a value, as `.item()` does. So nothing here may wait for the device in a step. Autocast and the
gradient scaler switch themselves off where there is no driver, so of mixed precision only the placement is checked.
Backward passes ask the driver too, and are replaced by their shapes. It is a program and not a test, because torch
crashes when a second training of this kind begins in one process.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from decaylab.data import load, prepare
from decaylab.files import Layout
from decaylab.training.evaluation import losses, refresh_batch_norm
from decaylab.training.learner import Learner, Stack
from decaylab.training.probing import Probing
from tests.training.cases import CASES, spec

CUDA = torch.device("cuda", 0)
RUNS = {
    # torch has no fake form of its fused SGD
    "resnet": CASES["resnet"] | {"optimizer": {"name": "adamw", "learning_rate": 0.01}},
    "gpt": CASES["gpt"],
}


def pinned(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    assert tensor.device.type == "cpu", "only a CPU tensor can be pinned"
    return tensor


def gradients(loss: torch.Tensor, weights, **_: object) -> list[torch.Tensor]:
    assert loss.device == CUDA
    return [torch.zeros_like(weight) for weight in weights]


def replaced(module: torch.nn.Module, convert, recurse: bool = True) -> torch.nn.Module:
    """`Module._apply`, which swaps tensors in place; torch cannot do that with fake ones."""
    done: dict[int, torch.nn.Parameter] = {}  # tied weights stay tied
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                if id(weight) not in done:
                    done[id(weight)] = torch.nn.Parameter(convert(weight.detach()), weight.requires_grad)
                part._parameters[name] = done[id(weight)]
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer if buffer is None else convert(buffer)
    return module


def copied(tensor: torch.Tensor, memo: dict[int, torch.Tensor]) -> torch.Tensor:
    """`__deepcopy__`, which looks at real memory."""
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        memo[id(tensor)] = torch.nn.Parameter(copy) if isinstance(tensor, torch.nn.Parameter) else copy
    return memo[id(tensor)]


def there(*tensors: torch.Tensor) -> None:
    found = {str(tensor.device) for tensor in tensors}
    assert found == {"cuda:0"}, found


def take_steps(case: str, precision: str, layout: Layout) -> None:
    probes = ["lost_updates", "attention"] if case == "gpt" else ["lost_updates"]
    run = spec(RUNS[case], precision=precision, ema=0.9, evaluation={"probes": probes})
    prepare(run.data, layout)  # with values, before anything is fake
    with FakeTensorMode(allow_non_fake_inputs=True):
        context = run.model.context_length if run.model.kind == "gpt" else None
        data = load(run.data, layout, CUDA, batch_size=run.batch_size, seed=0, context_length=context)
        learner = Learner(run, data.classes, CUDA)
        there(*learner.tensors)
        probing = Probing(run, learner, data, 0)
        probed: dict[str, torch.Tensor] = {}
        for step in range(2):  # the first of them measures decay
            batch = data.batch(step)
            loss = learner.backward(batch)
            measured = learner.update(step, logged=True, after=probing.around_update(6, probed))
            numbers = [value for value in measured.values() if isinstance(value, torch.Tensor)]
            there(*batch, loss, *numbers, *probed.values())
        found = losses(learner.model, data, "train", 8, learner.autocast)
        refresh_batch_norm(learner.ema, data.evaluation("train", 8), learner.model)
        found |= losses(learner.ema, data, "train", 8, learner.autocast)
        found |= probing.measure("evaluation", run.steps)
        there(*found.values())

        state = learner.state_dict()
        saved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.cpu(), state)
        resumed = Learner(run, data.classes, CUDA)
        resumed.load_state_dict(saved)
        there(*resumed.tensors, *resumed.ema.state_dict().values())

        if case == "gpt" and precision == "float32":  # fake tensors inside vmap know no channels_last
            stack = Stack([resumed, learner])
            both = tuple(torch.stack([part, part]) for part in data.batch(0))
            there(stack.backward(both), *stack.tensors)


if __name__ == "__main__":
    torch.Tensor.pin_memory = pinned
    torch.nn.Module._apply = replaced
    torch.Tensor.__deepcopy__ = torch.nn.Parameter.__deepcopy__ = copied
    torch.autograd.grad = gradients
    # the state of a generator would be a fake tensor, from which torch reads real memory
    torch.random.fork_rng = lambda **_: contextlib.nullcontext()
    take_steps(sys.argv[1], sys.argv[2], Layout(Path(sys.argv[3])))
    print("all on the device", flush=True)
    os._exit(0)
