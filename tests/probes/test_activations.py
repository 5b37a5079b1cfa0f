import pytest
import torch

from decaylab.models import build_model
from decaylab.probes.activation_rms import residual_stream
from decaylab.probes.dynamic_range import dynamic_range, kurtosis
from decaylab.spec import GPT

MODEL = GPT(layers=3, heads=2, width=16, context_length=8, vocabulary=32, dropout=0.5)


def test_the_stream_is_what_each_block_hands_on():
    model = build_model(MODEL, classes=32, seed=0)
    tokens = torch.randint(32, (4, 8), generator=torch.Generator().manual_seed(0))
    streams = residual_stream(model, tokens)
    assert model.training
    assert not any(block._forward_hooks for block in model.blocks)
    model.eval()
    with torch.no_grad():
        x = (model.token_embedding(tokens) + model.position_embedding.weight).flatten(0, 1)
        for block, stream in zip(model.blocks, streams, strict=True):
            x = block(x, 8)
            torch.testing.assert_close(stream, x)
        torch.testing.assert_close(model.head(model.norm(streams[-1])).view(4, 8, -1), model(tokens))


def test_kurtosis_and_range_of_known_values():
    assert kurtosis(torch.tensor([-1.0, 1.0, -1.0, 1.0])).item() == 1
    assert kurtosis(torch.randn(200_000, generator=torch.Generator().manual_seed(0))).item() == pytest.approx(
        3, abs=0.1
    )
    assert dynamic_range(torch.tensor([3.0, 0.0, 0.0, -4.0])).item() == pytest.approx(4 / 2.5)
    # neither depends on the scale, and one outlier raises both
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    outlier = torch.cat([values, torch.tensor([20.0])])
    for measure in (kurtosis, dynamic_range):
        torch.testing.assert_close(measure(7 * values), measure(values))
        assert measure(outlier) > 2 * measure(values)
