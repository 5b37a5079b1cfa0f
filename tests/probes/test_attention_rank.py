import pytest
import torch

from decaylab.models import build_model
from decaylab.probes.attention_rank import effective_rank, heads, singular_values, stable_rank
from decaylab.spec import GPT

MODEL = GPT(layers=2, heads=2, width=16, context_length=8, vocabulary=32)


def test_singular_values_are_those_of_the_product():
    left, right = torch.randn(2, 3, 4, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.linalg.svdvals(left.transpose(-2, -1) @ right)[..., :4]
    torch.testing.assert_close(singular_values(left, right), expected)


def test_equal_values_have_full_rank_and_a_single_one_has_rank_one():
    for rank in (effective_rank, stable_rank):
        torch.testing.assert_close(rank(torch.tensor([2.0, 2.0, 2.0])), torch.tensor(3.0))
        torch.testing.assert_close(rank(torch.tensor([2.0, 0.0, 0.0])), torch.tensor(1.0))
    assert stable_rank(torch.tensor([2.0, 1.0])).item() == pytest.approx(1.25)


def test_the_matrices_are_those_of_the_attention():
    """Logits from W_QK, and what a head adds from W_VO, are what the layer computes."""
    model = build_model(MODEL, classes=32, seed=0)
    attention = model.blocks[0].attention
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    query, key, value, output = next(heads(model))
    found_query, found_key, found_value = (part[0] for part in attention.query_key_value(x, 5))
    bias = attention.qkv.bias.view(3, 2, 1, 8)
    logits = x @ (query.transpose(-2, -1) @ key) @ x.T
    torch.testing.assert_close(logits, (found_query - bias[0]) @ (found_key - bias[1]).transpose(-2, -1))
    mixed = (x @ (output @ value).transpose(-2, -1)).sum(0)
    expected = (found_value - bias[2]).transpose(0, 1).reshape(5, 16) @ attention.output.weight.T
    torch.testing.assert_close(mixed, expected)
