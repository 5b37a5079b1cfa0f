"""Every form of weight decay against torch's own (bit for bit) and against formulas written out per element."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decaylab.optim.decay import WeightDecay
from decaylab.optim.schedules import decay_multiplier_at
from decaylab.spec import GROUPS, Decay, DecaySchedule

FORMS = ("decoupled", "independent", "l2_gradient", "l2_loss", "cautious", "adamc")
SIZES = {"embedding": 3, "attention": 2, "mlp": 4, "convolution": 2, "norm": 2, "bias": 3, "head": 2}


def weights(dtype=torch.float32, scale=1.0, seed=0, sizes=SIZES):
    generator = torch.Generator().manual_seed(seed)
    return {
        group: (scale * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for group, size in sizes.items()
    }


def optimizer_of(parameters, make, **options):
    return make([{"params": list(parameters.values()), "groups": list(parameters)}], **options)


def set_gradients(parameters, seed):
    """The gradient depends on the weights, so that a difference, once there, grows."""
    generator = torch.Generator().manual_seed(seed)
    for weight in parameters.values():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)
        weight.grad = weight.detach().sin() + noise


def rates(step):
    return 0.03 * (1 + step % 7)


def trajectory(make, decay, steps=60, dtype=torch.float32, sizes=SIZES, **options):
    """Weights after `steps` updates with our decay."""
    parameters = weights(dtype, sizes=sizes)
    optimizer = optimizer_of(parameters, make, lr=1.0, weight_decay=0.0, **options)
    mine = WeightDecay(decay, optimizer, 1.0, steps)
    for step in range(steps):
        set_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = rates(step)
        mine.before_step(step, rates(step))
        optimizer.step()
    return parameters, mine


def torch_trajectory(make, weight_decay, steps=60, dtype=torch.float32, sizes=SIZES, multipliers=None, **options):
    """Weights after `steps` updates with torch's decay."""
    parameters = weights(dtype, sizes=sizes)
    factors = multipliers or {}
    decays = {group: weight_decay * factors.get(group, 1.0) for group in parameters}
    rules = [{"params": [weight], "weight_decay": decays[group]} for group, weight in parameters.items()]
    optimizer = make(rules, lr=1.0, **options)
    for step in range(steps):
        set_gradients(parameters, step)
        for group in optimizer.param_groups:
            group["lr"] = rates(step)
        optimizer.step()
    return parameters


SGDS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.2},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
MULTIPLIERS = {"embedding": 0.0, "norm": 0.25, "head": 3.0}
LARGE = {group: 1000 + 37 * index for index, group in enumerate(GROUPS)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("multipliers", [{}, MULTIPLIERS], ids=["uniform", "multipliers"])
def test_decoupled_is_torch_adamw_to_the_last_bit(dtype, multipliers):
    decay = Decay(weight_decay=0.37, multipliers=multipliers)
    mine, _ = trajectory(torch.optim.AdamW, decay, dtype=dtype, sizes=LARGE, foreach=True)
    theirs = torch_trajectory(torch.optim.AdamW, 0.37, dtype=dtype, sizes=LARGE, multipliers=multipliers, foreach=True)
    for group in GROUPS:
        assert torch.equal(mine[group], theirs[group]), group


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("multipliers", [{}, MULTIPLIERS], ids=["uniform", "multipliers"])
@pytest.mark.parametrize("options", SGDS.values(), ids=SGDS)
def test_l2_gradient_is_torch_sgd_to_the_last_bit(options, multipliers, dtype):
    decay = Decay(weight_decay=0.037, form="l2_gradient", multipliers=multipliers)
    mine, _ = trajectory(torch.optim.SGD, decay, dtype=dtype, sizes=LARGE, foreach=True, **options)
    theirs = torch_trajectory(
        torch.optim.SGD, 0.037, dtype=dtype, sizes=LARGE, multipliers=multipliers, foreach=True, **options
    )
    for group in GROUPS:
        assert torch.equal(mine[group], theirs[group]), group


def test_l2_gradient_is_torch_adam_to_the_last_bit():
    decay = Decay(weight_decay=0.37, form="l2_gradient")
    mine, _ = trajectory(torch.optim.AdamW, decay, sizes=LARGE, foreach=True)
    theirs = torch_trajectory(torch.optim.Adam, 0.37, sizes=LARGE, foreach=True)
    assert all(torch.equal(mine[group], theirs[group]) for group in GROUPS)


@pytest.mark.parametrize(
    ("form", "make", "options"),
    [("decoupled", torch.optim.AdamW, {})] + [("l2_gradient", torch.optim.SGD, options) for options in SGDS.values()],
)
def test_fused_kernels_agree_up_to_their_rounding(form, make, options):
    """A fused kernel holds decay and update in registers and, where the processor has one instruction for multiply
    and add, may leave out the rounding between them. So a few units in the last place a step are allowed here."""
    decay = Decay(weight_decay=0.037, form=form)
    mine, _ = trajectory(make, decay, steps=20, sizes=LARGE, fused=True, **options)
    theirs = torch_trajectory(make, 0.037, steps=20, sizes=LARGE, fused=True, **options)
    for group in GROUPS:
        torch.testing.assert_close(mine[group], theirs[group], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("form", FORMS)
def test_no_decay_leaves_every_bit(form):
    for make in (torch.optim.AdamW, torch.optim.SGD):
        mine, _ = trajectory(make, Decay(weight_decay=0.0, form=form), sizes=LARGE, fused=True)
        theirs = torch_trajectory(make, 0.0, sizes=LARGE, fused=True)
        assert all(torch.equal(mine[group], theirs[group]) for group in GROUPS)


class Reference:
    """One weight in Python floats: optimizer and decay written out as in the papers."""

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

    def step(self, gradient, form, normalised, coefficient, learning_rate, peak):
        w = self.weight
        if form in ("l2_gradient", "l2_loss"):
            gradient = gradient + coefficient * w
        u = self.direction(gradient)
        if form == "decoupled":
            shrunk = learning_rate * coefficient * w
        elif form == "independent":
            shrunk = coefficient * w
        elif form == "cautious":
            shrunk = learning_rate * coefficient * w if u * w >= 0 else 0.0
        elif form == "adamc":
            shrunk = learning_rate * coefficient * (learning_rate / peak if normalised else 1.0) * w
        else:
            shrunk = 0.0
        self.weight = w - shrunk - learning_rate * u


optimizers = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.just("adamw"),
            "betas": st.tuples(st.floats(0, 0.99), st.floats(0, 0.999)),
            "eps": st.sampled_from([1e-8, 1e-3]),
        }
    ),
    st.sampled_from([{"name": "sgd"} | options for options in SGDS.values()]),
)
schedules = st.builds(
    DecaySchedule,
    kind=st.sampled_from(["constant", "linear", "cosine", "follow_learning_rate", "window"]),
    final_fraction=st.floats(0, 2),
    start=st.floats(0, 0.5),
    end=st.floats(0.5, 1),
)


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    options=optimizers,
    schedule=schedules,
    weight_decay=st.floats(0, 0.5),
    multipliers=st.dictionaries(st.sampled_from(GROUPS), st.sampled_from([0.0, 0.5, 2.0])),
    peak=st.floats(0.01, 0.5),
    fractions=st.lists(st.floats(0, 1), min_size=2, max_size=9),
    seed=st.integers(0, 1000),
)
def test_every_form_equals_formulas_written_out_per_element(
    form, options, schedule, weight_decay, multipliers, peak, fractions, seed
):
    if form == "l2_loss":
        schedule = DecaySchedule()
    decay = Decay(weight_decay=weight_decay, form=form, schedule=schedule, multipliers=multipliers)
    steps = len(fractions)
    parameters = weights(torch.float64, seed=seed)
    make = torch.optim.AdamW if options["name"] == "adamw" else torch.optim.SGD
    extra = {key: value for key, value in options.items() if key != "name"}
    optimizer = optimizer_of(parameters, make, lr=peak, weight_decay=0.0, fused=True, **extra)
    mine = WeightDecay(decay, optimizer, peak, steps)
    references = {group: [Reference(w, options) for w in weight.tolist()] for group, weight in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    for step, fraction in enumerate(fractions):
        learning_rate = peak * fraction
        pull = {
            group: torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            for group, weight in parameters.items()
        }
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad()
        loss = sum((parameters[group] * pull[group]).sum() for group in parameters)
        penalty = mine.loss_penalty(step)
        (loss if penalty is None else loss + penalty).backward()
        mine.before_step(step, learning_rate)
        optimizer.step()
        multiplier = decay_multiplier_at(schedule, steps, step, learning_rate / peak)
        for group, elements in references.items():
            coefficient = weight_decay * multipliers.get(group, 1.0) * multiplier
            normalised = group in ("attention", "mlp", "convolution")
            for element, gradient in zip(elements, pull[group].tolist(), strict=True):
                element.step(gradient, form, normalised, coefficient, learning_rate, peak)
    for group, elements in references.items():
        expected = torch.tensor([element.weight for element in elements], dtype=torch.float64)
        torch.testing.assert_close(parameters[group].detach(), expected, rtol=1e-9, atol=1e-11)


def with_zero_gradients(parameters):
    for weight in parameters.values():
        weight.grad = torch.zeros_like(weight)


@pytest.mark.parametrize("form", ["decoupled", "independent", "cautious", "adamc"])
@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.SGD])
def test_without_gradients_each_group_shrinks_by_its_factor(form, make):
    multipliers = {"attention": 2.0, "bias": 0.0, "norm": 0.5}
    decay = Decay(weight_decay=0.1, form=form, multipliers=multipliers)
    parameters = weights(torch.float64)
    before = {group: weight.detach().clone() for group, weight in parameters.items()}
    optimizer = optimizer_of(parameters, make, lr=0.2, weight_decay=0.0, fused=True)
    mine = WeightDecay(decay, optimizer, 0.4, 100)
    with_zero_gradients(parameters)
    for step in range(3):
        mine.before_step(step, 0.2)
        optimizer.step()
    for group, weight in parameters.items():
        shrink = 0.1 * multipliers.get(group, 1.0)
        if form != "independent":
            shrink *= 0.2
        if form == "adamc" and group in ("attention", "mlp", "convolution"):
            shrink *= 0.5
        torch.testing.assert_close(weight.detach(), before[group] * (1 - shrink) ** 3, rtol=1e-14, atol=0)
    assert torch.equal(parameters["bias"], before["bias"])


@pytest.mark.parametrize("form", FORMS)
def test_groups_with_multiplier_zero_see_no_decay(form):
    """Step by step, with the same gradients, they equal a run without decay to the last bit."""
    multipliers = {"norm": 0.0, "embedding": 0.0}

    def run(weight_decay):
        parameters = weights()
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0, fused=True)
        mine = WeightDecay(Decay(weight_decay=weight_decay, form=form, multipliers=multipliers), optimizer, 0.1, 20)
        for step in range(20):
            optimizer.zero_grad()
            loss = sum(weight.sin().sum() for weight in parameters.values())
            penalty = mine.loss_penalty(step)
            (loss if penalty is None else loss + penalty).backward()
            mine.before_step(step, 0.1)
            optimizer.step()
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


def test_loss_penalty_is_half_the_sum_of_squares():
    parameters = weights(torch.float64)
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    decay = Decay(weight_decay=0.3, form="l2_loss", multipliers={"bias": 0.0, "head": 2.0})
    penalty = WeightDecay(decay, optimizer, 0.1, 10).loss_penalty(0)
    squares = {group: weight.detach().square().sum().item() for group, weight in parameters.items()}
    factors = {group: {"bias": 0, "head": 2}.get(group, 1) for group in squares}
    expected = 0.15 * sum(factors[group] * squares[group] for group in squares)
    assert penalty.item() == pytest.approx(expected)
    for form in FORMS:
        if form != "l2_loss":
            other = WeightDecay(Decay(weight_decay=0.3, form=form), optimizer, 0.1, 10)
            assert other.loss_penalty(0) is None


def test_loss_penalty_keeps_its_coefficient_for_bfloat16_weights():
    parameters = weights(torch.bfloat16, sizes={"mlp": 1000})
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.123456, form="l2_loss"), optimizer, 0.1, 10)
    mine.loss_penalty(1).backward()
    expected = (0.123456 * parameters["mlp"].detach().float()).to(torch.bfloat16)
    assert torch.equal(parameters["mlp"].grad, expected)


@pytest.mark.parametrize("form", FORMS)
def test_a_skipped_step_changes_nothing(form):
    parameters = weights()
    optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5, form=form), optimizer, 0.1, 100)
    set_gradients(parameters, 0)
    for step in (0, 1):
        before = {group: weight.detach().clone() for group, weight in parameters.items()}
        mine.before_step(step, 0.1, skipped=torch.tensor(True))
        assert all(torch.equal(parameters[group], before[group]) for group in parameters)
    if form not in ("l2_gradient", "l2_loss"):
        assert mine.applied()["mlp"]["steps"] == []


@pytest.mark.parametrize("form", ["decoupled", "cautious", "independent", "adamc"])
def test_a_step_that_is_not_skipped_is_an_ordinary_one(form):
    results = []
    for skipped in (None, torch.tensor(False)):
        parameters = weights(sizes=LARGE)
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
        mine = WeightDecay(Decay(weight_decay=0.3, form=form), optimizer, 0.1, 100)
        set_gradients(parameters, 0)
        for step in range(3):
            mine.before_step(step, 0.07, skipped)
        results.append((parameters, mine.applied()))
    (first, first_applied), (second, second_applied) = results
    assert all(torch.equal(first[group], second[group]) for group in GROUPS)
    assert first_applied == second_applied


@pytest.mark.parametrize("form", FORMS)
def test_applied_decay_is_what_the_spec_demands(form):
    schedule = DecaySchedule() if form == "l2_loss" else DecaySchedule(kind="linear", final_fraction=0.5)
    multipliers = {"mlp": 2.0, "bias": 0.0}
    decay = Decay(weight_decay=0.2, form=form, schedule=schedule, multipliers=multipliers)
    parameters = weights(sizes=LARGE)
    optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.05, weight_decay=0.0, fused=True)
    steps, peak = 43, 0.1
    mine = WeightDecay(decay, optimizer, peak, steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss = sum((0.3 * weight).sin().sum() for weight in parameters.values())
        penalty = mine.loss_penalty(step)
        (loss if penalty is None else loss + penalty).backward()
        mine.before_step(step, 0.05)
        optimizer.step()
    applied = mine.applied()
    assert list(applied) == list(GROUPS)
    measured_at = [0, 4, 12, 21, 30, 38]
    for group, values in applied.items():
        assert values["steps"] == [step + 1 for step in measured_at]
        expected = 0.0
        for step in measured_at:
            rate = 0.2 * multipliers.get(group, 1.0) * decay_multiplier_at(schedule, steps, step, 0.5)
            if form in ("decoupled", "cautious", "adamc"):
                rate *= 0.05
            if form == "adamc" and group in ("attention", "mlp", "convolution"):
                rate *= 0.5
            expected += rate / len(measured_at)
        assert values["configured"] == pytest.approx(expected, rel=1e-12)
        assert values["measured"] == pytest.approx(expected, rel=1e-5)
        assert ("share" in values) == (form == "cautious")
        if form == "cautious":
            assert 0.2 < values["share"] < 0.9


def test_applied_decay_shows_what_bfloat16_loses():
    """A shrink of 1e-4 is below half the spacing of bfloat16 numbers (2^-9 to 2^-8 of the weight): none survives."""
    decay = Decay(weight_decay=0.1)
    for rate, dtype, expected in [
        (1e-3, torch.float32, pytest.approx(1e-4, rel=1e-3)),
        (1e-3, torch.bfloat16, 0.0),
        (0.2, torch.bfloat16, pytest.approx(0.02, rel=0.02)),
    ]:
        parameters = weights(dtype, sizes={"mlp": 5000})
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=rate, weight_decay=0.0)
        mine = WeightDecay(decay, optimizer, rate, 10)
        set_gradients(parameters, 0)
        mine.before_step(0, rate)
        assert mine.applied()["mlp"]["measured"] == expected
        assert mine.applied()["mlp"]["configured"] == pytest.approx(rate * 0.1)


@pytest.mark.parametrize(("shrink", "acts"), [(0.999 * 2**-9, False), (1.001 * 2**-8, True)])
def test_bounds_between_which_bfloat16_loses_some_decay(shrink, acts):
    weight = (torch.arange(128, 256) / 128).to(torch.bfloat16).requires_grad_()  # every bfloat16 number in [1, 2)
    before = weight.detach().clone()
    optimizer = optimizer_of({"mlp": weight}, torch.optim.SGD, lr=1.0, weight_decay=0.0)
    weight.grad = torch.zeros_like(weight)
    WeightDecay(Decay(weight_decay=shrink, form="independent"), optimizer, 1.0, 100).before_step(0, 1.0)
    assert (weight < before).tolist() == [acts] * 128


def test_share_of_cautious_decay():
    weight = torch.tensor([1.0, -1.0, 2.0, -2.0, 3.0], requires_grad=True)
    weight.grad = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0])
    optimizer = optimizer_of({"mlp": weight}, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5, form="cautious"), optimizer, 0.1, 10)
    mine.before_step(0, 0.1)
    # same sign, or no update at all: u w >= 0
    torch.testing.assert_close(weight.detach(), torch.tensor([0.95, -1.0, 2.0, -1.9, 2.85]))
    applied = mine.applied()["mlp"]
    assert applied["share"] == pytest.approx(0.6)
    assert applied["measured"] == pytest.approx(0.05, rel=1e-6)


def test_zero_weights_and_infinite_weights_say_nothing():
    parameters = {"mlp": torch.zeros(3, requires_grad=True), "head": torch.ones(3, requires_grad=True)}
    optimizer = optimizer_of(parameters, torch.optim.SGD, lr=0.1, weight_decay=0.0)
    mine = WeightDecay(Decay(weight_decay=0.5), optimizer, 0.1, 2)
    with_zero_gradients(parameters)
    mine.before_step(0, 0.1)
    parameters["head"].data.fill_(math.inf)
    mine.before_step(1, 0.1)
    applied = mine.applied()
    assert math.isnan(applied["mlp"]["measured"])
    assert applied["mlp"]["steps"] == []
    assert applied["head"]["steps"] == [1]
    assert applied["head"]["measured"] == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_measurements_survive_a_checkpoint(form):
    decay = Decay(weight_decay=0.3, form=form)

    def build():
        parameters = weights(sizes=LARGE)
        optimizer = optimizer_of(parameters, torch.optim.AdamW, lr=0.1, weight_decay=0.0)
        return parameters, optimizer, WeightDecay(decay, optimizer, 0.1, 30)

    def advance(state, first, last):
        parameters, optimizer, mine = state
        for step in range(first, last):
            set_gradients(parameters, step)
            if (penalty := mine.loss_penalty(step)) is not None:
                penalty.backward()
            mine.before_step(step, 0.1)
            optimizer.step()

    whole, first, second = build(), build(), build()
    advance(whole, 0, 30)
    advance(first, 0, 13)
    for group, weight in first[0].items():
        second[0][group].data.copy_(weight)
    second[1].load_state_dict(first[1].state_dict())
    second[2].load_state_dict({key: value.clone() for key, value in first[2].state_dict().items()})
    advance(second, 13, 30)
    assert second[2].applied() == whole[2].applied()
    assert len(whole[2].applied()["mlp"]["steps"]) == 6


def test_refuses_an_optimizer_that_decays_by_itself():
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.01)
    with pytest.raises(ValueError, match="own decay must be off"):
        WeightDecay(Decay(), optimizer, 0.1, 10)


def test_logged_coefficient_follows_the_schedule():
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    decay = Decay(weight_decay=0.4, schedule=DecaySchedule(kind="follow_learning_rate"))
    mine = WeightDecay(decay, optimizer, 0.1, 10)
    assert mine.coefficient(3, 0.025) == pytest.approx(0.1)
    assert mine.rate("mlp", 3, 0.025) == pytest.approx(0.0025)


def test_what_decay_means_to_subtract():
    weight, update = torch.tensor([2.0, -2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0])
    expected = {"decoupled": [0.04, -0.04, 0.06], "cautious": [0.04, 0.0, 0.06], "l2_gradient": [0.0, 0.0, 0.0]}
    optimizer = optimizer_of(weights(), torch.optim.AdamW, lr=0.1, weight_decay=0.0)
    for form, values in expected.items():
        mine = WeightDecay(Decay(weight_decay=0.2, form=form), optimizer, 0.1, 10)
        found = mine.intended("mlp", weight.to(torch.bfloat16), update, 3, 0.1)
        torch.testing.assert_close(found.abs(), torch.tensor(values).abs(), rtol=1e-6, atol=0)
        assert torch.equal(found.sign()[found != 0], weight.sign()[found != 0])
