"""Each rule gives the decay that its source would give, and says what it needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.advice import Setting, advise
from decaylab.errors import InputError

BLOG = {"parameters": 163_009_536, "data_size": 96 * 33165 * 1024, "batch_size": 96 * 1024}
"""GPT-2 small without tied weights, as Thomas 2026 trained it: 20 tokens per parameter"""
positive = st.floats(1e-3, 1e3)


def by_rule(**changes):
    return {advice.rule: advice for advice in advise(Setting(**BLOG | {"learning_rate": 4e-4} | changes))}


@pytest.mark.parametrize(("learning_rate", "decay"), [(4e-4, 0.3372), (1.4e-3, 0.0963)])
def test_power_lines_in_tokens_gives_what_the_blog_computed_in_sequences(learning_rate, decay):
    advice = by_rule(learning_rate=learning_rate)["Power Lines"]
    assert advice.low == advice.high == pytest.approx(decay, abs=2e-4)


def test_equilibrium_keeps_the_initial_scale():
    advice = by_rule(learning_rate=4e-4)["equilibrium at the initial scale"]
    assert advice.low == pytest.approx(4e-4 / (2 * 0.02**2))
    assert "is reached in this run of 3.32e+04" in advice.why


def test_nanochat_needs_a_width():
    assert "nanochat's width rule" not in by_rule()
    assert by_rule(width=768)["nanochat's width rule"].low == pytest.approx(0.22)
    # depth 20 of its log, width 1280: .08
    assert by_rule(width=1280)["nanochat's width rule"].low == pytest.approx(0.08, abs=0.003)


def test_constant_epochs_is_a_range_between_one_epoch_and_all():
    advice = by_rule(epochs=4)["constant epochs"]
    assert advice.high == pytest.approx(4 * advice.low)
    once = by_rule()["constant epochs"]
    assert once.low == once.high == pytest.approx(96 * 1024 / (4e-4 * BLOG["data_size"]))


@given(positive)
def test_units_cancel(factor):
    """Batch and data may be counted in sequences or tokens, as long as both are; power laws count tokens."""
    for rule in ("constant epochs", "equilibrium at the initial scale"):
        scaled = by_rule(data_size=BLOG["data_size"] * factor, batch_size=BLOG["batch_size"] * factor)
        assert scaled[rule].low == pytest.approx(by_rule()[rule].low)


@pytest.mark.parametrize("key", ["parameters", "data_size", "batch_size", "learning_rate", "epochs"])
def test_an_impossible_setting_is_one_line(key):
    with pytest.raises(InputError, match=f"advise: {key}: expected a number above 0, got 0"):
        by_rule(**{key: 0})
    with pytest.raises(InputError, match="is more than the whole training"):
        by_rule(batch_size=BLOG["data_size"] * 2)
