"""Small runs of every kind of network, and what a sweep varies about them."""

from typing import Any

from decaylab.spec import RunSpec, parse_spec
from decaylab.yaml_files import merge

IMAGES: dict[str, Any] = {
    "data": {"kind": "images", "source": "procedural", "train_examples": 64, "test_examples": 32, "image_size": 8},
    "model": {"kind": "preact_resnet", "blocks": [1, 1], "width": 4},
    "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    "decay": {"weight_decay": 0.01},
    "steps": 12,
    "batch_size": 16,
    "ema": 0.9,
    "evaluation": {"every": 6, "log_every": 3, "train_examples": 32},
    "seed": 0,
}
TEXT: dict[str, Any] = {
    "data": {"kind": "text", "source": "stdlib", "tokenizer": "bytes", "train_tokens": 100_000},
    # without biases: a key's has no gradient but rounding, which Adam would blow up
    "model": {"kind": "gpt", "layers": 1, "heads": 2, "width": 16, "context_length": 16, "bias": False},
    "optimizer": {"name": "adamw", "learning_rate": 0.003},
    "decay": {"weight_decay": 0.1},
    "schedule": {"kind": "cosine", "warmup_steps": 2, "final_fraction": 0.1},
    "steps": 12,
    "batch_size": 4,
    "gradient_clip": 1.0,
    "evaluation": {"every": 6, "log_every": 3, "train_examples": 8, "examples": 8},
    "seed": 0,
}
CASES = {
    "resnet": IMAGES,
    "resnet on a sphere": merge(
        IMAGES,
        {
            "model": {"norm_affine": False, "shortcut_norm": True, "frozen_head": True},
            "optimizer": {"learning_rate": 0.001},
            "norm_control": {"radius": 1.0, "every": 2},
        },
    ),
    "vgg": merge(IMAGES, {"model": None}) | {"model": {"kind": "vgg", "width": 4, "stages": [1, 1]}},
    "vit": IMAGES | {"model": {"kind": "vit", "layers": 1, "heads": 2, "width": 8}},
    "mlp": IMAGES | {"model": {"kind": "mlp", "width": 8}},
    "gpt": TEXT,
    "gpt, decay in the loss": merge(TEXT, {"decay": {"form": "l2_loss", "weight_decay": 0.01}}),
    "gpt, cautious": merge(TEXT, {"decay": {"form": "cautious", "weight_decay": 1.0}}),
}


def spec(base: dict[str, Any], **changes: Any) -> RunSpec:
    return parse_spec(merge(base, changes), "test")


def arms(base: dict[str, Any]) -> list[RunSpec]:
    """What a sweep varies: seed, learning rate, decay, and how often is evaluated."""
    rate = base["optimizer"]["learning_rate"]
    return [
        spec(base),
        spec(base, seed=1, decay={"weight_decay": 0.0}),
        spec(base, seed=1, optimizer={"learning_rate": rate / 3}, evaluation={"every": 4}),
    ]
