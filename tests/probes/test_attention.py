import math

import pytest
import torch
from torch import nn

from decaylab import spec
from decaylab.models import build_model
from decaylab.probes import attention
from decaylab.probes.attention import attention_logits

TINY = spec.GPT(layers=2, heads=2, width=8, context_length=6, dropout=0.5)


@pytest.fixture(params=[False, True], ids=["plain", "qk_norm"])
def model(request) -> nn.Module:
    module = build_model(TINY.model_copy(update={"qk_norm": request.param}), classes=11, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(11, (5, 6), generator=torch.Generator().manual_seed(2))


def by_hand(model: nn.Module, tokens: torch.Tensor) -> float:
    """Largest attention logit by stepping through the blocks, each pair of positions on its own."""
    model.eval()
    length = tokens.shape[1]
    x = (model.token_embedding(tokens) + model.position_embedding.weight[:length]).flatten(0, 1)
    largest = 0.0
    for block in model.blocks:
        query, key, _ = block.attention.query_key_value(block.norm1(x), length)
        for here in range(length):
            for there in range(here + 1):
                logits = (query[:, :, here] * key[:, :, there]).sum(-1) / math.sqrt(4)
                largest = max(largest, float(logits.detach().abs().max()))
        x = block(x, length)
    return largest


def test_values_are_the_largest_of_their_kind(model, tokens):
    result = attention_logits(model, tokens)
    assert {key: (value.shape, value.dtype) for key, value in result.items()} == {
        key: (torch.Size(), torch.float32) for key in ("attention_logit", "max_logit", "max_weight")
    }
    model.eval()
    assert float(result["max_logit"]) == float(model(tokens).detach().abs().max())
    assert float(result["max_weight"]) == max(float(weight.detach().abs().max()) for weight in model.parameters())
    assert float(result["attention_logit"]) == pytest.approx(by_hand(model, tokens), rel=1e-5)


def test_later_keys_do_not_count():
    query = torch.zeros(1, 1, 3, 4)
    key = torch.zeros(1, 1, 3, 4)
    query[0, 0, 1] = key[0, 0, 1] = torch.tensor([2.0, 0, 0, 0])
    key[0, 0, 2] = torch.tensor([100.0, 0, 0, 0])
    assert float(attention._largest_logit(query, key)) == 2.0


def test_a_large_batch_is_taken_in_parts(model, tokens, monkeypatch):
    whole = attention_logits(model, tokens)
    monkeypatch.setattr(attention, "_BLOCK", 2 * 2 * 36)
    parts = attention_logits(model, tokens)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(model, tokens, training):
    model.train(training)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    attention_logits(model, tokens)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {module.training for module in model.modules()} == {training}
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_and_mode_are_restored_after_an_error(model):
    with pytest.raises(ValueError, match="context"):
        attention_logits(model, torch.zeros(1, 7, dtype=torch.int64))
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_nan_is_reported_rather_than_hidden(model, tokens):
    with torch.no_grad():
        model.blocks[0].mlp.output.weight[0, 0] = math.nan
    result = attention_logits(model, tokens)
    assert all(value.isnan() for value in result.values())


def test_bfloat16_weights_and_autocast_are_measured(model, tokens):
    expected = attention_logits(model, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(attention_logits(model, tokens), expected, rtol=0.05, atol=0)
    torch.testing.assert_close(attention_logits(model.bfloat16(), tokens), expected, rtol=0.05, atol=0)


def test_images_have_no_attention_logit():
    model = build_model(spec.PreActResNet(width=4, blocks=(1,)), classes=5, image_size=8, seed=0)
    before = model.norm.running_mean.clone()
    result = attention_logits(model, torch.randn(4, 3, 8, 8))
    assert set(result) == {"max_logit", "max_weight"}
    assert torch.equal(model.norm.running_mean, before)
