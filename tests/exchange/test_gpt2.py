"""Our GPT against transformers' GPT-2: logits, gradients, and files that each reads from the other."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from decaylab import spec
from decaylab.data.tokenizers import tokenizer
from decaylab.errors import InputError
from decaylab.exchange import gpt2
from decaylab.models import build_model
from decaylab.models.gpt import GPT
from decaylab.training.learner import cross_entropy

transformers = pytest.importorskip("transformers", reason="GPT-2 of transformers, from the extra `dev`")

TOKENS = 11
TINY = spec.GPT(layers=2, heads=2, width=8, context_length=6)
VARIANTS = {
    "gpt2": {},
    "untied": {"tied": False},
    "no_bias": {"bias": False},
    "no_qkv_bias": {"qkv_bias": False},
    "padded": {"vocabulary": 16},
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def inputs() -> Tensor:
    return torch.randint(TOKENS, (3, 6), generator=torch.Generator().manual_seed(2))


def move(module: torch.nn.Module) -> None:
    """Put every parameter away from its neutral value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def ours(dtype: torch.dtype = torch.float32, **changes: object) -> GPT:
    module = build_model(TINY.model_copy(update=changes), classes=TOKENS, seed=0).to(dtype)
    move(module)
    return module


def theirs(folder: Path, dtype: torch.dtype = torch.float32, **changes: object) -> Path:
    """The folder of a random GPT-2 of transformers, as `save_pretrained` writes it."""
    shape = dict(n_layer=2, n_head=2, n_embd=8, n_positions=6, vocab_size=TOKENS, bos_token_id=0, eos_token_id=0)
    module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape | changes)).to(dtype)
    move(module)
    module.save_pretrained(folder)
    return folder


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    module = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager", dtype=dtype)
    return module.eval()


def exported(folder: Path, module: GPT, **changes: object) -> Path:
    model = TINY.model_copy(update=changes)
    gpt2.write(folder, model, module.state_dict(), tokenizer="bytes", about={"run_id": "gpt-0"})
    return folder


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def gradients(module: torch.nn.Module, logits: Tensor) -> dict[str, Tensor]:
    cross_entropy(logits[:, :-1], inputs()[:, 1:]).backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_gradients_equal_those_of_transformers(tmp_path, variant, dtype):
    changes, tolerance = VARIANTS[variant], TOLERANCE[dtype]
    mine = ours(dtype, **changes)
    other = loaded(exported(tmp_path, mine, **changes), dtype)
    logits, expected = mine(inputs()), other(inputs()).logits
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)

    model = TINY.model_copy(update=changes)
    found = gpt2.to_gpt2(model, gradients(mine, logits))
    theirs_by_name = gradients(other, expected)
    # a bias that ours lacks is a zero there, whose gradient has no counterpart
    lacking = [name for name, tensor in found.items() if not tensor.any()]
    assert len(found) - len(lacking) == len(list(mine.parameters()))
    assert_equal(*({n: t for n, t in each.items() if n not in lacking} for each in (found, theirs_by_name)), tolerance)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gpt2_of_transformers_is_read(tmp_path, activation, tied, dtype):
    folder = theirs(tmp_path, dtype, activation_function=activation, tie_word_embeddings=tied)
    other = loaded(folder, dtype)
    mine = gpt2.read(folder)
    assert not mine.training
    assert all(parameter.dtype == torch.float32 for parameter in mine.parameters())
    assert (mine.head.weight is mine.token_embedding.weight) is tied
    model = gpt2.Config(**tiny_config(tied=tied)).model
    mine = mine.to(dtype)
    mine.load_state_dict(gpt2.from_gpt2(model, load_file(folder / gpt2.WEIGHTS)))  # float64 was rounded
    logits, expected = mine(inputs()), other(inputs()).logits
    torch.testing.assert_close(logits, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert_equal(gpt2.to_gpt2(model, gradients(mine, logits)), gradients(other, expected), TOLERANCE[dtype])


def tiny_config(*, tied: bool = True) -> dict[str, object]:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 6, "vocab_size": TOKENS}
    return {"model_type": "gpt2", "tie_word_embeddings": tied, **shape}


def test_openais_own_names_and_its_masks_are_read(tmp_path):
    """The published file has no prefix, keeps the attention mask, and its config leaves out what is usual."""
    folder = theirs(tmp_path / "saved")
    expected = gpt2.read(folder)(inputs())
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(folder / gpt2.WEIGHTS).items()}
    tensors |= {f"h.{block}.attn.bias": torch.ones(1, 1, 6, 6).tril() for block in range(2)}
    published = tmp_path / "published"
    published.mkdir()
    save_file(tensors, published / gpt2.WEIGHTS)
    (published / gpt2.CONFIG).write_text(json.dumps(tiny_config() | {"n_ctx": 6, "layer_norm_epsilon": 1e-5}))
    assert torch.equal(gpt2.read(published)(inputs()), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_exported_is_read_again(tmp_path, variant):
    changes = VARIANTS[variant]
    mine = ours(**changes)
    again = gpt2.read(exported(tmp_path, mine, **changes))
    torch.testing.assert_close(again(inputs()), mine(inputs()), rtol=1e-6, atol=1e-6)
    config = json.loads((tmp_path / gpt2.CONFIG).read_text())
    assert config["eos_token_id"] == tokenizer("bytes").separator
    assert config["decaylab"] == {"run_id": "gpt-0"}


def test_bfloat16_weights_are_kept_as_they_are(tmp_path):
    mine = ours(torch.bfloat16)
    exported(tmp_path, mine)
    assert {tensor.dtype for tensor in load_file(tmp_path / gpt2.WEIGHTS).values()} == {torch.bfloat16}
    assert loaded(tmp_path, "auto").dtype == torch.bfloat16
    read = gpt2.read(tmp_path)
    assert torch.equal(read.blocks[0].mlp.input.weight, mine.blocks[0].mlp.input.weight.float())


def test_dropout_is_exported(tmp_path):
    exported(tmp_path, ours(dropout=0.25), dropout=0.25)
    module = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    assert {part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)} == {0.25}


def test_qk_norm_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"export: model\.qk_norm: GPT-2 has no norms"):
        exported(tmp_path, ours(qk_norm=True), qk_norm=True)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    exported(tmp_path, ours())
    before = (tmp_path / gpt2.WEIGHTS).read_bytes()
    with pytest.raises(InputError, match=r"config\.json: exists already; expected a new folder"):
        exported(tmp_path, ours(tied=False), tied=False)
    assert (tmp_path / gpt2.WEIGHTS).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, r"config\.json: model_type: Input should be 'gpt2', got 'llama'"),
        ({"activation_function": "relu"}, r"config\.json: activation_function: .*, got 'relu'"),
        ({"n_layer": 0}, r"config\.json: n_layer: Input should be greater than 0, got 0"),
        ({"n_head": 3}, r"config\.json: n_embd 8 is not divisible by n_head 3"),
        ({"n_inner": 16}, r"config\.json: n_inner: expected 4 x n_embd = 32, got 16"),
        ({"layer_norm_epsilon": 1e-6}, r"config\.json: layer_norm_epsilon: expected 1e-05, got 1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, r"config\.json: scale_attn_by_inverse_layer_idx: .*, got True"),
        ({"n_layer": 3}, r"model\.safetensors: transformer\.h\.2\.ln_1\.weight: no such tensor"),
        ({"n_layer": 1}, r"model\.safetensors: h\.1\.\S+: not a tensor of a GPT-2 of this config"),
        ({"n_positions": 7}, r"transformer\.wpe\.weight: expected a float tensor \[7, 8\], got float32 \[6, 8\]"),
        ({"tie_word_embeddings": False}, r"model\.safetensors: lm_head\.weight: no such tensor"),
    ],
)
def test_another_model_is_refused_with_one_line(tmp_path, change, message):
    exported(tmp_path, ours())
    path = tmp_path / gpt2.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as error:
        gpt2.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (gpt2.CONFIG, None, "no such file"),
        (gpt2.CONFIG, b"[]", "Input should be a valid dictionary"),
        (gpt2.CONFIG, b"{", "expected JSON"),
        (gpt2.WEIGHTS, None, "no such file"),
        (gpt2.WEIGHTS, b"no tensors", "not a readable safetensors file"),
    ],
)
def test_damaged_files_are_refused_with_one_line(tmp_path, name, content, message):
    exported(tmp_path, ours())
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        gpt2.read(tmp_path)
    assert str(error.value).startswith(str(path))
