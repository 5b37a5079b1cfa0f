"""When probes run, what they see, and what they may write."""

from __future__ import annotations

import math

import pytest
import torch

from decaylab.data import load
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.optim.schedules import learning_rate_at
from decaylab.probes._protocol import BaseProbe
from decaylab.training.evaluation import losses, refresh_batch_norm
from decaylab.training.learner import Learner
from decaylab.training.probing import Probing, example_passes
from tests.training.cases import CASES, spec


@pytest.fixture(scope="module")
def layout(tmp_path_factory) -> Layout:
    return Layout(tmp_path_factory.mktemp("results"))


@pytest.fixture
def setting(layout):
    """A function: case and probe -> learner, data and the probing of that probe alone."""

    def make(case: str, name: str, probe: BaseProbe, **changes):
        run = spec(CASES[case], **changes)
        context = run.model.context_length if run.model.kind == "gpt" else None
        data = load(run.data, layout, torch.device("cpu"), batch_size=run.batch_size, seed=0, context_length=context)
        learner = Learner(run, data.classes, torch.device("cpu"))
        probing = Probing(run, learner, data, 0)
        probing.probes = [(name, None, probe)]
        return learner, data, probing

    return make


class AngularUpdate(BaseProbe):
    """Angle (radians) by which an update turns all weights: needs them before and after."""

    moment = "update"

    def before(self, view):
        self.old = torch.cat([weight.detach().flatten().double() for weight in view.weights.values()])
        self.seen = [(view.step, view.learning_rate)]

    def measure(self, view):
        new = torch.cat([weight.detach().flatten().double() for weight in view.weights.values()])
        self.seen.append((view.step, view.learning_rate))
        cosine = torch.dot(self.old, new) / self.old.norm() / new.norm()
        return {"lost_updates": torch.acos(cosine.clamp(max=1))}


@pytest.mark.parametrize("case", ["resnet", "gpt"])
def test_a_probe_around_an_update_sees_the_weights_before_and_after_it(setting, case):
    probe = AngularUpdate()
    learner, data, probing = setting(case, "lost_updates", probe)
    run = learner.spec
    before = after = None
    for step in range(run.evaluation.every):
        learner.backward(data.batch(step))
        values: dict = {}
        before = torch.cat([weight.detach().flatten().double() for weight in learner.parameters.values()])
        hook = probing.around_update(step + 1, values)
        learner.update(step, logged=False, after=hook)
        after = torch.cat([weight.detach().flatten().double() for weight in learner.parameters.values()])
        assert (hook is not None) == (step + 1 == run.evaluation.every) == bool(values)
    expected = math.acos(min(1.0, float(before @ after / before.norm() / after.norm())))
    assert values["lost_updates"].item() == pytest.approx(expected, rel=1e-6)
    assert expected > 0
    rate = learning_rate_at(run.schedule, run.optimizer.learning_rate, run.steps, step)
    assert probe.seen == [(step, rate), (step + 1, rate)]


class Curvature(BaseProbe):
    """Second derivative of the loss along a direction of its own, and the same by differences."""

    def measure(self, view):
        inputs, targets = next(view.batches("train", 8))
        weights = {name: weight.detach().double().requires_grad_() for name, weight in view.weights.items()}
        buffers = {
            name: buffer.double() if buffer.is_floating_point() else buffer for name, buffer in view.buffers.items()
        }
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        along = {
            name: torch.randn(weight.shape, generator=view.generator, dtype=torch.float64)
            for name, weight in weights.items()
        }

        def slope(shift: float, graph: bool):
            moved = {name: weight + shift * along[name] for name, weight in weights.items()}
            loss = view.loss(moved, buffers, inputs, targets)
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=graph)
            return sum((a * b).sum() for a, b in zip(slopes, along.values(), strict=True))

        turned = torch.autograd.grad(slope(0.0, True), list(weights.values()))
        exact = sum((a * b).sum() for a, b in zip(turned, along.values(), strict=True))
        differences = (slope(1e-6, False) - slope(-1e-6, False)) / 2e-6
        return {"max_weight": exact.detach(), "max_logit": differences.detach()}


@pytest.mark.parametrize("case", ["mlp", "gpt"])
def test_a_probe_may_differentiate_twice(setting, case):
    """Fused attention has no second derivative."""
    _, _, probing = setting(case, "attention", Curvature())
    found = probing.measure("evaluation", 6)
    assert found["max_weight"].item() == pytest.approx(found["max_logit"].item(), rel=1e-3)


class OfTheAverage(BaseProbe):
    """Loss of the averaged weights on the training examples."""

    def measure(self, view):
        inputs, targets = next(view.batches("train", 32))
        with torch.no_grad():
            return {"max_weight": torch.nn.functional.cross_entropy(view.average()(inputs), targets)}


def test_averaged_weights_have_batch_statistics_of_their_own(setting):
    """The loss is that of the evaluation, although the average was last looked at before any update."""
    learner, data, probing = setting("resnet", "attention", OfTheAverage())
    for step in range(6):
        learner.backward(data.batch(step))
        learner.update(step, logged=False)
    found = probing.measure("evaluation", 6)["max_weight"]
    refresh_batch_norm(learner.ema, data.evaluation("train", 32), learner.model)
    expected = losses(learner.ema, data, "train", 32, learner.autocast)["train_loss"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_run_without_an_average_has_none_to_measure(setting):
    _, _, probing = setting("resnet", "attention", OfTheAverage(), ema=None)
    with pytest.raises(InputError, match="a probe asks for averaged weights; expected `ema`"):
        probing.measure("evaluation", 6)


class Writes(BaseProbe):
    def __init__(self, values):
        self.values = values

    def measure(self, view):
        return self.values


def test_a_probe_writes_only_what_it_declares(setting):
    _, _, probing = setting("mlp", "lost_updates", Writes({"lost_updates.mlp": 0.5}))
    assert probing.measure("evaluation", 6) == {"lost_updates.mlp": 0.5}
    _, _, probing = setting("mlp", "lost_updates", Writes({"batch_loss": 0.5}))
    with pytest.raises(TypeError, match=r"lost_updates\.py writes batch_loss; expected the columns in COLUMNS"):
        probing.measure("evaluation", 6)
    _, _, probing = setting("mlp", "lost_updates", Writes({"lost_updates": "many"}))
    with pytest.raises(TypeError, match="expected a number before the end of a run, got text"):
        probing.measure("evaluation", 6)


def test_a_probe_cannot_write_a_column_of_the_training(monkeypatch):
    from decaylab.spec import evaluation

    monkeypatch.setattr(evaluation, "declared", lambda *_: {"ema_test_loss": ("loss", "nats")})
    with pytest.raises(InputError, match="attention writes the column ema_test_loss, which the training itself writes"):
        spec(CASES["gpt"], evaluation={"probes": ["attention"]})


@pytest.mark.parametrize(
    ("probe", "calls", "each"),
    [
        ("attention", 3, 8),  # before the first step, at 6 and at 12
        ({"attention": {"every": 5}}, 4, 8),  # 0, 5, 10 and 12
        ({"lost_updates": {"every": 5}}, 3, 1),
        ("completion", 1, 20),
    ],
)
def test_measurements_are_priced_one_by_one(probe, calls, each):
    assert example_passes(spec(CASES["gpt"], evaluation={"probes": [probe]})) == calls * each
