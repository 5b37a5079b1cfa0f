"""Checkpoints and snapshots are whole or absent."""

import errno

import pytest
import torch
from torch import nn

from decaylab.errors import InputError
from decaylab.training import checkpoint as module
from decaylab.training.checkpoint import load_checkpoint, load_snapshot, save_checkpoint, save_snapshot

KEY = {"spec": "a", "code": "b"}


def trained(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"key": KEY, "step": 1})

    def full(state: object, target: object) -> None:
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"key": KEY, "step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path, KEY)["step"] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_only_a_lost_shortcut(tmp_path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert load_checkpoint(path, KEY) is None


def test_a_checkpoint_of_other_code_is_not_used(tmp_path) -> None:
    save_checkpoint(tmp_path / "c.pt", {"key": KEY, "step": 1})
    assert load_checkpoint(tmp_path / "c.pt", KEY | {"code": "other"}) is None


def test_a_snapshot_restores_weights_buffers_and_optimizer(tmp_path) -> None:
    model, optimizer = trained(0)
    save_snapshot(tmp_path / "s.safetensors", model, None, optimizer)
    other, other_optimizer = trained(1)
    load_snapshot(tmp_path / "s.safetensors", other, other_optimizer)
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    ours, theirs = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    for index, state in ours.items():
        for key, value in state.items():
            assert torch.equal(value, theirs[index][key]), (index, key)


def test_a_missing_damaged_or_foreign_snapshot_is_one_line(tmp_path) -> None:
    model, optimizer = trained(0)
    path = tmp_path / "s.safetensors"
    with pytest.raises(InputError, match=r"no such snapshot; train the run it belongs to first"):
        load_snapshot(path, model, optimizer)
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"s\.safetensors: not a readable snapshot"):
        load_snapshot(path, model, optimizer)
    save_snapshot(path, model, None, optimizer)
    with pytest.raises(InputError, match=r"s\.safetensors: snapshot of another model"):
        load_snapshot(path, nn.Linear(2, 2), None)
