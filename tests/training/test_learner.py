"""Steps of one network, and of several stacked into one pass."""

import contextlib

import pandas as pd
import pytest
import torch

from decaylab.files import Layout
from decaylab.models import BatchNorm2d
from decaylab.spec import RunSpec
from decaylab.training import loop, training_run
from decaylab.training.learner import Learner, Stack, stackable
from decaylab.training.loop import Options, train, train_together
from decaylab.yaml_files import merge
from tests.training.cases import CASES, IMAGES, TEXT, arms, spec


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    return Layout(tmp_path_factory.mktemp("results"))


@contextlib.contextmanager
def default(dtype: torch.dtype):
    old = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(old)


def frame(layout: Layout, run: RunSpec) -> pd.DataFrame:
    return pd.read_parquet(layout.metrics(run.run_id))


@pytest.mark.parametrize("case", CASES)
def test_runs_together_equal_runs_alone_in_float64(tmp_path, layout, case, monkeypatch):
    runs = arms(CASES[case] | {"ema": None})  # an average is float32 whatever the weights are
    assert len({stackable(run) for run in runs}) == 1
    for place in ("alone", "together"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr(training_run, "load", in_float64(training_run.load))
    with default(torch.float64):
        alone = [train(run, Layout(tmp_path / "alone")) for run in runs]
        together = train_together(runs, Layout(tmp_path / "together"))
    for run, one, many in zip(runs, alone, together, strict=True):
        assert (one["trained_together"], many["trained_together"]) == (1, 3)
        assert many["run_id"] == run.run_id
        a, b = frame(Layout(tmp_path / "alone"), run), frame(Layout(tmp_path / "together"), run)
        pd.testing.assert_frame_equal(a, b, rtol=1e-9, atol=1e-12)
        for group, value in one["applied_decay"].items():
            assert many["applied_decay"][group]["measured"] == pytest.approx(value["measured"], rel=1e-9, abs=1e-12)


def in_float64(load):
    """Data made as ever, in float32, and then widened, so that nothing in a step is float32."""

    def widen(batch):
        return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in batch)

    def loaded(*arguments, **options):
        with default(torch.float32):
            data = load(*arguments, **options)
        batch, evaluation = data.batch, data.evaluation
        data.batch = lambda step: widen(batch(step))
        data.evaluation = lambda split, examples: map(widen, evaluation(split, examples))
        return data

    return loaded


def test_runs_together_are_stopped_at_every_step_and_end_with_the_same_bits(tmp_path):
    runs = arms(IMAGES)
    train_together(runs, Layout(tmp_path / "once"))
    other = Layout(tmp_path / "often")
    asked = iter(range(10**6))
    stops = 0
    while True:
        try:
            train_together(runs, other, Options(stop=lambda: next(asked) % 2 == 1))
            break
        except loop.Interrupted:
            stops += 1
    assert stops >= runs[0].steps - 1
    for run in runs:
        pd.testing.assert_frame_equal(frame(Layout(tmp_path / "once"), run), frame(other, run), check_exact=True)
    assert not list((other.results / "state").glob("together-*"))


def test_killed_between_two_records_the_same_runs_go_on_together(tmp_path, monkeypatch):
    runs = arms(TEXT)
    train_together(runs, Layout(tmp_path / "once"))
    other = Layout(tmp_path / "killed")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    finish = training_run.TrainingRun.finish

    def killed(self, *arguments):
        if self.spec == runs[1]:
            raise KeyboardInterrupt
        return finish(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training_run.TrainingRun, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            train_together(runs, other)
    summaries = train_together(runs, other)
    assert [summary["trained_together"] for summary in summaries] == [3, 3, 3]
    for run in runs:
        pd.testing.assert_frame_equal(frame(Layout(tmp_path / "once"), run), frame(other, run), check_exact=True)


def test_a_run_that_is_lost_leaves_its_neighbours_alone(tmp_path, layout):
    runs = [spec(IMAGES, steps=30), spec(IMAGES, steps=30, seed=1, optimizer={"learning_rate": 1e30})]
    fine, lost = train_together(runs, Layout(tmp_path))
    assert lost["diverged_at_step"] is not None
    assert lost["steps_done"] < 30
    assert fine["diverged_at_step"] is None
    assert fine["steps_done"] == 30
    alone = train(runs[0], layout)
    # float32 in another order of summation
    assert fine["final"]["train_loss"] == pytest.approx(alone["final"]["train_loss"], rel=0.05)


IMAGE_CASES = {name: case for name, case in CASES.items() if case["data"]["kind"] == "images"} | {
    "vgg with batch norm": CASES["vgg"] | {"model": CASES["vgg"]["model"] | {"batch_norm": True}},
    "resnet without affine norms": merge(IMAGES, {"model": {"norm_affine": False}}),
}


@pytest.mark.parametrize("case", IMAGE_CASES)
def test_image_networks_train_with_bfloat16_weights(tmp_path, case):
    """Alone and together, with an average in float32: batches, evaluations and batch statistics."""
    runs = [spec(IMAGE_CASES[case], precision="bfloat16_weights", seed=seed) for seed in range(2)]
    alone = train(runs[0], Layout(tmp_path / "alone"))
    together = train_together(runs, Layout(tmp_path / "together"))[0]
    plain = train(spec(IMAGE_CASES[case]), Layout(tmp_path / "float32"))
    for name in ("train_loss", "test_loss", "ema_train_loss", "ema_test_loss"):
        assert alone["final"][name] == pytest.approx(plain["final"][name], rel=0.1)
        assert together["final"][name] == pytest.approx(alone["final"][name], rel=0.1)


def test_batch_statistics_stay_float32_beside_bfloat16_weights():
    run = spec(IMAGES, precision="bfloat16_weights")
    learner = Learner(run, 10, torch.device("cpu"))
    assert {weight.dtype for weight in learner.model.parameters()} == {torch.bfloat16}
    statistics = {name: buffer for name, buffer in learner.buffers.items() if "running" in name}
    assert {buffer.dtype for buffer in statistics.values()} == {torch.float32}
    norms = [module for module in learner.model.to("cpu").modules() if isinstance(module, BatchNorm2d)]
    assert all(norm.narrow for norm in norms)
    assert not any(norm.narrow for norm in learner.ema.modules() if isinstance(norm, BatchNorm2d))
    learner.backward((torch.randn(16, 3, 8, 8), torch.randint(10, (16,))))
    assert all((buffer != buffer.to(torch.bfloat16)).any() for buffer in statistics.values())


@pytest.fixture
def poisoned():
    """Memory that nobody has filled yet holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": True}, {"dampening": 0.5}], ids=["momentum", "nesterov", "dampening"]
)
def test_a_first_update_that_overflows_leaves_momentum_as_it_should_be(poisoned, options):
    run = spec(CASES["mlp"], precision="float16", ema=None, optimizer=options)
    learner, fresh = (Learner(run, 10, torch.device("cpu")) for _ in range(2))
    batch = torch.randn(16, 3, 8, 8), torch.randint(10, (16,))
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**26})
    before = learner.flat.weights.clone()
    skipped = 0
    while torch.equal(learner.flat.weights, before):
        learner.backward(batch)
        learner.update(1, logged=False)
        skipped += 1
        assert skipped < 20
    assert skipped > 1, "the first update overflowed"
    fresh.scaler.load_state_dict(fresh.scaler.state_dict() | {"scale": learner.scaler.get_scale()})
    fresh.backward(batch)
    fresh.update(1, logged=False)
    assert torch.equal(learner.flat.weights, fresh.flat.weights)
    for weight in learner.flat.groups.values():
        assert torch.equal(learner.optimizer.state[weight]["momentum_buffer"], weight.grad), (
            "the first step's buffer is the gradient"
        )


def test_a_skipped_update_is_no_measured_step_of_decay_in_the_loss():
    decay = {"form": "l2_loss", "weight_decay": 0.01}
    learner = Learner(spec(CASES["mlp"], precision="float16", decay=decay), 10, torch.device("cpu"))
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**26})
    for step in range(12):
        learner.backward((torch.randn(16, 3, 8, 8), torch.randint(10, (16,))))
        learner.update(step, logged=False)
    steps = learner.decay.applied()["mlp"]["steps"]
    assert 1 not in steps
    assert 11 in steps


def test_gradients_of_large_networks_are_clipped_to_their_exact_norm():
    """One sum over 40 million squares is 0.3 % too small on a CPU; 1.3 million weights show it already."""
    run = spec(IMAGES | {"model": {"kind": "mlp", "width": 1000, "depth": 2}}, gradient_clip=1e-3, ema=None)
    learner = Learner(run, 10, torch.device("cpu"))
    learner.backward((torch.randn(16, 3, 8, 8), torch.randint(10, (16,))))
    learner.flat.gradient.copy_(torch.randn(len(learner.flat.gradient)))
    norm = learner.flat.gradient.double().norm().item()
    measured = learner.update(0, logged=True)
    assert measured["gradient_norm"].item() == pytest.approx(norm, rel=1e-6)
    assert learner.flat.gradient.double().norm().item() == pytest.approx(1e-3, rel=1e-5)


def test_what_may_be_stacked():
    run = spec(TEXT)
    assert stackable(run) == stackable(spec(TEXT, seed=5, optimizer={"learning_rate": 1e-4}, decay={"form": "adamc"}))
    assert stackable(run) != stackable(spec(TEXT, steps=13))
    assert stackable(run) != stackable(spec(TEXT, model={"width": 32}))
    assert stackable(run) != stackable(spec(TEXT, precision="bfloat16"))
    for change in ({"model": {"dropout": 0.1}}, {"micro_batch_size": 2}, {"precision": "float16"}):
        assert stackable(spec(TEXT, **change)) is None


def test_rows_of_a_stack_are_the_learners_own_weights():
    learners = [Learner(run, 10, torch.device("cpu")) for run in arms(IMAGES)]
    before = [[weight.clone() for weight in learner.model.parameters()] for learner in learners]
    stack = Stack(learners)
    for row, (learner, weights) in enumerate(zip(learners, before, strict=True)):
        for (name, weight), old in zip(learner.model.named_parameters(), weights, strict=True):
            assert torch.equal(weight, old)
            assert stack.parameters[name][row].data_ptr() == weight.data_ptr()
        for name, buffer in learner.model.named_buffers():
            assert stack.buffers[name][row].data_ptr() == buffer.data_ptr()
