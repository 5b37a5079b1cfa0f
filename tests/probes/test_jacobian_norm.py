import pytest
import torch
from scipy.linalg import hadamard
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from decaylab import spec
from decaylab.models import build_model
from decaylab.probes.jacobian_norm import jacobian_norms, squared_norms
from decaylab.training.evaluation import refresh_batch_norm

MODELS = {
    "mlp": spec.MLP(width=6, depth=1),
    "vgg": spec.VGG(width=2, stages=(1, 1), hidden_layers=0),
    "resnet": spec.PreActResNet(width=2, blocks=(1, 1)),
}


def build(name: str):
    """In float64 and evaluation mode, and five images; a network with batch norm has their statistics."""
    model = build_model(MODELS[name], classes=4, image_size=8, seed=0).double().eval()
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    refresh_batch_norm(model, iter([(images, images)]), model)
    return model, images


def exact(model, images):
    """Squared norms of the whole Jacobian, [examples, parameters], one output at a time."""
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        jacobian = jacrev(lambda weights: functional_call(model, weights, (images,)))(weights)
    return torch.stack([part.flatten(1).square().sum(1) for part in jacobian.values()], 1)


@pytest.mark.parametrize("name", MODELS)
def test_a_hadamard_matrix_of_vectors_gives_the_exact_norms(name):
    model, images = build(name)
    vectors = torch.tensor(hadamard(4), dtype=torch.float64).expand(5, 4, 4)
    torch.testing.assert_close(squared_norms(model, images, vectors).mean(1), exact(model, images))


def test_text_counts_all_positions_of_a_sequence():
    model = build_model(
        spec.GPT(layers=1, heads=2, width=4, context_length=4, vocabulary=4), classes=4, seed=0
    ).double()
    tokens = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]])
    vectors = torch.tensor(hadamard(16), dtype=torch.float64).view(16, 4, 4).expand(2, 16, 4, 4)
    torch.testing.assert_close(squared_norms(model.eval(), tokens, vectors).mean(1), exact(model, tokens))


def test_random_signs_are_right_on_average_and_the_standard_error_says_how_far_off():
    model, images = build("resnet")
    norms = exact(model, images)
    weights = torch.stack([weight.detach().square().sum() for weight in model.parameters()])
    for name, expected in (
        ("jacobian_norm", norms.sum(1).mean().sqrt()),
        ("jacobian_norm_scaled", (norms @ weights).mean().sqrt()),
    ):
        many = jacobian_norms(model, images, 1000, torch.Generator().manual_seed(1))
        assert many[name].item() == pytest.approx(expected.item(), rel=0.02)
    few = [jacobian_norms(model, images, 1, torch.Generator().manual_seed(seed)) for seed in range(60)]
    inside = [abs(one["jacobian_norm"] - many["jacobian_norm"]) < 3 * one["jacobian_norm_se"] for one in few]
    assert sum(inside) > 50


def test_the_scaled_norm_does_not_see_the_scale_of_a_matrix_before_a_norm():
    model, images = build("resnet")
    before = jacobian_norms(model, images, 10, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.blocks[0].conv1.weight *= 3
        model.blocks[0].norm2.running_mean *= 3
        model.blocks[0].norm2.running_var *= 9
    after = jacobian_norms(model, images, 10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(after["jacobian_norm_scaled"], before["jacobian_norm_scaled"], rtol=1e-3, atol=0)
    assert abs(after["jacobian_norm"] / before["jacobian_norm"] - 1) > 0.01
