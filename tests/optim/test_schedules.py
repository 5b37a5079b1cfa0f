import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.optim.schedules import decay_multiplier_at, learning_rate_at
from decaylab.spec import DecaySchedule, Drop, Schedule


@st.composite
def falling(draw):
    """A cosine or linear schedule, its peak and the steps of its run."""
    warmup = draw(st.integers(0, 50))
    horizon = draw(st.integers(warmup + 1, 300))
    schedule = Schedule(
        kind=draw(st.sampled_from(["cosine", "linear"])),
        warmup_steps=warmup,
        final_fraction=draw(st.floats(0, 1)),
        horizon=horizon,
    )
    return schedule, draw(st.floats(1e-6, 10)), draw(st.integers(max(warmup, 1), 400))


@given(falling())
def test_rises_to_the_peak_then_falls_to_the_final_fraction(case):
    schedule, peak, steps = case
    rates = [learning_rate_at(schedule, peak, steps, step) for step in range(400)]
    warmup, horizon = schedule.warmup_steps, schedule.horizon
    assert all(a < b for a, b in pairwise(rates[: warmup + 1]))
    tail = rates[warmup:]
    assert all(a >= b - 1e-12 * peak for a, b in pairwise(tail))
    # the first value after warm-up continues the line: continuous at the join
    assert rates[warmup] == pytest.approx(peak, rel=1e-12)
    assert rates[horizon:] == [peak * schedule.final_fraction] * (400 - horizon)


def test_first_update_of_a_warmup_does_nothing():
    schedule = Schedule(warmup_steps=4)
    assert [learning_rate_at(schedule, 2.0, 10, step) for step in range(6)] == [0, 0.5, 1, 1.5, 2, 2]


def test_cosine_of_the_epfl_language_models():
    """6e-4 to 6e-5 over 50,000 steps with 400 of warm-up: nanoGPT's rule, written out."""
    schedule = Schedule(kind="cosine", warmup_steps=400, final_fraction=0.1)
    for step in (400, 10_000, 25_200, 49_999):
        ratio = (step - 400) / (50_000 - 400)
        expected = 6e-5 + 0.5 * (1 + math.cos(math.pi * ratio)) * (6e-4 - 6e-5)
        assert learning_rate_at(schedule, 6e-4, 50_000, step) == pytest.approx(expected, rel=1e-12)


def test_horizon_beyond_the_run_slows_the_fall():
    slow = Schedule(kind="linear", horizon=200)
    assert learning_rate_at(slow, 1.0, 100, 100) == 0.5
    assert learning_rate_at(Schedule(kind="linear", horizon=20), 1.0, 100, 60) == 0


@pytest.mark.parametrize("horizon", [5, 10])
def test_horizon_within_the_warmup_leaves_no_fall(horizon):
    schedule = Schedule(kind="cosine", warmup_steps=10, horizon=horizon, final_fraction=0.5)
    assert [learning_rate_at(schedule, 1.0, 20, step) for step in (9, 10, 11)] == [0.9, 0.5, 0.5]


def test_drops():
    schedule = Schedule(
        kind="step", warmup_steps=2, drops=(Drop(step=5, learning_rate=0.1), Drop(step=8, learning_rate=0.3))
    )
    rates = [learning_rate_at(schedule, 1.0, 10, step) for step in range(10)]
    assert rates == [0, 0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.3, 0.3]


@given(st.sampled_from(["linear", "cosine"]), st.floats(0, 3), st.integers(2, 300))
def test_decay_multiplier_goes_from_one_to_its_final_fraction(kind, final, steps):
    schedule = DecaySchedule(kind=kind, final_fraction=final)
    values = [decay_multiplier_at(schedule, steps, step, 1.0) for step in range(steps)]
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(final)
    ordered = sorted(values, reverse=final <= 1)
    assert values == pytest.approx(ordered)


def test_decay_multiplier_of_other_kinds():
    assert decay_multiplier_at(DecaySchedule(), 10, 7, 0.2) == 1
    assert decay_multiplier_at(DecaySchedule(kind="follow_learning_rate"), 10, 7, 0.2) == 0.2
    window = DecaySchedule(kind="window", start=0.1, end=0.3)
    assert [step for step in range(30) if decay_multiplier_at(window, 30, step, 1.0)] == list(range(3, 9))
    assert decay_multiplier_at(DecaySchedule(kind="linear"), 1, 0, 1.0) == 1


@given(st.floats(0, 1), st.integers(1, 500))
def test_complementary_windows_cover_every_step_once(cut, steps):
    early, late = DecaySchedule(kind="window", end=cut), DecaySchedule(kind="window", start=cut)
    for step in range(steps):
        assert decay_multiplier_at(early, steps, step, 1.0) + decay_multiplier_at(late, steps, step, 1.0) == 1
