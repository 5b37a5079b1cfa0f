import pytest
import torch
from torch import nn

from decaylab import spec
from decaylab.errors import InputError
from decaylab.models import build_model
from decaylab.models.vit import sine_cosine
from decaylab.probes.attention import attention_logits
from decaylab.spec import parse_spec
from tests.training.cases import IMAGES

SMALL = spec.ViT(patch_size=4, layers=2, heads=2, width=8)


def test_a_block_is_that_of_torch():
    module = build_model(SMALL, classes=5, image_size=16, seed=0).double()
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = module.patches(images).permute(0, 2, 3, 1).flatten(1, 2) + sine_cosine(4, 8)
    for block in module.blocks:
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).double()
        pairs = {
            layer.self_attn.in_proj_weight: block.attention.qkv.weight,
            layer.self_attn.in_proj_bias: block.attention.qkv.bias,
            layer.self_attn.out_proj.weight: block.attention.output.weight,
            layer.self_attn.out_proj.bias: block.attention.output.bias,
        }
        with torch.no_grad():
            for theirs, ours in pairs.items():
                theirs.copy_(ours)
        for theirs, ours in ((layer.norm1, block.norm1), (layer.norm2, block.norm2), (layer.linear1, block.mlp[0]),
                             (layer.linear2, block.mlp[2])):  # fmt: skip
            theirs.load_state_dict(ours.state_dict())
        x = layer(x)
    expected = module.norm(x).mean(1) @ module.head.weight.T + module.head.bias
    torch.testing.assert_close(module(images), expected)


def test_the_count_is_that_of_the_published_small_model_without_class_token_and_learned_positions():
    with torch.device("meta"):
        module = build_model(spec.ViT(patch_size=16, heads=6, width=384), classes=1000, image_size=224, seed=0)
    assert sum(weight.numel() for weight in module.parameters()) == 22_050_664 - 384 - 197 * 384


def test_positions_differ_and_neighbours_are_close():
    positions = sine_cosine(4, 16)
    assert positions.shape == (16, 16)
    distances = torch.cdist(positions, positions)
    assert (distances + torch.eye(16) > 0.5).all()
    assert distances[0, 1] == pytest.approx(distances[0, 4])
    assert distances[0, 1] < distances[0, 5] < distances[0, 10]


def test_patches_must_tile_the_images():
    with pytest.raises(InputError, match=r"model\.patch_size: expected a divisor of 10 \(pixels\), got 4"):
        build_model(SMALL, classes=5, image_size=10, seed=0)


def test_heads_must_share_the_width():
    with pytest.raises(InputError, match="width 10 is not divisible by heads 3 and by 4"):
        parse_spec(IMAGES | {"model": {"kind": "vit", "width": 10}}, "x")


def test_attention_sees_patches_after_its_own():
    """The largest logit is that of a query and a later key, which causal attention would not have."""
    module = build_model(SMALL.model_copy(update={"layers": 1, "heads": 1}), classes=5, image_size=8, seed=0)
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    attention = module.blocks[0].attention
    inputs = []
    attention.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    module(images)
    query, key, _ = attention.query_key_value(inputs[0])
    logits = (query @ key.transpose(-2, -1)).abs()[0, 0] / 8**0.5
    found = attention_logits(module, images)["attention_logit"]
    assert found.item() == pytest.approx(logits.amax().item(), rel=1e-5)
