import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from decaylab.optim.rounding import StoredWeights, round_stochastically, round_to_nearest

NUMBERS = arrays.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def neighbours(value: float) -> tuple[float, float]:
    """The numbers of bfloat16 just below and above, from their definition: eight bits of mantissa."""
    spacing = 2.0 ** (math.frexp(value)[1] - 8)
    return math.floor(value / spacing) * spacing, math.ceil(value / spacing) * spacing


@given(NUMBERS, st.integers(0, 2**40))
def test_stochastic_rounding_gives_a_neighbour(values, seed):
    before = torch.from_numpy(values)
    after = round_stochastically(before.clone(), seeded(seed))
    assert torch.equal(after.bfloat16().float().nan_to_num(7), after.nan_to_num(7)), "a number of bfloat16"
    representable = before.bfloat16().float() == before
    assert torch.equal(after[representable], before[representable])
    assert torch.equal(after.isnan(), before.isnan())
    for old, new in zip(before.tolist(), after.tolist(), strict=True):
        if math.isfinite(old) and abs(old) >= 2.0**-126 and math.isfinite(new):
            assert new in neighbours(old)


@pytest.mark.parametrize("value", [1 + 2**-9, 1 + 2**-12, -0.1, 3.14159, 1e-20, -1234.567, 2 - 2**-10])
def test_the_mean_of_many_roundings_is_the_value(value):
    count = 200_000
    rounded = round_stochastically(torch.full((count,), value), seeded(1)).double()
    exact = torch.tensor(value).double()
    low, high = neighbours(exact.item())
    share = (exact.item() - low) / (high - low)
    standard_error = (high - low) * math.sqrt(share * (1 - share) / count)
    assert abs(rounded.mean() - exact) < 4 * standard_error
    assert set(rounded.tolist()) == {low, high}


def test_stochastic_rounding_depends_on_its_generator_alone():
    values = torch.randn(1000, generator=seeded(0))
    first = round_stochastically(values.clone(), seeded(5))
    torch.manual_seed(3)
    assert torch.equal(first, round_stochastically(values.clone(), seeded(5)))
    assert not torch.equal(first, round_stochastically(values.clone(), seeded(6)))


def test_updates_far_below_the_spacing_add_up_only_if_they_are_rounded_at_random():
    """1,000 updates of a hundredth of the spacing: to nearest, none of them happens."""
    update = 2.0**-7 / 100
    ends = {}
    for name in ("nearest", "stochastic"):
        weights, generator = torch.ones(500), seeded(2)
        for _ in range(1000):
            weights += update
            if name == "nearest":
                round_to_nearest(weights)
            else:
                round_stochastically(weights, generator)
        ends[name] = weights
    assert torch.equal(ends["nearest"], torch.ones(500))
    error = ends["stochastic"].std() / math.sqrt(500)
    assert abs(ends["stochastic"].mean() - (1 + 1000 * update)) < 4 * error


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_in_float32_rounded_to_nearest_equals_torchs_step_in_bfloat16(name):
    """Bit for bit, moments included; torch's fused kernels compute in float32 and write bfloat16."""

    def optimizer(weight: torch.Tensor) -> torch.optim.Optimizer:
        if name == "sgd":
            return torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
        return torch.optim.AdamW([weight], lr=0.01, betas=(0.9, 0.999), weight_decay=0.0, fused=True)

    start = torch.randn(1000, generator=seeded(0))
    narrow = torch.nn.Parameter(start.bfloat16())
    wide = torch.nn.Parameter(start.clone())
    theirs, ours = optimizer(narrow), optimizer(wide)
    stored = StoredWeights([wide], ours, stochastic=False)
    for step in range(20):
        gradient = torch.randn(1000, generator=seeded(step + 1))
        narrow.grad, wide.grad = gradient.bfloat16(), gradient.clone()
        theirs.step()
        stored.round_gradients()
        stored.after_decay()
        ours.step()
        stored.after_step(seeded(step))
        assert torch.equal(narrow.float(), wide)
    for key, value in theirs.state[narrow].items():
        assert torch.equal(value.float(), ours.state[wide][key].float()), key
