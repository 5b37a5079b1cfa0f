import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decaylab.files import Layout
from decaylab.optim.norm_control import project
from decaylab.spec import NormControl
from decaylab.training.learner import Learner
from decaylab.training.loop import train
from tests.training.cases import IMAGES, spec

SPHERE = {"norm_affine": False, "shortcut_norm": True, "frozen_head": True}


@given(st.floats(0.1, 100), st.sampled_from([None, 1, 3]), st.integers(0, 12))
def test_weights_keep_their_direction_and_get_the_radius_where_it_is_due(radius, every, updates):
    before = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = before.clone()
    project(weights, NormControl(radius=radius, every=every), updates)
    due = updates == 0 or (every is not None and updates % every == 0)
    assert weights.norm().item() == pytest.approx(radius if due else before.norm().item(), rel=1e-12)
    assert torch.nn.functional.cosine_similarity(weights, before, dim=0).item() == pytest.approx(1)


def test_without_control_nothing_changes():
    weights = torch.ones(3)
    project(weights, None, 0)
    assert torch.equal(weights, torch.ones(3))


@pytest.mark.parametrize("every", [None, 1, 4])
def test_steps_equal_those_of_plain_sgd_with_projections_in_between(every):
    """The reference takes the weights one by one, and knows nothing of the vector that holds them."""
    run = spec(
        IMAGES,
        model=SPHERE,
        optimizer={"learning_rate": 0.01, "momentum": 0.0},
        decay={"weight_decay": 0.0},
        ema=None,
        norm_control={"radius": 2.0} | ({"every": every} if every else {}),
    )
    learner = Learner(run, 10, torch.device("cpu"))
    plain = Learner(run.model_copy(update={"norm_control": None}), 10, torch.device("cpu")).model
    weights = [weight for weight in plain.parameters() if weight.requires_grad]

    def scale():
        norm = torch.cat([weight.detach().flatten() for weight in weights]).double().norm()
        for weight in weights:
            weight.data.div_(norm / 2.0)

    optimizer = torch.optim.SGD(weights, lr=0.01)
    scale()
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        images = torch.randn(16, 3, 8, 8, generator=generator)
        labels = torch.randint(10, (16,), generator=generator)
        learner.backward((images, labels))
        learner.update(step, logged=False)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(plain(images), labels).backward()
        optimizer.step()
        if every and (step + 1) % every == 0:
            scale()
    for name, expected in plain.named_parameters():
        torch.testing.assert_close(learner.parameters[name].detach(), expected.detach(), rtol=1e-4, atol=1e-6)
    norm = learner.flat.weights.norm().item()
    assert norm == pytest.approx(2.0, rel=1e-5) if every else norm > 2.0


def test_a_run_that_starts_from_a_snapshot_keeps_the_norm_it_finds(tmp_path):
    parent = spec(IMAGES, model=SPHERE, norm_control={"radius": 1.0, "every": 1}, snapshots=[12])
    layout = Layout(tmp_path)
    assert train(parent, layout)["final"]["weight_norm"] == pytest.approx(1, rel=1e-5)
    child = spec(
        IMAGES, model=SPHERE, norm_control={"radius": 9.0}, optimizer={"learning_rate": 1e-6},
        start={"run": parent.model_dump(mode="json", exclude_none=True), "step": 12},
    )  # fmt: skip
    assert train(child, layout)["final"]["weight_norm"] == pytest.approx(1, rel=1e-3)
