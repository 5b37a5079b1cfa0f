import pytest
import torch
from torch import nn

from decaylab import spec
from decaylab.models import build_model, parameter_groups

IMAGE_MODELS = {
    "mlp": spec.MLP(width=6, depth=2),
    "vgg": spec.VGG(width=4, stages=(1, 2), hidden_layers=1),
    "vgg_norm": spec.VGG(width=4, stages=(1, 1, 1), hidden_layers=0, batch_norm=True, bias=False),
    "resnet": spec.PreActResNet(width=4, blocks=(1, 1, 1)),
    "resnet_shortcut_norm": spec.PreActResNet(width=4, blocks=(2, 1), shortcut_norm=True),
    "resnet_scale_invariant": spec.PreActResNet(width=4, blocks=(1, 1), norm_affine=False),
    "vit": spec.ViT(patch_size=4, layers=1, heads=2, width=8),
}
GPT = spec.GPT(layers=1, heads=2, width=8, context_length=8)
MODELS = IMAGE_MODELS | {"gpt": GPT, "gpt_untied": GPT.model_copy(update={"tied": False, "dropout": 0.5})}

# what each model has in each group, by name; written by hand, as an expert would file them
GROUPS = {
    "vit": {
        "convolution": ["patches.weight"],
        "attention": ["blocks.0.attention.qkv.weight", "blocks.0.attention.output.weight"],
        "mlp": ["blocks.0.mlp.0.weight", "blocks.0.mlp.2.weight"],
        "norm": [
            f"{place}.{kind}" for place in ("blocks.0.norm1", "blocks.0.norm2", "norm") for kind in ("weight", "bias")
        ],
        "bias": [
            f"{place}.bias"
            for place in (
                "patches",
                "blocks.0.attention.qkv",
                "blocks.0.attention.output",
                "blocks.0.mlp.0",
                "blocks.0.mlp.2",
                "head",
            )
        ],
        "head": ["head.weight"],
    },
    "mlp": {
        "mlp": ["hidden.0.weight", "hidden.1.weight"],
        "bias": ["hidden.0.bias", "hidden.1.bias", "head.bias"],
        "head": ["head.weight"],
    },
    "vgg": {
        "convolution": ["features.0.weight", "features.3.weight", "features.5.weight"],
        "mlp": ["hidden.0.weight"],
        "bias": ["features.0.bias", "features.3.bias", "features.5.bias", "hidden.0.bias", "head.bias"],
        "head": ["head.weight"],
    },
    "vgg_norm": {
        "convolution": ["features.0.weight", "features.4.weight", "features.8.weight"],
        "norm": [f"features.{layer}.{kind}" for layer in (1, 5, 9) for kind in ("weight", "bias")],
        "head": ["head.weight"],
    },
    "resnet_shortcut_norm": {
        "convolution": [
            "stem.weight",
            *[f"blocks.{block}.conv{place}.weight" for block in range(3) for place in (1, 2)],
            "blocks.2.shortcut.1.weight",
        ],
        "norm": [
            f"{norm}.{kind}"
            for norm in (
                "input_norm",
                *[f"blocks.{block}.norm{place}" for block in range(3) for place in (1, 2)],
                "blocks.2.shortcut.0",
                "norm",
            )
            for kind in ("weight", "bias")
        ],
        "bias": ["head.bias"],
        "head": ["head.weight"],
    },
    "resnet_scale_invariant": {
        "convolution": [
            "stem.weight",
            *[f"blocks.{block}.conv{place}.weight" for block in range(2) for place in (1, 2)],
            "blocks.1.shortcut.weight",
        ],
        "bias": [
            "stem.bias",
            *[f"blocks.{block}.conv{place}.bias" for block in range(2) for place in (1, 2)],
            "blocks.1.shortcut.bias",
            "head.bias",
        ],
        "head": ["head.weight"],
    },
    "gpt_untied": {
        "embedding": ["token_embedding.weight", "position_embedding.weight"],
        "attention": ["blocks.0.attention.qkv.weight", "blocks.0.attention.output.weight"],
        "mlp": ["blocks.0.mlp.input.weight", "blocks.0.mlp.output.weight"],
        "norm": [
            f"{norm}.{kind}" for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm") for kind in ("weight", "bias")
        ],
        "bias": [
            "blocks.0.attention.qkv.bias",
            "blocks.0.attention.output.bias",
            "blocks.0.mlp.input.bias",
            "blocks.0.mlp.output.bias",
        ],
        "head": ["head.weight"],
    },
}
GROUPS["gpt"] = {group: names for group, names in GROUPS["gpt_untied"].items() if group != "head"}
GROUPS["gpt_qk_norm"] = GROUPS["gpt"] | {
    "norm": [
        *GROUPS["gpt"]["norm"],
        "blocks.0.attention.query_norm.weight",
        "blocks.0.attention.key_norm.weight",
    ]
}


def build(model: spec.Model, seed: int = 0, classes: int = 10, image_size: int = 16) -> nn.Module:
    size = None if model.kind == "gpt" else image_size
    return build_model(model, classes=classes, image_size=size, seed=seed)


def count(model: spec.Model, classes: int, image_size: int | None = None) -> int:
    with torch.device("meta"):
        module = build_model(model, classes=classes, image_size=image_size, seed=0)
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("model", "classes", "expected"),
    [
        # counted on the classes of the EPFL code (overparameterized_nets/models/get_models.py)
        (spec.PreActResNet(), 10, 11_172_176),
        (spec.PreActResNet(norm_affine=False), 10, 11_169_162),
        (spec.PreActResNet(blocks=(3, 4, 6, 3)), 100, 21_326_506),
        (spec.PreActResNet(blocks=(3, 4, 6, 3), norm_affine=False), 100, 21_319_780),
        (spec.VGG(), 10, 15_245_130),
        (spec.VGG(bias=False), 10, 15_239_872),
        (spec.VGG(batch_norm=True), 10, 15_253_578),
        # 3072 * 256 + 256 * 256 + 256 * 10 weights, 256 + 256 + 10 biases
        (spec.MLP(), 10, 855_050),
        (spec.MLP(bias=False), 10, 854_528),
    ],
    ids=str,
)
def test_image_models_have_the_published_numbers_of_parameters(model, classes, expected):
    assert count(model, classes, 32) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (spec.GPT(), 124_439_808),  # GPT-2 small
        (spec.GPT(tied=False, qkv_bias=False), 163_009_536),  # Thomas
        (spec.GPT(bias=False, vocabulary=50_304, context_length=256), 123_783_936),  # EPFL
    ],
    ids=str,
)
def test_gpt_has_the_published_number_of_parameters(model, expected):
    assert count(model, 50_257) == expected


@pytest.mark.parametrize("name", GROUPS)
def test_every_parameter_is_in_its_group(name):
    model = GPT.model_copy(update={"qk_norm": True}) if name == "gpt_qk_norm" else MODELS[name]
    module = build(model)
    groups = parameter_groups(module)
    assert list(groups) == [parameter for parameter, _ in module.named_parameters()]
    assert set(groups.values()) <= set(spec.GROUPS)
    assert groups == {parameter: group for group, names in GROUPS[name].items() for parameter in names}


def test_a_layer_of_unknown_type_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.head = nn.Linear(1, 1)

    with pytest.raises(TypeError, match="scale of Odd"):
        parameter_groups(Odd())


@pytest.mark.parametrize("name", MODELS)
def test_weights_follow_from_the_seed_alone(name):
    torch.manual_seed(1)
    first = build(MODELS[name], seed=7).state_dict()
    torch.manual_seed(2)
    second = build(MODELS[name], seed=7).state_dict()
    other = build(MODELS[name], seed=8).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    matrices = [key for key, value in first.items() if value.ndim >= 2]
    assert matrices
    assert not any(torch.equal(first[key], other[key]) for key in matrices)


@pytest.mark.parametrize("name", MODELS)
def test_the_global_random_state_is_untouched(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    module = build(MODELS[name])
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}
    assert module.training


@pytest.mark.parametrize("image_size", [8, 16, 32])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_images_give_one_row_of_logits_each(name, image_size):
    module = build(MODELS[name], image_size=image_size, classes=7)
    assert module(torch.randn(3, 3, image_size, image_size)).shape == (3, 7)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_the_memory_format_does_not_change_logits(name):
    module = build(MODELS[name]).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = module(images)
    last = module.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_takes_part(name):
    module = build(MODELS[name])
    if MODELS[name].kind == "gpt":
        inputs = torch.randint(10, (4, 8), generator=torch.Generator().manual_seed(0))
    else:
        inputs = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (module(inputs) ** 2).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
