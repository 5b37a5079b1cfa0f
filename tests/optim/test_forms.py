"""What holds for every decay form in the folder. A form added there is tested here without being named.

A form needs its rule for single weights in tests/optim/references/<form>.py.
"""

import importlib
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decaylab import plugins
from decaylab.optim.decay import WeightDecay
from decaylab.optim.schedules import decay_multiplier_at
from decaylab.spec import GROUPS, Decay, DecaySchedule
from tests.optim.cases import LARGE, SGDS, SIZES, optimizer_of, set_gradients, weights

FORMS = plugins.available("optim/forms")
SCHEDULES = {
    "constant": DecaySchedule(),
    "linear": DecaySchedule(kind="linear", final_fraction=0.5),
    "cosine": DecaySchedule(kind="cosine", final_fraction=0.2),
    "follow_learning_rate": DecaySchedule(kind="follow_learning_rate"),
    "window": DecaySchedule(kind="window", start=0.1, end=0.6),
}
MAKE = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def allowed(form: str, path: str, values: Any) -> list[Any]:
    """Those values that a form may be combined with."""
    required = plugins.literal("optim/forms", form, "REQUIRES") or {}
    return [value for value in values if value in required.get(path, values)]


def reference_of(decay: Decay, peak: float):
    module = importlib.import_module(f"tests.optim.references.{decay.form}")
    return module.Reference(decay.form_parameters, peak)


def update_of(form, optimizer, parameters, mine, step, learning_rate, skipped=None):
    """One step with gradients that depend on the weights; returns the gradients before decay."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    set_gradients(parameters, step)
    gradients = {group: weight.grad.tolist() for group, weight in parameters.items()}
    if (penalty := mine.loss_penalty(step)) is not None:
        penalty.backward()
    mine.before_step(step, learning_rate, skipped)
    optimizer.step()
    return gradients


class Element:
    """One weight in Python floats, moved by an optimizer written out as in the papers."""

    def __init__(self, weight, optimizer):
        self.weight, self.optimizer = weight, optimizer
        self.mean = self.square = 0.0
        self.buffer = None
        self.count = 0

    def direction(self, gradient):
        """u of w <- w - lr u."""
        self.count += 1
        options = self.optimizer
        if options["name"] == "adamw":
            beta1, beta2 = options["betas"]
            self.mean = beta1 * self.mean + (1 - beta1) * gradient
            self.square = beta2 * self.square + (1 - beta2) * gradient * gradient
            corrected = self.mean / (1 - beta1**self.count)
            return corrected / (math.sqrt(self.square / (1 - beta2**self.count)) + options["eps"])
        momentum = options.get("momentum", 0.0)
        if not momentum:
            return gradient
        if self.buffer is None:
            self.buffer = gradient
        else:
            self.buffer = momentum * self.buffer + (1 - options.get("dampening", 0.0)) * gradient
        return gradient + momentum * self.buffer if options.get("nesterov") else self.buffer

    def step(self, gradient, reference, group, coefficient, learning_rate):
        w, rate = self.weight, reference.rate(group, coefficient, learning_rate)
        if reference.acts_on != "weights":
            self.weight = w - learning_rate * self.direction(gradient + rate * w)
        else:
            u = self.direction(gradient)
            self.weight = w - rate * reference.factor(w, u) * w - learning_rate * u


optimizers = {
    "adamw": st.fixed_dictionaries(
        {
            "name": st.just("adamw"),
            "betas": st.tuples(st.floats(0, 0.99), st.floats(0, 0.999)),
            "eps": st.sampled_from([1e-8, 1e-3]),
        }
    ),
    "sgd": st.sampled_from([{"name": "sgd"} | options for options in SGDS.values()]),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)  # also run from a copy without conftest.py
@given(
    data=st.data(),
    weight_decay=st.floats(0, 0.5),
    multipliers=st.dictionaries(st.sampled_from(GROUPS), st.sampled_from([0.0, 0.5, 2.0])),
    peak=st.floats(0.01, 0.5),
    fractions=st.lists(st.floats(0, 1), min_size=2, max_size=9),
    seed=st.integers(0, 1000),
)
def test_equals_the_rule_written_out_per_weight(form, data, weight_decay, multipliers, peak, fractions, seed):
    options = data.draw(st.one_of([optimizers[name] for name in allowed(form, "optimizer.name", MAKE)]))
    schedule = SCHEDULES[data.draw(st.sampled_from(allowed(form, "decay.schedule.kind", SCHEDULES)))]
    decay = Decay(weight_decay=weight_decay, form=form, schedule=schedule, multipliers=multipliers)
    steps = len(fractions)
    parameters = weights(torch.float64, seed=seed)
    extra = {key: value for key, value in options.items() if key != "name"}
    optimizer = optimizer_of(parameters, MAKE[options["name"]], lr=peak, weight_decay=0.0, fused=True, **extra)
    mine, reference = WeightDecay(decay, optimizer, peak, steps), reference_of(decay, peak)
    elements = {group: [Element(w, options) for w in weight.tolist()] for group, weight in parameters.items()}
    for step, fraction in enumerate(fractions):
        learning_rate = peak * fraction
        gradients = update_of(form, optimizer, parameters, mine, step, learning_rate)
        reference.observe(gradients)
        multiplier = decay_multiplier_at(schedule, steps, step, learning_rate / peak)
        for group, members in elements.items():
            coefficient = weight_decay * multipliers.get(group, 1.0) * multiplier
            for element, gradient in zip(members, gradients[group], strict=True):
                element.step(gradient, reference, group, coefficient, learning_rate)
    for group, members in elements.items():
        expected = torch.tensor([element.weight for element in members], dtype=torch.float64)
        torch.testing.assert_close(parameters[group].detach(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "weight_decay", "scaled", "tolerance"),
    [
        (torch.float32, 0.02, False, 1e-5),
        (torch.float32, 0.02, True, 1e-5),  # float16, whose weights are float32 and whose steps may be skipped
        (torch.float64, 0.02, False, 1e-12),
        (torch.bfloat16, 0.8, False, 0.03),  # small decay would be lost to rounding
    ],
    ids=["float32", "float16", "float64", "bfloat16_weights"],
)
@pytest.mark.parametrize(
    ("form", "schedule"),
    [(form, kind) for form in FORMS for kind in allowed(form, "decay.schedule.kind", SCHEDULES)],
)
def test_applied_decay_is_what_the_spec_demands(form, schedule, dtype, weight_decay, scaled, tolerance):
    multipliers = {"mlp": 2.0, "bias": 0.0}
    decay = Decay(weight_decay=weight_decay, form=form, schedule=SCHEDULES[schedule], multipliers=multipliers)
    parameters, rate = weights(dtype, sizes=LARGE), 0.5
    optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=rate, weight_decay=0.0)
    steps, peak = 43, 2 * rate
    mine, reference = WeightDecay(decay, optimizer, peak, steps), reference_of(decay, peak)
    demanded: dict[str, list[float]] = {group: [] for group in GROUPS}
    measured_at = [0, 4, 12, 21, 30, 38]
    for step in range(steps):
        skipped = torch.tensor(False) if scaled else None
        gradients = update_of(form, optimizer, parameters, mine, step, rate, skipped)
        reference.observe(gradients)
        for group, values in demanded.items():
            if step in measured_at:
                multiplier = multipliers.get(group, 1.0) * decay_multiplier_at(SCHEDULES[schedule], steps, step, 0.5)
                values.append(reference.rate(group, weight_decay * multiplier, rate))
    applied = mine.applied()
    assert list(applied) == list(GROUPS)
    for group, values in applied.items():
        expected = sum(demanded[group]) / len(measured_at)
        assert values["steps"] == [step + 1 for step in measured_at]
        assert values["configured"] == pytest.approx(expected, rel=min(tolerance, 1e-6))
        assert values["measured"] == pytest.approx(expected, rel=tolerance)
        assert ("share" in values) == mine.form.selective
    assert applied["bias"]["measured"] == 0
    assert applied["mlp"]["measured"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_no_decay_leaves_every_bit(form):
    for make in (torch.optim.AdamW, torch.optim.SGD):
        results = []
        for decay in (Decay(form=form), Decay()):
            parameters = weights(sizes=LARGE)
            optimizer = optimizer_of(parameters, make, lr=0.1, weight_decay=0.0, fused=True)
            mine = WeightDecay(decay, optimizer, 0.1, 20)
            for step in range(20):
                update_of(form, optimizer, parameters, mine, step, 0.1)
            results.append(parameters)
        assert all(torch.equal(results[0][group], results[1][group]) for group in GROUPS)


@pytest.mark.parametrize("form", FORMS)
def test_groups_with_multiplier_zero_see_no_decay(form):
    """Step by step, with the same gradients, they equal a run without decay to the last bit."""
    multipliers = {"norm": 0.0, "embedding": 0.0}

    def run(weight_decay):
        parameters = weights()
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0, fused=True)
        mine = WeightDecay(Decay(weight_decay=weight_decay, form=form, multipliers=multipliers), optimizer, 0.1, 20)
        for step in range(20):
            update_of(form, optimizer, parameters, mine, step, 0.1)
        return parameters, mine.applied()

    (decayed, applied), (plain, _) = run(0.3), run(0.0)
    for group in SIZES:
        assert torch.equal(decayed[group], plain[group]) == (group in multipliers)
    assert applied["norm"]["measured"] == applied["embedding"]["measured"] == 0
    assert applied["mlp"]["measured"] > 0


@pytest.mark.parametrize("form", FORMS)
def test_parameters_without_gradient_stay(form):
    parameters = weights()
    optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5, form=form), optimizer, 0.1, 100)
    before = parameters["mlp"].detach().clone()
    set_gradients(parameters, 0)
    parameters["mlp"].grad = None
    for step in range(4):
        mine.before_step(step, 0.1)
        optimizer.step()
    assert torch.equal(parameters["mlp"], before)


@pytest.mark.parametrize("form", FORMS)
def test_a_skipped_step_changes_nothing_and_is_not_measured(form):
    parameters = weights()
    optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5, form=form), optimizer, 0.1, 100)
    for step in (0, 1):
        set_gradients(parameters, step)
        before = {group: weight.detach().clone() for group, weight in parameters.items()}
        mine.loss_penalty(step)
        mine.before_step(step, 0.1, skipped=torch.tensor(True))
        assert all(torch.equal(parameters[group], before[group]) for group in parameters)
    assert mine.applied()["mlp"]["steps"] == []


@pytest.mark.parametrize("form", FORMS)
def test_a_step_that_is_not_skipped_is_an_ordinary_one(form):
    results = []
    for skipped in (None, torch.tensor(False)):
        parameters = weights(sizes=LARGE)
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
        mine = WeightDecay(Decay(weight_decay=0.3, form=form), optimizer, 0.1, 100)
        for step in range(3):
            update_of(form, optimizer, parameters, mine, step, 0.07, skipped)
        results.append((parameters, mine.applied()))
    (first, first_applied), (second, second_applied) = results
    assert all(torch.equal(first[group], second[group]) for group in GROUPS)
    assert first_applied == second_applied


@pytest.mark.parametrize("form", FORMS)
def test_measurements_and_state_survive_a_checkpoint(form):
    decay = Decay(weight_decay=0.3, form=form)

    def build():
        parameters = weights(sizes=LARGE)
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
        return parameters, optimizer, WeightDecay(decay, optimizer, 0.1, 30)

    def advance(run, first, last):
        parameters, optimizer, mine = run
        for step in range(first, last):
            update_of(form, optimizer, parameters, mine, step, 0.1)

    whole, first, second = build(), build(), build()
    advance(whole, 0, 30)
    advance(first, 0, 13)
    for group, weight in first[0].items():
        second[0][group].data.copy_(weight)
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict({key: value.clone() for key, value in first[2].state_dict().items()})
    advance(second, 13, 30)
    assert all(torch.equal(whole[0][group], second[0][group]) for group in GROUPS)
    assert second[2].applied() == whole[2].applied()
    assert len(whole[2].applied()["mlp"]["steps"]) == 6
