import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.optimum import bootstrap_optimum, optimum


@given(st.floats(-0.9, 0.9), st.floats(0.1, 10), st.permutations([-1.0, -0.3, 0.2, 1.0]))
def test_a_parabola_has_its_vertex(vertex, curvature, x):
    """The lowest point of a parabola and its neighbours lie on it, wherever they are."""
    y = [curvature * (value - vertex) ** 2 for value in x]
    lowest = x[int(np.argmin(y))]
    expected = lowest if lowest in (-1.0, 1.0) else vertex
    assert optimum(x, y) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6))
def test_it_is_next_to_the_lowest_point_and_within_the_grid(y):
    x = list(range(len(y)))
    assert abs(optimum(x, y) - int(np.argmin(y))) <= 0.5 + 1e-6


def test_a_curve_that_falls_to_the_end_of_the_grid_has_that_end():
    assert optimum([0.1, 1, 10], [3, 2, 1]) == 10
    assert optimum([0.1, 1, 10], [1, 2, 3]) == 0.1
    assert optimum([1, 2, 3], [5, 5, 5]) == 1


def test_the_bootstrap_covers_the_optimum_and_ignores_what_a_seed_adds_to_all_its_points():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 5)
    level = rng.normal(size=(8, 1))
    noise = rng.normal(scale=0.05, size=(8, 5))
    curves = (x - 0.2) ** 2 + noise
    estimate, (low, high) = bootstrap_optimum(x, curves)
    assert low < 0.2 < high
    assert low <= estimate <= high
    assert high - low < 0.5
    shifted = bootstrap_optimum(x, curves + 100 * level)
    np.testing.assert_allclose([shifted[0], *shifted[1]], [estimate, low, high], atol=1e-9)


def test_one_seed_has_no_width():
    assert bootstrap_optimum([0, 1, 2], [[3, 1, 2]]) == (pytest.approx(7 / 6), (pytest.approx(7 / 6),) * 2)
