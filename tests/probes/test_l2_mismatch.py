"""One update by L2 against one by decay: equal for SGD in double precision, and as written out for Adam."""

import math

import pytest
import torch

from decaylab.files import Layout, read_json
from decaylab.probes.l2_mismatch import step_of
from decaylab.training.loop import Options, train
from tests.training.cases import CASES, spec

SGDS = [{"name": "sgd", "learning_rate": 0.1}, {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}]
ADAM = {"name": "adamw", "learning_rate": 0.01}


def final(tmp_path, **changes):
    summary = train(spec(CASES["mlp"], **changes), Layout(tmp_path), Options())
    return read_json(Layout(tmp_path).summary(summary["run_id"]))["final"]["l2_mismatch"]


@pytest.mark.parametrize("optimizer", SGDS)
def test_sgd_makes_no_difference(optimizer, tmp_path):
    decay = {"weight_decay": 0.1, "form": "decoupled", "multipliers": {"bias": 0}}
    found = final(tmp_path, optimizer=optimizer, decay=decay, evaluation={"probes": ["l2_mismatch"]})
    assert 0 <= found < 1e-12


def test_adam_does(tmp_path):
    decay = {"weight_decay": 0.1, "form": "decoupled"}
    assert final(tmp_path, optimizer=ADAM, decay=decay, evaluation={"probes": ["l2_mismatch"]}) > 0.1


def test_nothing_decays(tmp_path):
    found = final(tmp_path, optimizer=ADAM, decay={"weight_decay": 0}, evaluation={"probes": ["l2_mismatch"]})
    assert found is None or math.isnan(found)


def test_a_step_of_adam_is_the_papers():
    weight, gradient = torch.tensor([3.0], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    parameter = torch.tensor([3.0]).requires_grad_()
    optimizer = torch.optim.AdamW([parameter], lr=0.5, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.0)
    parameter.grad = torch.tensor([0.5])
    optimizer.step()
    (found,) = step_of(torch.optim.AdamW, optimizer.state_dict(), {"mlp": [weight]}, {"mlp": [gradient]}, 0.1)
    mean = (0.9 * 0.1 * 0.5 + 0.1 * 0.2) / (1 - 0.9**2)
    square = (0.99 * 0.01 * 0.25 + 0.01 * 0.04) / (1 - 0.99**2)
    assert found.item() == pytest.approx(0.1 * mean / (math.sqrt(square) + 1e-3), rel=1e-6)
