"""GPT-2 as `transformers` keeps it: a folder with `config.json` and `model.safetensors`.

GPT-2 has the tanh approximation of GELU where ours is exact, and a bias everywhere. An exported model names the exact
GELU in its config, and biases that ours lacks are zeros, so its logits are the same. An imported model gets the GELU
that its config names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from decaylab import spec
from decaylab.errors import InputError
from decaylab.files import atomic_path, read_json, write_json
from decaylab.models.gpt import GPT, FeedForward, dropped
from decaylab.yaml_files import explain

CONFIG, WEIGHTS = "config.json", "model.safetensors"
VOCABULARY = 50257
"""of GPT-2's tokenizer"""
_EPS = 1e-5
"""of our layer norms"""
_SEPARATORS = {"bytes": 0, "gpt2": 50256}
"""token between documents, by tokenizer"""
_BLOCK = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "norm2": "ln_2",
    "mlp.input": "mlp.c_fc",
    "mlp.output": "mlp.c_proj",
}
"""our layer: GPT-2's"""
_LINEAR = ("attention.qkv", "attention.output", "mlp.input", "mlp.output")
"""layers whose weights GPT-2 keeps transposed, [in, out]"""


class TanhFeedForward(FeedForward):
    """With the tanh approximation of GELU (Hendrycks and Gimpel 2016, equation 2), as OpenAI's GPT-2."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped(self.output(F.gelu(self.input(x), approximate="tanh")), self.dropout, self.training)


class Config(BaseModel):
    """What decides a GPT-2's logits. Other keys are ignored; absent ones have transformers' defaults."""

    model_config = ConfigDict(strict=True)

    model_type: Literal["gpt2"]
    vocab_size: PositiveInt = VOCABULARY
    n_positions: PositiveInt = 1024
    n_embd: PositiveInt = 768
    n_layer: PositiveInt = 12
    n_head: PositiveInt = 12
    n_inner: PositiveInt | None = None
    activation_function: Literal["gelu", "gelu_new", "gelu_pytorch_tanh"] = "gelu_new"
    layer_norm_epsilon: float = _EPS
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    add_cross_attention: Literal[False] = False
    tie_word_embeddings: bool = True

    @model_validator(mode="after")
    def _check(self) -> Config:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.n_inner not in (None, 4 * self.n_embd):
            raise ValueError(f"n_inner: expected 4 x n_embd = {4 * self.n_embd}, got {self.n_inner}")
        if self.layer_norm_epsilon != _EPS:
            raise ValueError(f"layer_norm_epsilon: expected {_EPS:g}, got {self.layer_norm_epsilon:g}")
        return self

    @property
    def model(self) -> spec.GPT:
        """The network, without dropout."""
        return spec.GPT(
            layers=self.n_layer,
            heads=self.n_head,
            width=self.n_embd,
            context_length=self.n_positions,
            vocabulary=self.vocab_size,
            tied=self.tie_word_embeddings,
        )


def write(
    folder: Path, model: spec.GPT, weights: Mapping[str, Tensor], *, tokenizer: str, about: Mapping[str, Any]
) -> None:
    """Write `config.json` and `model.safetensors`, from which `GPT2LMHeadModel.from_pretrained(folder)` has our logits.

    Args:
        weights: `state_dict` of a GPT of this shape.
        tokenizer: of the data; decides which token begins and ends a text.
        about: kept in the config under `decaylab`.

    Raises:
        InputError: GPT-2 has no such network, or one of the files exists.
    """
    if model.qk_norm:
        raise InputError("export: model.qk_norm: GPT-2 has no norms of queries and keys; expected a model without them")
    for name in (CONFIG, WEIGHTS):
        if (folder / name).exists():
            raise InputError(f"export: {folder / name}: exists already; expected a new folder")
    tensors = to_gpt2(model, weights)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": len(weights["token_embedding.weight"]),
        "n_positions": model.context_length,
        "n_embd": model.width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "activation_function": "gelu",
        "layer_norm_epsilon": _EPS,
        "tie_word_embeddings": model.tied,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), model.dropout),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), _SEPARATORS[tokenizer]),
        "dtype": str(weights["token_embedding.weight"].dtype).removeprefix("torch."),
        "decaylab": dict(about),
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})  # transformers refuses files without it
    write_json(folder / CONFIG, config)


def read(folder: Path) -> GPT:
    """The GPT-2 of a folder, in float32 and evaluation mode, on the CPU.

    Raises:
        InputError: a file is missing, unreadable, of another kind of model or of another shape.
    """
    path = folder / CONFIG
    try:
        config = Config.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError(explain(error, str(path))) from None
    model, path = config.model, folder / WEIGHTS
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    network = build(config)
    try:
        weights = from_gpt2(model, tensors)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    if model.tied:
        network.head.weight = network.token_embedding.weight
    return network.eval()


def build(config: Config) -> GPT:
    """The network of a config; its weights have shapes but no memory."""
    model = config.model
    with torch.device("meta"):
        network = GPT(model, config.vocab_size)
        if config.activation_function != "gelu":
            for block in network.blocks:
                block.mlp = TanhFeedForward(model)
    return network


def to_gpt2(model: spec.GPT, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights (or gradients) by GPT-2's names and in its layout; absent biases are zeros."""
    tensors: dict[str, Tensor] = {}
    for ours, theirs in layer_names(model):
        weight = weights[f"{ours}.weight"].detach()
        if _is_embedding(ours):
            tensors[f"{theirs}.weight"] = weight.contiguous()
            continue
        bias = weights.get(f"{ours}.bias")
        tensors[f"{theirs}.bias"] = weight.new_zeros(len(weight)) if bias is None else bias.detach().contiguous()
        tensors[f"{theirs}.weight"] = (weight.T if ours.endswith(_LINEAR) else weight).contiguous()
    return tensors


def from_gpt2(model: spec.GPT, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `state_dict` of our network from GPT-2's tensors.

    Args:
        tensors: by name; OpenAI's names lack the prefix `transformer.`, and the attention mask may be among them.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape.
    """
    left = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}

    def take(name: str, *shape: int) -> Tensor:
        tensor = left.pop(name.removeprefix("transformer."), None)
        if tensor is None:
            raise ValueError(f"{name}: no such tensor")
        if tensor.shape != shape or not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{name}: expected a float tensor {list(shape)}, got {kind} {list(tensor.shape)}")
        return tensor

    shapes = {name: tuple(tensor.shape) for name, tensor in _shapes(model).items()}
    weights: dict[str, Tensor] = {}
    for ours, theirs in layer_names(model):
        shape = shapes[f"{ours}.weight"]
        if ours.endswith(_LINEAR):
            weights[f"{ours}.weight"] = take(f"{theirs}.weight", *reversed(shape)).T.contiguous()
        else:
            weights[f"{ours}.weight"] = take(f"{theirs}.weight", *shape)
        if not _is_embedding(ours):
            weights[f"{ours}.bias"] = take(f"{theirs}.bias", shape[0])
    if model.tied:
        left.pop("lm_head.weight", None)
        weights["head.weight"] = weights["token_embedding.weight"]
    unknown = [name for name in left if not name.endswith((".attn.bias", ".attn.masked_bias"))]
    if unknown:
        raise ValueError(f"{unknown[0]}: not a tensor of a GPT-2 of this config")
    return weights


def _shapes(model: spec.GPT) -> dict[str, Tensor]:
    with torch.device("meta"):
        return GPT(model, VOCABULARY).state_dict()


def _is_embedding(layer: str) -> bool:
    return layer.endswith("_embedding") or layer == "head"


def layer_names(model: spec.GPT) -> Iterator[tuple[str, str]]:
    """(our name, GPT-2's) of each layer that has weights of its own."""
    yield "token_embedding", "transformer.wte"
    yield "position_embedding", "transformer.wpe"
    for block in range(model.layers):
        for ours, theirs in _BLOCK.items():
            yield f"blocks.{block}.{ours}", f"transformer.h.{block}.{theirs}"
    yield "norm", "transformer.ln_f"
    if not model.tied:
        yield "head", "lm_head"
