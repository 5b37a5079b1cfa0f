import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decaylab.optim.norms import BLOCK, vector_norm
from decaylab.training.norms import effective_learning_rate, gradient_norms, weight_norms


def tensors(seed, sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator).to(dtype).requires_grad_() for size in sizes]


def float64_norm(members):
    return torch.cat([member.detach().double().flatten() for member in members]).norm().item()


@given(
    st.dictionaries(st.sampled_from(["attention", "mlp", "bias"]), st.lists(st.integers(1, 20), min_size=1), min_size=1)
)
def test_norms_equal_float64(sizes):
    groups = {group: tensors(index, members) for index, (group, members) in enumerate(sizes.items())}
    for index, members in enumerate(groups.values()):
        for tensor in members:
            tensor.grad = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(90 + index))
    weights, gradients = weight_norms(groups), gradient_norms(groups)
    assert set(weights) == {"weight_norm"} | {f"weight_norm.{group}" for group in groups}
    assert set(gradients) == {"gradient_norm"} | {f"gradient_norm.{group}" for group in groups}
    everything = [tensor for members in groups.values() for tensor in members]
    assert weights["weight_norm"].item() == pytest.approx(float64_norm(everything), rel=1e-5)
    for group, members in groups.items():
        assert weights[f"weight_norm.{group}"].item() == pytest.approx(float64_norm(members), rel=1e-5)
        expected = float64_norm([tensor.grad for tensor in members])
        assert gradients[f"gradient_norm.{group}"].item() == pytest.approx(expected, rel=1e-5)
    assert all(norm.shape == () and not norm.requires_grad for norm in (weights | gradients).values())


def test_norms_of_long_vectors_are_exact_enough():
    """One sum over so many squares is 0.3 % too small on a CPU."""
    vector = torch.randn(40_000_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vector.grad = vector.detach() / 2
    exact = sum(part.double().square().sum().item() for part in vector.detach().split(1 << 20)) ** 0.5
    small = torch.tensor([3.0, 4.0], requires_grad=True)
    groups = {"mlp": [vector], "bias": [small]}
    assert vector_norm(vector.detach()).item() == pytest.approx(exact, rel=1e-6)
    weights, gradients = weight_norms(groups), gradient_norms(groups)
    assert weights["weight_norm.mlp"].item() == pytest.approx(exact, rel=1e-6)
    assert weights["weight_norm"].item() == pytest.approx((exact**2 + 25) ** 0.5, rel=1e-6)
    assert weights["weight_norm.bias"].item() == 5
    assert gradients["gradient_norm"].item() == pytest.approx(exact / 2, rel=1e-6)


@pytest.mark.parametrize("length", [7, 129_456, BLOCK])
def test_norms_of_short_vectors_keep_their_bits(length):
    """Recorded results of small networks depend on them."""
    (vector,) = tensors(0, [length])
    assert torch.equal(vector_norm(vector), torch.linalg.vector_norm(vector))
    assert torch.equal(weight_norms({"mlp": [vector]})["weight_norm.mlp"], torch.linalg.vector_norm(vector))


def test_bfloat16_norms_are_float32():
    members = tensors(0, [5000], torch.bfloat16)
    norm = weight_norms({"mlp": members})["weight_norm"]
    assert norm.dtype == torch.float32
    assert norm.item() == pytest.approx(float64_norm(members), rel=1e-5)


def test_parameters_without_gradient_count_as_zero():
    with_gradient, without, alone = tensors(0, [2, 3, 4])
    with_gradient.grad = torch.tensor([3.0, 4.0])
    norms = gradient_norms({"mlp": [with_gradient, without], "bias": [alone]})
    assert {name: norm.item() for name, norm in norms.items()} == {"gradient_norm": 5.0, "gradient_norm.mlp": 5.0}


def test_effective_learning_rate():
    norm = torch.tensor(4.0)
    assert effective_learning_rate("adamw", 0.1, norm).item() == pytest.approx(0.025)
    assert effective_learning_rate("sgd", 0.1, norm).item() == pytest.approx(0.1 / 16)


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_equal_effective_learning_rates_turn_a_scale_invariant_net_alike(name, factor):
    """The definition of the effective learning rate: it, and not the length of w, decides the next direction."""
    generator = torch.Generator().manual_seed(0)
    start, target = torch.randn(2, 30, generator=generator, dtype=torch.float64)

    def direction_after(scale, effective):
        weight = (scale * start).requires_grad_()
        norm = weight.detach().norm()
        rate = effective * (norm if name == "adamw" else norm.square()).item()
        assert effective_learning_rate(name, rate, norm).item() == pytest.approx(effective)
        make = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
        extra = {} if name == "sgd" else {"eps": 1e-30}
        optimizer = make([weight], lr=rate, weight_decay=0.0, **extra)
        ((weight / weight.norm()) @ target).backward()
        optimizer.step()
        return (weight / weight.norm()).detach()

    torch.testing.assert_close(direction_after(1.0, 0.05), direction_after(factor, 0.05), rtol=1e-9, atol=1e-12)
