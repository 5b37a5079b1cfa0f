"""Trains runs as one of several processes, in float64: `python -m tests.training.two_processes FOLDER`.

FOLDER has `specs.json` and prepared data. Each run is trained by all processes (into FOLDER/shared), again by all with
two stops (FOLDER/stopped), and by the first one alone (FOLDER/alone). With `--step 5 --killed 01`, both processes kill
themselves before step 5 of the first run, whose state is saved. A process without others goes on where they stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch

# whatever asks for float32 gets float64
torch.set_default_dtype(torch.float64)
torch.float32 = torch.float64
torch.Tensor.float = torch.Tensor.double
torch.nn.Module.float = torch.nn.Module.double

from decaylab import cli  # noqa: E402
from decaylab.errors import Interrupted  # noqa: E402
from decaylab.files import Layout  # noqa: E402
from decaylab.spec import RunSpec, parse_spec  # noqa: E402
from decaylab.training import distributed, launcher, loop  # noqa: E402
from decaylab.training.startup import postpone_compiler  # noqa: E402


def kill_at(step: int, ranks: str) -> None:
    """Save after every step, and let processes of these ranks not survive that step."""
    draw, save = distributed.SharedLoop._draw, distributed.SharedLoop._save

    def deadly(self):
        if self.step == step and str(self.ranks.rank) in ranks:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(self)

    def often(self):
        save(self)
        self.save_cost = 0.0

    loop.CHECKPOINT_SECONDS = 0.0
    distributed.SharedLoop._draw, distributed.SharedLoop._save = deadly, often


@cli.app.command()
def both(folder: Path, step: int | None = None, killed: str = "") -> None:
    specs = [parse_spec(value, "specs.json") for value in json.loads((folder / "specs.json").read_text())]
    postpone_compiler()
    here = launcher.place()
    ranks = distributed.join(here, "cpu") if here else None
    if step is not None:
        kill_at(step, killed)
    for spec in specs:
        if ranks:
            distributed.train_shared(ranks, spec, Layout(folder / "shared"), loop.Options())
            stopped(ranks, spec, Layout(folder / "stopped"))
        else:
            loop.train(spec, Layout(folder / "shared"))
        if not (ranks and ranks.rank) and not getattr(spec.model, "dropout", 0):
            loop.train(spec, Layout(folder / "alone"))
    if ranks:
        ranks.leave()


def stopped(ranks: distributed.Ranks, spec: RunSpec, layout: Layout) -> None:
    """Train it with stops after steps 2 and 5, for which the last process asks."""
    asked = itertools.count()
    while not ranks.share(layout.summary(spec.run_id).exists()):
        stop = loop.Options(stop=lambda: not ranks.first and next(asked) in (2, 6))
        with contextlib.suppress(Interrupted):
            distributed.train_shared(ranks, spec, layout, stop)


if __name__ == "__main__":
    sys.argv.insert(1, "both")
    cli.main()
