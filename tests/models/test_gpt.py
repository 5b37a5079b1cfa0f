import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decaylab import spec
from decaylab.errors import InputError
from decaylab.models import build_model
from decaylab.models.gpt import GPT

TOKENS = 11
TINY = spec.GPT(layers=2, heads=2, width=8, context_length=6)
VARIANTS = {
    "gpt2": {},
    "untied": {"tied": False},
    "no_bias": {"bias": False},
    "no_qkv_bias": {"qkv_bias": False},
    "qk_norm": {"qk_norm": True},
    "padded": {"vocabulary": 16},
}


def build(**changes) -> GPT:
    """In float64, with every parameter away from its neutral value."""
    module = build_model(TINY.model_copy(update=changes), classes=TOKENS, seed=0).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module


def reference(state: dict[str, torch.Tensor], tokens: list[int], heads: int, layers: int) -> torch.Tensor:
    """GPT-2 of one sequence, position by position and head by head: [T, vocabulary]."""

    def linear(x, name):
        y = state[f"{name}.weight"] @ x
        return y + state[f"{name}.bias"] if f"{name}.bias" in state else y

    def layer_norm(x, name):
        y = (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5) * state[f"{name}.weight"]
        return y + state[f"{name}.bias"] if f"{name}.bias" in state else y

    def rms_norm(x, name):
        if f"{name}.weight" not in state:
            return x
        return x / math.sqrt((x**2).mean() + 1e-5) * state[f"{name}.weight"]

    def gelu(x):
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    embedded = zip(tokens, state["position_embedding.weight"], strict=False)
    stream = [state["token_embedding.weight"][token] + position for token, position in embedded]
    width = len(stream[0])
    size = width // heads
    for layer in range(layers):
        name = f"blocks.{layer}"
        projected = [linear(layer_norm(x, f"{name}.norm1"), f"{name}.attention.qkv") for x in stream]
        for here in range(len(stream)):
            mixed = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query = rms_norm(projected[here][:width][part], f"{name}.attention.query_norm")
                logits = []
                for there in range(here + 1):
                    key = rms_norm(projected[there][width : 2 * width][part], f"{name}.attention.key_norm")
                    logits.append((query * key).sum() / math.sqrt(size))
                weights = torch.stack(logits).exp()
                weights /= weights.sum()
                values = torch.stack([projected[there][2 * width :][part] for there in range(here + 1)])
                mixed.append((weights[:, None] * values).sum(0))
            stream[here] = stream[here] + linear(torch.cat(mixed), f"{name}.attention.output")
        for here, x in enumerate(stream):
            inner = gelu(linear(layer_norm(x, f"{name}.norm2"), f"{name}.mlp.input"))
            stream[here] = x + linear(inner, f"{name}.mlp.output")
    return torch.stack([state["head.weight"] @ layer_norm(x, "norm") for x in stream])


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_equals_a_slow_reference(variant):
    module = build(**VARIANTS[variant])
    tokens = torch.randint(TOKENS, (3, 6), generator=torch.Generator().manual_seed(2))
    logits = module(tokens)
    assert logits.shape == (3, 6, VARIANTS[variant].get("vocabulary", TOKENS))
    expected = [reference(module.state_dict(), row.tolist(), TINY.heads, TINY.layers) for row in tokens]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-10, atol=1e-10)


@given(
    tokens=st.lists(st.integers(0, TOKENS - 1), min_size=2, max_size=TINY.context_length),
    data=st.data(),
    qk_norm=st.booleans(),
)
@settings(max_examples=30)
def test_a_token_changes_no_earlier_logit(tokens, data, qk_norm):
    place = data.draw(st.integers(1, len(tokens) - 1))
    module = build(qk_norm=qk_norm)
    changed = list(tokens)
    changed[place] = (tokens[place] + data.draw(st.integers(1, TOKENS - 1))) % TOKENS
    before, after = module(torch.tensor([tokens, changed]))
    torch.testing.assert_close(after[:place], before[:place], rtol=0, atol=1e-12)
    assert (after[place] - before[place]).abs().max() > 1e-6


def test_initial_weights_are_those_of_gpt2():
    module = build_model(TINY.model_copy(update={"layers": 8, "width": 128}), classes=300, seed=0)
    residual = ("attention.output.weight", "mlp.output.weight")
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            expected = 0.02 / math.sqrt(16) if name.endswith(residual) else 0.02
            # five standard errors of a standard deviation
            assert float(parameter.detach().std()) == pytest.approx(
                expected, rel=5 / math.sqrt(2 * parameter.numel())
            ), name


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_shares_the_embeddings_storage_only_when_tied(tied):
    module = build(tied=tied)
    assert (module.head.weight is module.token_embedding.weight) is tied
    assert (module.head.weight.data_ptr() == module.token_embedding.weight.data_ptr()) is tied
    assert ("head.weight" in dict(module.named_parameters())) is not tied


def test_biases_are_where_they_were_asked_for():
    assert not any(name.endswith("bias") for name, _ in build(bias=False).named_parameters())
    full, without = (dict(build(qkv_bias=qkv_bias).named_parameters()) for qkv_bias in (True, False))
    assert full.keys() - without.keys() == {"blocks.0.attention.qkv.bias", "blocks.1.attention.qkv.bias"}


def test_dropout_acts_in_training_only():
    module, plain = build(dropout=0.5), build()
    tokens = torch.tensor([[1, 2, 3]])
    assert not torch.equal(module(tokens), module(tokens))
    module.eval()
    torch.testing.assert_close(module(tokens), plain(tokens))


@pytest.mark.parametrize("place", ["embedding", "attention", "residual"])
def test_each_dropout_is_connected(place):
    """With certain dropout of one part, what remains is what that part does not reach."""
    module, tokens = build(), torch.tensor([[1, 2, 3]])
    block = module.blocks[0]
    x = torch.randn(3, 8, dtype=torch.float64)
    if place == "embedding":
        module.dropout = 1.0
        other = torch.tensor([[4, 5, 6]])
        torch.testing.assert_close(module(tokens), module(other))
    elif place == "attention":
        block.attention.dropout = 1.0
        assert not block.attention(x, 3).any()
    else:
        block.mlp.dropout = 1.0
        assert not block.mlp(x).any()


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused():
    with pytest.raises(InputError, match=r"model\.vocabulary: expected at least 11 .*, got 10"):
        build(vocabulary=10)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(ValueError, match="7 tokens are more than the context of 6"):
        build()(torch.zeros(1, 7, dtype=torch.int64))


def test_generation_takes_the_likeliest_token_of_the_last_context():
    module = build()
    prompt = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    expected = prompt
    for _ in range(5):
        logits = module(expected[:, -6:])[:, -1]
        expected = torch.cat([expected, logits.argmax(1)[:, None]], 1)
    result = module.generate(prompt, 5)
    assert result.shape == (2, 9)
    assert torch.equal(result, expected)
    assert not result.requires_grad


def test_generation_never_chooses_padding():
    module = build(vocabulary=16, tied=False)
    with torch.no_grad():
        module.head.weight[TOKENS:] = 100 * module(torch.tensor([[1]]))[0, 0, 0].sign() * module.head.weight[0]
    assert module(torch.tensor([[1]]))[0, 0].argmax() >= TOKENS
    assert module.generate(torch.tensor([[1]]), 12).max() < TOKENS
    generator = torch.Generator().manual_seed(0)
    assert module.generate(torch.tensor([[1]]), 12, temperature=1, generator=generator).max() < TOKENS


def test_sampling_follows_its_generator_and_the_distribution():
    module = build()
    prompt = torch.tensor([[3]]).expand(4000, 1)
    first = module.generate(prompt, 1, temperature=2, generator=torch.Generator().manual_seed(0))[:, 1]
    again = module.generate(prompt, 1, temperature=2, generator=torch.Generator().manual_seed(0))[:, 1]
    assert torch.equal(first, again)
    expected = (module(torch.tensor([[3]]))[0, 0] / 2).softmax(0)
    # five standard errors of a share
    assert (first.bincount(minlength=TOKENS) / 4000 - expected).abs().max() < 5 * 0.5 / math.sqrt(4000)
