"""Probes of curvature against the exact Hessian, Gauss-Newton matrix and gradient covariance in float64."""

from __future__ import annotations

import builtins
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, hessian, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, one_hot

from decaylab import plugins
from decaylab.data.draws import generator
from decaylab.errors import InputError
from decaylab.models import build_model
from decaylab.probes import _curvature
from decaylab.probes.gradient_noise import jackknifed_cosine
from decaylab.probes.top_eigenvalue import largest_eigenvalue
from tests.training.cases import CASES, spec

PROBES = ("exact_hessian", "gauss_newton_trace", "gradient_noise", "hessian_trace", "top_eigenvalue")
EXAMPLES = 24
SMALL = {"model": {"width": 3}, "data": {"image_size": 4}}


def view_of(case: str, step: int = 0, **changes) -> SimpleNamespace:
    """What a probe sees of a network in float64, far enough from its initialisation to have curvature."""
    run = spec(CASES[case], **changes)
    images = run.data.kind == "images"
    size = run.data.image_size if images else None
    model = build_model(run.model, classes=4 if images else 7, image_size=size, seed=3).double().eval()
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]:
            tensor += 0.2 * torch.rand(tensor.shape, generator=draws, dtype=torch.float64)
    if images:
        inputs = torch.randn(EXAMPLES, 3, size, size, generator=draws, dtype=torch.float64)
        targets = torch.randint(4, (EXAMPLES,), generator=draws)
    else:
        inputs, targets = torch.randint(7, (2, EXAMPLES, 3), generator=draws)
    half = EXAMPLES // 3  # batches of unequal size
    batches = [(inputs[:half], targets[:half]), (inputs[half:], targets[half:])]
    return SimpleNamespace(
        spec=run, model=model, step=step, batches=lambda split, count: iter(batches), generator=generator("test", step)
    )


def probe(name: str, **parameters):
    defaults = {"examples": EXAMPLES} | ({} if name == "exact_hessian" else {"matvecs": 16})
    return plugins.load("probes", name).Probe(**defaults | parameters)


class Exact:
    """The matrices by torch.func, from their definitions, in the order of the flattened weights."""

    def __init__(self, view) -> None:
        model, parts = view.model, list(view.batches("train", None))
        self.inputs, self.targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        self.weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
        self.norms = torch.cat([weight.detach().norm().expand(weight.numel()) for weight in model.parameters()])

        def logits(flat: Tensor, inputs: Tensor) -> Tensor:
            parts = flat.split([shape.numel() for shape in shapes.values()])
            named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            with sdpa_kernel(SDPBackend.MATH):
                return functional_call(model, named, (inputs,)).flatten(0, -2)

        def loss(flat: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
            return cross_entropy(logits(flat, inputs), targets.flatten())

        self.hessian = hessian(loss)(self.weights, self.inputs, self.targets)
        jacobian = jacrev(logits)(self.weights, self.inputs)
        probabilities = logits(self.weights, self.inputs).softmax(-1)
        curved = torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None, :]
        self.gauss_newton = torch.einsum("nci,ncd,ndj->ij", jacobian, curved, jacobian) / len(jacobian)
        slopes = probabilities - one_hot(self.targets.flatten(), probabilities.shape[-1])
        gradients = torch.einsum("nci,nc->ni", jacobian, slopes)
        self.noise = torch.cov(gradients.T, correction=0)


@pytest.fixture(scope="module", params=["mlp", "resnet"])
def small(request):
    changes = SMALL if request.param == "mlp" else {"model": {"width": 2, "blocks": [1]}, "data": {"image_size": 4}}
    view = view_of(request.param, **changes)
    return view, Exact(view)


def cosine(first: Tensor, second: Tensor) -> float:
    return float((first * second).sum() / first.norm() / second.norm())


def test_the_operators_are_the_matrices(small):
    view, exact = small
    task = _curvature.problem(view, EXAMPLES)
    identity = torch.eye(len(exact.weights), dtype=torch.float64)
    torch.testing.assert_close(task.operator("Hessian") @ identity, exact.hessian)
    torch.testing.assert_close(task.operator("GGN") @ identity, exact.gauss_newton)
    moment = task.operator("EF")
    mean = torch.cat([slope.flatten() for slope in moment.gradient_and_loss()[0]])
    torch.testing.assert_close(moment @ identity - torch.outer(mean, mean), exact.noise)
    torch.testing.assert_close(task.norms(), exact.norms)


def test_exact_columns(small):
    view, exact = small
    found = {name: float(value) for name, value in probe("exact_hessian").measure(view).items()}
    eigenvalues = torch.linalg.eigvalsh(exact.hessian)
    assert found == pytest.approx(
        {
            "exact_hessian_trace": float(exact.hessian.trace()),
            "exact_top_eigenvalue": float(eigenvalues[-1]),
            "exact_lowest_eigenvalue": float(eigenvalues[0]),
            "exact_hessian_norm": float(exact.hessian.norm()),
            "exact_gauss_newton_trace": float(exact.gauss_newton.trace()),
        }
    )


@pytest.mark.parametrize("name", ["hessian_trace", "gauss_newton_trace"])
def test_traces_are_within_their_errors(small, name):
    """Both of them, and their errors are those of Hutchinson's samples: 2 (|A|^2 - |diag A|^2) for each."""
    view, exact = small
    matrix = exact.hessian if name == "hessian_trace" else exact.gauss_newton
    found = {key: float(value) for key, value in probe(name, matvecs=40).measure(view).items()}
    assert found[name] == pytest.approx(float(matrix.trace()), abs=4 * found[f"{name}_se"])
    scaled = float((exact.norms**2 * matrix.diagonal()).sum())
    assert found[f"{name}_scaled"] == pytest.approx(scaled, abs=4 * found[f"{name}_scaled_se"])
    variance = 2 * float(matrix.square().sum() - matrix.diagonal().square().sum())
    assert found[f"{name}_se"] == pytest.approx((variance / 40) ** 0.5, rel=0.5)


def test_the_top_eigenvalue_is_within_its_bound(small):
    view, exact = small
    found = {name: float(value) for name, value in probe("top_eigenvalue").measure(view).items()}
    scaled = exact.norms[:, None] * exact.hessian * exact.norms
    for name, matrix in (("top_eigenvalue", exact.hessian), ("top_eigenvalue_scaled", scaled)):
        top = float(torch.linalg.eigvalsh(matrix)[-1])
        assert found[f"{name}_se"] < 0.05 * top
        assert -1e-9 <= top - found[name] <= found[f"{name}_se"]


def test_gradient_noise_and_its_alignment(small):
    view, exact = small
    found = {name: float(value) for name, value in probe("gradient_noise", matvecs=20).measure(view).items()}
    expected = {
        "gradient_noise": float(exact.noise.trace()),
        "noise_hessian_alignment": cosine(exact.noise, exact.hessian),
        "noise_gauss_newton_alignment": cosine(exact.noise, exact.gauss_newton),
    }
    for name, value in expected.items():
        error = found[f"{name}_se"]
        assert 0 < error < 0.4 * abs(value)
        assert found[name] == pytest.approx(value, abs=4 * error)


def test_the_jackknife_knows_the_spread_of_its_cosine():
    draws = torch.Generator().manual_seed(0)
    repeats = []
    for _ in range(300):
        first, second = torch.randn(2, 20, 30, generator=draws, dtype=torch.float64)
        second = second + first
        rows = torch.stack([(first * second).sum(1), (first * first).sum(1), (second * second).sum(1)], dim=1)
        repeats.append(torch.stack(jackknifed_cosine(rows)))
    cosines, errors = torch.stack(repeats).unbind(1)
    assert float(cosines.mean()) == pytest.approx(0.5**0.5, abs=0.01)
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(cosines.std()), rel=0.15)


@pytest.mark.parametrize("name", ["hessian_trace", "gauss_newton_trace", "top_eigenvalue"])
def test_scaled_measures_do_not_feel_the_scale_of_a_layer(name):
    """Positive factors of two layers that cancel leave an MLP's function as it is, and change the raw measures."""
    view = view_of("mlp", **SMALL)
    before = {key: float(value) for key, value in probe(name, matvecs=5).measure(view).items()}
    with torch.no_grad():
        first, second = view.model.hidden
        for scaled in (first.weight, first.bias, second.bias):
            scaled *= 4
        view.model.head.weight /= 4
    after = {key: float(value) for key, value in probe(name, matvecs=5).measure(view).items()}
    assert after[f"{name}_scaled"] == pytest.approx(before[f"{name}_scaled"], rel=1e-6)
    assert after[name] != pytest.approx(before[name], rel=0.2)


def test_a_language_model_is_measured_token_by_token():
    view = view_of("gpt", model={"width": 2, "context_length": 3})
    exact = Exact(view)
    found = {name: float(value) for name, value in probe("hessian_trace", matvecs=10).measure(view).items()}
    assert found["hessian_trace"] == pytest.approx(float(exact.hessian.trace()), abs=4 * found["hessian_trace_se"])


@pytest.mark.parametrize("name", PROBES)
def test_a_measurement_is_a_function_of_its_step(name):
    """Not of the random state, nor of the types in which the training computes; and it is priced."""
    few = {} if name == "exact_hessian" else {"matvecs": 3}
    first = probe(name, **few).measure(view_of("mlp", **SMALL))
    torch.rand(3)
    again = probe(name, **few).measure(view_of("mlp", **SMALL))
    assert first.keys() == again.keys() == plugins.literal("probes", name, "COLUMNS").keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name != "exact_hessian":
        other = probe(name, **few).measure(view_of("mlp", step=1, **SMALL))
        assert any(not torch.equal(first[key], other[key]) for key in first)
    narrow = view_of("mlp", **SMALL)
    narrow.model.bfloat16()
    assert all(value.dtype == torch.float32 for value in probe(name, **few).measure(narrow).values())
    assert probe(name).example_passes(narrow.spec) > EXAMPLES


@pytest.mark.parametrize("name", PROBES)
def test_a_network_that_diverged_has_no_curvature(name):
    view = view_of("mlp", **SMALL)
    with torch.no_grad():
        view.model.head.weight.fill_(torch.nan)
    assert all(value.isnan() for value in probe(name).measure(view).values())


def test_the_largest_eigenvalue_of_a_known_matrix():
    eigenvalues = torch.tensor([-9.0, 0.5, 1.0, 4.0], dtype=torch.float64)
    torch.manual_seed(0)
    for matvecs in (3, 4):
        value, bound = largest_eigenvalue(torch.diag(eigenvalues), matvecs)
        assert float((eigenvalues - value).abs().min()) <= float(bound)
        assert -9 < float(value) < 4


def test_the_whole_hessian_is_for_small_networks():
    view = view_of("mlp", model={"width": 60}, data={"image_size": 8})
    with pytest.raises(InputError, match="exact_hessian: expected a network of at most 5000 weights, got 15484"):
        probe("exact_hessian").measure(view)


def test_a_missing_curvlinops_is_one_line(monkeypatch):
    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "curvlinops":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    _curvature.curvlinops.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"probes of curvature need curvlinops: pip install decaylab\[curvature\]"):
        probe("hessian_trace").measure(view_of("mlp", **SMALL))


def test_the_noise_of_single_examples_by_hand(small):
    """The covariance of `Exact` against gradients taken one example at a time."""
    view, exact = small
    gradients = []
    for inputs, target in zip(exact.inputs, exact.targets, strict=True):
        loss = cross_entropy(view.model(inputs[None]), target[None])
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, view.model.parameters())]))
    spread = torch.stack(gradients).var(0, correction=0).sum()
    torch.testing.assert_close(exact.noise.trace(), spread)
