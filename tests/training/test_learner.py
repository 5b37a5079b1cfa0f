"""Steps of one network, and of several stacked into one pass."""

import contextlib

import pandas as pd
import pytest
import torch

from decaylab.files import Layout
from decaylab.spec import RunSpec
from decaylab.training import loop, training_run
from decaylab.training.learner import Learner, Stack, stackable
from decaylab.training.loop import Options, train, train_together
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
