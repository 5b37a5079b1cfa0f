import torch

from decaylab import spec
from decaylab.models import build_model


def test_hidden_layers_are_rectified_and_the_head_is_not():
    module = build_model(spec.MLP(width=5, depth=3), classes=4, image_size=2, seed=0)
    images = torch.randn(6, 3, 2, 2)
    state = module.state_dict()
    x = images.reshape(6, 12)
    for layer in ("hidden.0", "hidden.1", "hidden.2"):
        x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
    expected = x @ state["head.weight"].T + state["head.bias"]
    torch.testing.assert_close(module(images), expected)
    assert (expected < 0).any()
