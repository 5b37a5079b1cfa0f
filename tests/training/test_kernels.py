"""Compiled, recorded and traced passes give the same numbers. Where only the bookkeeping is tested, a GPU is mocked."""

import contextlib
import gc
import shutil
import weakref

import pandas as pd
import pytest
import torch

from decaylab.data import prepare
from decaylab.files import Layout
from decaylab.training import kernels
from decaylab.training.kernels import CUDAGraph, Traced, compiled
from decaylab.training.learner import Learner, Stack
from decaylab.training.loop import Options, train
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
    backward = CUDAGraph(recorded.backward, batch(run, 0), list(recorded.buffers.values()))
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
    CUDAGraph(lambda pair: torch.rand(()) + learner.backward(pair), batch(run), list(learner.buffers.values()))
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
    backward = CUDAGraph(learner.backward, batch(run), [])
    assert backward(batch(run, 1)).item() == plain.backward(batch(run, 1)).item()
    assert "no CUDA graph, so kernels are launched one by one (operation not permitted" in capsys.readouterr().err


TRACED = CASES | {
    "gpt, dropout": TEXT | {"model": TEXT["model"] | {"dropout": 0.2}},
    "gpt, tied, with biases and norms of queries": TEXT
    | {"model": TEXT["model"] | {"tied": True, "bias": True, "qk_norm": True}},
    "gpt, micro-batches": TEXT | {"micro_batch_size": 2},
    "gpt, bfloat16": TEXT | {"precision": "bfloat16"},
    "gpt, weights in bfloat16": TEXT | {"precision": "bfloat16_weights"},
    "resnet, bfloat16": IMAGES | {"precision": "bfloat16"},
    "resnet, micro-batches": IMAGES | {"micro_batch_size": 8},
}


def assert_trains_alike(plain, traced, backward, batches):
    """Both for some steps on these batches: every bit of losses, gradients, weights and buffers."""
    losses = []
    for learner, run in ((plain, plain.backward), (traced, backward)):
        torch.manual_seed(0)
        found = []
        for step, pair in enumerate(batches):
            found.append(run(pair).clone())
            learner.update(step, logged=False)
        losses.append(torch.stack(found))
    assert torch.equal(*losses)
    assert torch.equal(traced.flat.gradient, plain.flat.gradient)
    assert torch.equal(traced.flat.weights, plain.flat.weights)
    for name, buffer in plain.buffers.items():
        assert torch.equal(traced.buffers[name], buffer), name


@pytest.mark.parametrize("case", TRACED)
def test_a_traced_pass_has_every_bit_of_a_plain_one(case, capsys):
    run = spec(TRACED[case])
    plain, traced = learner_of(run), learner_of(run)
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [batch(run, step) for step in range(4)])
    assert backward._repeat is not None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("case", CASES)
def test_a_traced_stack_has_every_bit_of_a_plain_one(case):
    runs = arms(CASES[case])
    plain, traced = (Stack([learner_of(run) for run in runs]) for _ in range(2))
    backward = Traced(traced.backward, traced.tensors)
    for step in range(3):
        stacked = tuple(torch.stack(parts) for parts in zip(*(batch(run, step) for run in runs), strict=True))
        assert torch.equal(backward(stacked), plain.backward(stacked))
        for one, other in zip(plain.learners, traced.learners, strict=True):
            assert torch.equal(one.flat.gradient, other.flat.gradient)
            one.update(step, logged=False)
            other.update(step, logged=False)
    assert backward._repeat is not None


def test_a_batch_of_another_shape_is_traced_anew():
    run = spec(TEXT)
    plain, traced = learner_of(run), learner_of(run)
    large, small = batch(run, 0), tuple(part[:2] for part in batch(run, 1))
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [large, large, small, small, large])


def test_tracing_keeps_no_tensor_of_its_batch():
    run = spec(IMAGES)
    learner = learner_of(run)
    pair = batch(run)
    backward = Traced(learner.backward, learner.tensors)
    backward(pair)
    gone = weakref.ref(pair[0])
    del pair
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda loss, outside: loss * outside, "reads a tensor from elsewhere"),
        (lambda loss, outside: loss * min(loss.item(), 1.0), "reads a number out of a tensor"),
    ],
    ids=["constant", "number"],
)
def test_what_would_go_stale_is_not_traced(spoil, reason, capsys, monkeypatch):
    """Else the first batch's value would be repeated in every step."""
    run = spec(TEXT)
    plain, traced = learner_of(run), learner_of(run)
    outside = torch.tensor(1.0)
    for learner in (plain, traced):
        loss = learner.loss
        monkeypatch.setattr(learner, "loss", lambda *pair, loss=loss: spoil(loss(*pair), outside))
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [batch(run, step) for step in range(3)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("decaylab: operations are not replayed, autograd runs each step (")
    assert reason in line


@pytest.mark.parametrize("base", [IMAGES, TEXT], ids=["resnet", "gpt"])
def test_a_scaled_loss_follows_its_scale(base, capsys):
    """The factor of float16 losses changes between steps."""
    run = spec(base, precision="float16")
    plain, traced = learner_of(run), learner_of(run)
    for learner in (plain, traced):
        learner.scaler.set_growth_interval(2)
        learner.scaler.set_growth_factor(1.7)
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [batch(run, step) for step in range(6)])
    assert traced.scaler.get_scale() != 2.0**16
    # made in the first pass and so a part of its list, but not of the second's
    assert "reads a tensor from elsewhere" in capsys.readouterr().err


def test_a_pass_that_changes_from_batch_to_batch_is_not_repeated(capsys, monkeypatch):
    run = spec(TEXT)
    plain, traced = learner_of(run), learner_of(run)
    for learner in (plain, traced):
        factors, loss = iter(range(1, 10)), learner.loss
        monkeypatch.setattr(learner, "loss", lambda *pair, factors=factors, loss=loss: loss(*pair) * next(factors))
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [batch(run, step) for step in range(4)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "two batches took different operations" in line


def test_what_is_too_long_is_not_traced(capsys, monkeypatch):
    monkeypatch.setattr(kernels._Recorder, "LIMIT", 100)
    run = spec(IMAGES)
    plain, traced = learner_of(run), learner_of(run)
    backward = Traced(traced.backward, traced.tensors)
    assert_trains_alike(plain, traced, backward, [batch(run, step) for step in range(3)])
    assert "more than 100 operations" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_training_is_the_same_with_and_without_graphs(case, tmp_path):
    run = spec(CASES[case])
    tables = []
    for graphs in ("off", "auto"):
        layout = Layout(tmp_path / graphs)
        prepare(run.data, layout)
        train(run, layout, Options(device="cpu", graphs=graphs))
        tables.append(pd.read_parquet(layout.metrics(run.run_id)))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
