"""The dimensionless numbers of a run, against the papers' own arithmetic."""

import math

import pytest

from decaylab.regime import decay_exponent, regime_of
from decaylab.replication import expand, load_replication, replication_file
from decaylab.spec import parse_spec
from decaylab.workspace import find_root


def spec(**changes):
    base = {
        "data": {"kind": "images", "source": "cifar10", "image_size": 32, "train_examples": 50000},
        "model": {"kind": "mlp"},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "decay": {"weight_decay": 0.01},
        "steps": 1000,
        "batch_size": 128,
        "evaluation": {"every": 100, "log_every": 10},
        "seed": 0,
    }
    return parse_spec(base | changes, "test")


def test_a_constant_learning_rate():
    found = regime_of(spec(), weights=1e6)
    assert found.decay_exponent == pytest.approx(0.1 * 0.01 * 1000)
    assert found.epochs == pytest.approx(1000 * 128 / 50000)
    assert found.examples_per_weight == pytest.approx(0.128)
    assert found.noise_scale == pytest.approx(0.1 / 128)
    assert regime_of(spec(), until=0.5).decay_exponent == pytest.approx(0.5)


def test_schedules_count_step_by_step():
    schedule = {"kind": "step", "drops": [{"step": 400, "learning_rate": 0.01}]}
    assert decay_exponent(spec(schedule=schedule)) == pytest.approx(0.01 * (400 * 0.1 + 600 * 0.01))
    linear = decay_exponent(spec(schedule={"kind": "linear"}))
    assert linear == pytest.approx(0.5, rel=2e-3)
    window = {"weight_decay": 0.01, "schedule": {"kind": "window", "end": 0.25}}
    assert decay_exponent(spec(decay=window)) == pytest.approx(0.25)


def test_long_runs_are_sampled():
    cosine = {"kind": "cosine", "warmup_steps": 100}
    exact = (
        0.1
        * 0.01
        * (sum(i / 100 for i in range(100)) + sum(0.5 * (1 + math.cos(math.pi * i / 99_900)) for i in range(99_900)))
    )
    assert decay_exponent(spec(steps=100_000, schedule=cosine)) == pytest.approx(exact, rel=1e-3)


def test_independent_decay_does_not_count_the_learning_rate():
    assert decay_exponent(spec(decay={"weight_decay": 1e-3, "form": "independent"})) == pytest.approx(1.0)


def test_unknown_sizes_are_not_invented():
    unknown = spec(data={"kind": "images", "source": "cifar10", "image_size": 32})
    assert regime_of(unknown).epochs is None
    assert "examples_per_weight" not in regime_of(unknown).numbers()
    fresh = {"kind": "images", "source": "procedural", "train_examples": 100, "test_examples": 9, "fresh": True}
    assert regime_of(spec(data=fresh)).epochs is None


def test_the_source_of_loss_stabilization():
    """Learning rate x decay x steps of phase one is 195 for ResNet18 (0.08 x 0.0125 x 195,000)."""
    rep = load_replication(replication_file(find_root(), "loss_stabilization"))
    chosen = {"grid": "resnet18", "learning_rate": "large", "weight_decay": "decay", "seed": 42}
    (found,) = (s for s, parameters, _ in expand(rep, "paper") if parameters == chosen)
    assert regime_of(found, until=0.5).decay_exponent == pytest.approx(195, rel=1e-3)
