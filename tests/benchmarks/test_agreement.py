"""Steps of a peer's script against ours: a script that does the same agrees to rounding, another one does not."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agreement

ROOT = Path(__file__).resolve().parents[2]
FEW = {"seed": 0, "dtype": "float64", "steps": 12}

SCRIPT = """
import math, pathlib, sys
import numpy as np
import torch
from decaylab import spec
from decaylab.exchange.gpt2 import layer_names
from decaylab.models.gpt import GPT as Network

text = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
number = {name: float(value) for name, value in text.items() if value.replace(".", "").replace("-", "").isdigit()}
size, batch, steps = (int(number[name]) for name in ("block_size", "batch_size", "max_iters"))
model = spec.GPT(layers=int(number["n_layer"]), heads=int(number["n_head"]), width=int(number["n_embd"]),
                 context_length=size, vocabulary=256, bias=False)
tokens = np.fromfile(pathlib.Path(text["dataset"]) / "train.bin", dtype=np.uint16).astype(np.int64)


class GPT(Network):
    def forward(self, inputs, targets):
        logits = super().forward(inputs)
        return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


torch.manual_seed(int(number["random_seed"]))
network = GPT(model, 256)
parts = {True: [], False: []}
for name, weight in network.named_parameters():
    parts["norm" not in name or DECAYED_NORMS].append(weight)
optimizer = torch.optim.AdamW(
    [{"params": parts[True], "weight_decay": number["weight_decay"]}, {"params": parts[False], "weight_decay": 0}],
    betas=(number["beta1"], number["beta2"]),
)


def keep(step):
    state = network.state_dict()
    named = {f"{theirs}.weight": state[f"{ours}.weight"] for ours, theirs in layer_names(model)}
    torch.save({"model": named}, pathlib.Path(text["out_dir"]) / f"fake-iter={step}.pt")


for step in range(steps + 1):
    if step in (0, steps):
        keep(step)
        with torch.no_grad():
            network(torch.zeros(1, size, dtype=torch.int64), torch.zeros(1, size, dtype=torch.int64))
    progress = (step - number["warmup_iters"]) / (steps - number["warmup_iters"])
    peak, least = number["learning_rate"], number["min_lr"]
    cosine = least + 0.5 * (1 + math.cos(math.pi * progress)) * (peak - least)
    rate = peak * step / number["warmup_iters"] if progress < 0 else cosine
    for group in optimizer.param_groups:
        group["lr"] = rate
    starts = torch.randint(len(tokens) - size, (batch,)).tolist()
    windows = torch.tensor(np.stack([tokens[start : start + size + 1] for start in starts]))
    loss = network(windows[:, :-1], windows[:, 1:])[1]
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), number["grad_clip"])
    optimizer.step()
"""


def peer(folder: Path, *, decayed_norms: bool = False) -> Path:
    """A checkout whose script trains as the EPFL's, with torch's own AdamW."""
    script = folder / "peer" / agreement.PEERS["epfl"]
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT.replace("DECAYED_NORMS", str(decayed_norms)))
    return folder / "peer"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    folder = tmp_path / "tokens"
    folder.mkdir()
    for name in ("train", "val"):
        np.random.default_rng(0).integers(256, size=5000, dtype=np.uint16).tofile(folder / f"{name}.bin")
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 256}))
    return folder


@pytest.mark.parametrize("decay", [0.0, 1.5])
def test_a_script_that_does_the_same_agrees_to_rounding(tmp_path: Path, tokens: Path, decay: float) -> None:
    apart = agreement.step_by_step(peer(tmp_path), tokens, tmp_path / "out", decay=decay, **FEW)
    assert max(apart) < 1e-12


def test_another_decay_is_seen(tmp_path: Path, tokens: Path) -> None:
    checkout = peer(tmp_path, decayed_norms=True)
    loss, weights = agreement.step_by_step(checkout, tokens, tmp_path / "out", decay=1.5, **FEW)
    assert loss > 1e-6
    assert weights > 1e-4


def test_final_losses_are_of_the_same_windows(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "DATA", {"kind": "text", "source": "arithmetic", "tokenizer": "bytes"})
    found = agreement.final_losses(peer(tmp_path), tokens, tmp_path / "out", 0.5, 0, 20)
    assert found.keys() == {"ours", "theirs", "replayed"}
    for split in ("train", "validation"):
        assert found["replayed"][split] == pytest.approx(found["theirs"][split], abs=1e-4)
        # theirs saw noise, ours the text that both are judged by
        assert found["ours"][split] < found["theirs"][split] - 0.1


def test_why_a_script_failed_is_told(tmp_path: Path, tokens: Path) -> None:
    script = tmp_path / "peer" / agreement.PEERS["epfl"]
    script.parent.mkdir(parents=True)
    script.write_text("raise SystemExit('no GPU')")
    with pytest.raises(RuntimeError, match=r"large_language_models/train\.py: no GPU"):
        agreement.step_by_step(tmp_path / "peer", tokens, tmp_path / "out", decay=0.5, **FEW)


def test_the_table_has_means_and_an_interval() -> None:
    seeds = [
        {"ours": {"train": ours}, "theirs": {"train": theirs}, "replayed": {"train": theirs + 1e-5}}
        for ours, theirs in ((2.0, 2.1), (2.2, 2.1), (2.4, 2.4))
    ]
    *_, row = agreement.table({"0.1": seeds}, "train")
    assert row == "| 0.1 | 2.2000 ± 0.1732 | 2.2000 ± 0.2000 | +0.0000 [-0.4275, +0.4275] | within 1.0e-05 |"


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.agreement", "--peer", f"epfl={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"agreement: --peer epfl={tmp_path}: no checkout of it")
    assert done.stderr.count("\n") == 1
