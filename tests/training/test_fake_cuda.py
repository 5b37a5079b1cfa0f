"""The device path without a device: every tensor of a training on `cuda`, under FakeTensorMode.

Fake tensors have shapes, types and devices, but no values: an operation on tensors of two devices raises, and so does
whatever asks for a value, as `.item()` does. So nothing here may wait for the device in a step. Autocast and the
gradient scaler switch themselves off where there is no driver, so of mixed precision only the placement is tested.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from decaylab.data import load, prepare
from decaylab.data.draws import move
from decaylab.files import Layout
from decaylab.training.device import resolve_device
from decaylab.training.evaluation import losses, refresh_batch_norm
from decaylab.training.learner import Learner, Stack
from decaylab.training.probing import Probing
from tests.training.cases import CASES, spec

CUDA = torch.device("cuda", 0)
pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:torch.cuda.amp.GradScaler")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "bfloat16_weights")


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    """With data prepared from real tensors, which the fake ones are made of."""
    layout = Layout(tmp_path_factory.mktemp("fake"))
    for case in ("resnet", "gpt"):
        prepare(spec(CASES[case]).data, layout)
    return layout


@pytest.fixture
def fake(layout, monkeypatch):
    """Fake tensors on a machine without CUDA: what asks the driver is answered here."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.nn.Module, "_apply", replaced)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def pinned(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    assert tensor.device.type == "cpu", "only a CPU tensor can be pinned"
    return tensor


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


def devices(*tensors: torch.Tensor) -> set[str]:
    return {str(tensor.device) for tensor in tensors}


def prepared(run, layout):
    context = run.model.context_length if run.model.kind == "gpt" else None
    return load(run.data, layout, CUDA, batch_size=run.batch_size, seed=0, context_length=context)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_step_stays_on_the_device(case, precision, layout, fake):
    probes = ["lost_updates", "attention"] if case == "gpt" else ["lost_updates"]
    run = spec(CASES[case], precision=precision, ema=0.9, evaluation={"probes": probes})
    data = prepared(run, layout)
    learner = Learner(run, data.classes, CUDA)
    assert devices(*learner.tensors) == {"cuda:0"}
    probing = Probing(run, learner, data, 0)
    probed: dict[str, torch.Tensor] = {}
    for step in range(2):  # the first of them measures decay
        inputs, targets = data.batch(step)
        assert devices(inputs, targets) == {"cuda:0"}
        loss = learner.backward((inputs, targets))
        after = probing.around_update(run.evaluation.every, probed)
        measured = learner.update(step, logged=True, after=after)
        values = [value for value in measured.values() if isinstance(value, torch.Tensor)]
        assert devices(loss, *values, *probed.values()) == {"cuda:0"}
    found = losses(learner.model, data, "train", 8, learner.autocast)
    refresh_batch_norm(learner.ema, data.evaluation("train", 8), learner.model)
    found |= losses(learner.ema, data, "train", 8, learner.autocast)
    found |= probing.measure("evaluation", run.steps)
    assert devices(*found.values()) == {"cuda:0"}


@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_stack_stays_on_the_device(case, layout, fake):
    run = spec(CASES[case])
    data = prepared(run, layout)
    learners = [Learner(run, data.classes, CUDA) for _ in range(2)]
    stack = Stack(learners)
    batch = data.batch(0)
    found = stack.backward(tuple(torch.stack([part, part]) for part in batch))
    assert devices(found, *stack.tensors) == {"cuda:0"}
    for learner in learners:
        learner.update(0, logged=False)


@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_state_goes_back_to_the_device(case, layout, fake):
    run = spec(CASES[case], ema=0.9)
    data = prepared(run, layout)
    learner = Learner(run, data.classes, CUDA)
    learner.backward(data.batch(0))
    learner.update(0, logged=False)
    state = learner.state_dict()
    on_cpu = torch.utils._pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.cpu(), state)
    other = Learner(run, data.classes, CUDA)
    other.load_state_dict(on_cpu)
    assert devices(*other.tensors, *other.ema.state_dict().values()) == {"cuda:0"}


@pytest.mark.parametrize("name", ["cuda", "auto", "cuda:0"])
def test_a_device_equals_that_of_its_tensors(name, monkeypatch, fake):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = resolve_device(name)
    assert torch.zeros(1, device=device).device == device


def test_what_is_there_already_is_not_moved(fake):
    there = torch.zeros(3, device=CUDA)
    assert move(there, torch.device("cuda")) is there
    assert move(there, CUDA) is there
    assert move(torch.zeros(3), CUDA).device == CUDA
