"""Compiled and recorded passes: the same numbers. A GPU is imitated where the test is of the bookkeeping."""

import contextlib
import shutil

import pytest
import torch

from decaylab.files import Layout
from decaylab.training import kernels
from decaylab.training.kernels import Recorded, compiled
from decaylab.training.learner import Learner, Stack
from tests.training.cases import CASES, IMAGES, TEXT, arms, spec

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def batch(run, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if run.model.kind == "gpt":
        tokens = torch.randint(256, (run.batch_size, run.model.context_length + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]
    images = torch.randn(run.batch_size, 3, 8, 8, generator=generator)
    return images, torch.randint(10, (run.batch_size,), generator=generator)


def learner_of(run):
    return Learner(run, 256 if run.model.kind == "gpt" else 10, CPU)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("case", ["gpt", "resnet"])
def test_a_compiled_loss_serves_every_run_of_its_shape(case, tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "_compiled", {})
    runs = arms(CASES[case])
    compilations = []
    monkeypatch.setattr(torch, "compile", counting(torch.compile, compilations))
    for run in runs:
        plain, fast = learner_of(run), learner_of(run)
        loss = compiled(fast, "one", Layout(tmp_path).compiled)
        for step in range(2):
            expected, found = plain.backward(batch(run, step)), fast.backward(batch(run, step), loss)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            for learner in (plain, fast):
                learner.update(step, logged=False)
        for name, buffer in plain.buffers.items():
            torch.testing.assert_close(fast.buffers[name], buffer, rtol=1e-3, atol=1e-4)
    assert len(compilations) == 1

    stack = Stack([learner_of(run) for run in runs])
    stacked = tuple(torch.stack(parts) for parts in zip(*(batch(run) for run in runs), strict=True))
    expected = stack.backward(stacked)
    found = stack.backward(stacked, compiled(stack, "three", Layout(tmp_path).compiled))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def counting(function, calls):
    def counted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return counted


class ImitatedGraph:
    """Runs what was recorded last, on the tensors that it was recorded with."""

    def replay(self):
        self.play()


@pytest.fixture
def gpu(monkeypatch):
    """torch.cuda, as far as recording goes, on a CPU."""

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", ImitatedGraph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)


@pytest.mark.parametrize("base", [IMAGES, TEXT | {"model": TEXT["model"] | {"dropout": 0.1}}], ids=["resnet", "gpt"])
def test_a_recorded_pass_trains_as_a_plain_one(gpu, base):
    run = spec(base)
    plain, recorded = learner_of(run), learner_of(run)
    torch.manual_seed(0)
    expected = []
    for step in range(3):
        expected.append(plain.backward(batch(run, step)).item())
        plain.update(step, logged=False)

    torch.manual_seed(0)
    backward = Recorded(recorded.backward, batch(run, 0), list(recorded.buffers.values()))
    backward._graph.play = lambda: backward._loss.copy_(recorded.backward(backward._batch))
    # recording itself runs nothing on a GPU, but does so here
    for name, buffer in learner_of(run).buffers.items():
        recorded.buffers[name].copy_(buffer)
    torch.manual_seed(0)
    for step in range(3):
        assert backward(batch(run, step)).item() == expected[step]
        recorded.update(step, logged=False)
    for name, buffer in plain.buffers.items():
        assert torch.equal(recorded.buffers[name], buffer)


def test_warming_up_leaves_no_trace(gpu):
    run = spec(IMAGES)
    learner = learner_of(run)
    before = {name: buffer.clone() for name, buffer in learner.buffers.items()}
    state = torch.get_rng_state()
    Recorded(lambda pair: torch.rand(()) + learner.backward(pair), batch(run), list(learner.buffers.values()))
    assert all(torch.equal(learner.buffers[name], buffer) for name, buffer in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pass_that_cannot_be_recorded_runs_as_it_is(gpu, monkeypatch, capsys):
    @contextlib.contextmanager
    def refuse(graph):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")
        yield

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    run = spec(TEXT)
    learner, plain = learner_of(run), learner_of(run)
    backward = Recorded(learner.backward, batch(run), [])
    assert backward(batch(run, 1)).item() == plain.backward(batch(run, 1)).item()
    assert "no CUDA graph, kernels are launched one by one (operation not permitted" in capsys.readouterr().err
