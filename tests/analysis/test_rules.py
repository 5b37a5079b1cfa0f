import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis import rules

BLOG = {"batch_size": 96, "data_size": 96 * 33165, "tokens_per_parameter": 20.0}
TOKENS = 96 * 33165 * 1024
positive = st.floats(1e-4, 1e4)


def test_power_lines_at_20_tokens_per_parameter():
    assert rules.power_lines_timescale(20) == pytest.approx(0.223556, abs=1e-6)


@pytest.mark.parametrize(("learning_rate", "weight_decay"), [(4e-4, 0.3372), (1.4e-3, 0.0963)])
def test_power_lines_gives_the_decay_that_was_published(learning_rate, weight_decay):
    """Thomas 32f used 0.33724 after rounding tau to 0.22352."""
    assert rules.power_lines_weight_decay(learning_rate=learning_rate, **BLOG) == pytest.approx(weight_decay, abs=5e-5)


def test_the_timescale_of_published_runs():
    for learning_rate, weight_decay, tau in ((4e-4, 0.1, 0.754), (4e-4, 0.01, 7.54), (1.4e-3, 0.337, 0.064)):
        found = rules.timescale(96, learning_rate, weight_decay, BLOG["data_size"])
        assert found == pytest.approx(tau, rel=0.01)
    # Bergsma et al., 610M: 252 sequences of 2048, 20 tokens per parameter, about 0.21
    assert rules.timescale(252 * 2048, 0.016 / 8, 0.1, 20 * 610e6) == pytest.approx(0.2115, rel=2e-3)


def test_the_best_batch_size_and_its_unit_trap():
    assert rules.power_lines_batch_size(TOKENS) == pytest.approx(134.7, abs=0.05)
    assert rules.power_lines_batch_size(TOKENS, context_length=1024) == pytest.approx(269.4, abs=0.05)
    assert rules.power_lines_batch_size(BLOG["data_size"]) == pytest.approx(9.47, abs=0.005), "sequences for tokens"


def test_equilibrium_of_adamw():
    assert rules.equilibrium_rms(1e-3, 0.1) == pytest.approx(0.0707, abs=5e-5)
    assert rules.equilibrium_angular_update(1e-3, 0.1, 0.9) == pytest.approx(0.0032, abs=5e-5)
    assert rules.equilibrium_steps(1e-3, 0.1) == pytest.approx(5000)


@given(positive, positive, positive, positive)
def test_the_best_decay_has_the_best_timescale(batch, learning_rate, data, tokens):
    decay = rules.power_lines_weight_decay(batch, learning_rate, data, tokens)
    assert rules.timescale(batch, learning_rate, decay, data) == pytest.approx(rules.power_lines_timescale(tokens))


@given(positive, positive, positive)
def test_equilibrium_turns_by_the_size_of_an_update(learning_rate, decay, factor):
    """Without momentum an Adam update has RMS lr, so the angle is lr / RMS norm."""
    angle = rules.equilibrium_angular_update(learning_rate, decay, beta1=0.0)
    assert angle == pytest.approx(learning_rate / rules.equilibrium_rms(learning_rate, decay))
    # only the product matters for the angle
    assert rules.equilibrium_angular_update(learning_rate * factor, decay / factor, 0.0) == pytest.approx(angle)


def test_longer_trainings_need_less():
    short = rules.normalised_weight_decay(0.025, 128, 50_000, 100, 1e-3)
    assert short == pytest.approx(0.025 * math.sqrt(128 / 5e6) / 1e-3)
    assert rules.normalised_weight_decay(0.025, 128, 50_000, 400, 1e-3) == pytest.approx(short / 2)
    once = rules.constant_epochs_weight_decay(128, 1e-3, 50_000, 3)
    assert rules.constant_epochs_weight_decay(128, 1e-3, 100_000, 3) == pytest.approx(once / 2)
    assert rules.timescale(128, 1e-3, once, 50_000) == pytest.approx(3)
