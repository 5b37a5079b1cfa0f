import pytest
import torch

from decaylab import spec
from decaylab.models import build_model
from decaylab.probes.completion import completion


@pytest.fixture
def model():
    tiny = spec.GPT(layers=1, heads=2, width=16, context_length=16, dropout=0.5, vocabulary=300)
    module = build_model(tiny, classes=256, seed=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 10
    return module


def encode(text: str) -> list[int]:
    return list(text.encode("latin-1"))


def decode(tokens: list[int]) -> str:
    return bytes(tokens).decode("latin-1")


def test_continues_the_prompt_greedily(model):
    text = completion(model, encode, decode, length=5)
    assert text.startswith("Every effort moves you")
    tokens = encode("Every effort moves you")
    model.eval()
    for _ in range(5):
        tokens.append(int(model(torch.tensor([tokens[-16:]]))[0, -1, :256].argmax()))
    assert text == decode(tokens)


@pytest.mark.parametrize("training", [True, False])
def test_is_deterministic_and_leaves_no_trace(model, training):
    model.train(training)
    state = torch.get_rng_state()
    first = completion(model, encode, decode, prompt="A", length=20)
    assert first == completion(model, encode, decode, prompt="A", length=20)
    assert len(first) == 21
    assert torch.equal(torch.get_rng_state(), state)
    assert {module.training for module in model.modules()} == {training}


def test_the_mode_comes_back_after_an_error(model):
    with pytest.raises(IndexError):
        completion(model, lambda text: [999], decode)
    assert model.training
