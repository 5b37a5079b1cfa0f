"""A small workflow that faults are injected into: the real commands, each in a forked process.

The parent imports torch once, so a broken attempt costs milliseconds where a new interpreter costs seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import scipy.stats  # noqa: F401  (imported once, by the parent)

from decaylab import cli
from decaylab.analysis import judge  # noqa: F401
from decaylab.files import Layout, sha256_file
from decaylab.fingerprint import fingerprint
from decaylab.replication import plan_runs, select
from decaylab.report import notebook, site  # noqa: F401
from decaylab.training import loop, runner  # noqa: F401
from decaylab.training.cost import pricing  # noqa: F401
from tests.workflow.conftest import IMAGES, TINY_LR, VGG, replication, write_replication

ROOT = Path(__file__).resolve().parents[2]
NAME = "small"
COMMANDS = {
    "data": ["data", NAME],
    "train": ["train", "--missing", "--replications", NAME],
    "judge": ["judge", NAME],
    "site": ["site"],
}
PHASES = tuple(COMMANDS)
CRASHED = 86
"""exit code of an injected crash"""


@dataclass
class Ended:
    """How an attempt ended."""

    code: int
    """exit code; minus the signal that ended it"""
    printed: str

    @property
    def message(self) -> str:
        """The last line of decaylab's own."""
        lines = [line for line in self.printed.splitlines() if line.startswith("decaylab: ")]
        return lines[-1] if lines else ""


class Workflow:
    """A clone with one replication: four runs, and two that start from snapshots of them."""

    def __init__(self, root: Path, steps: int = 60) -> None:
        self.root, self.layout = root, Layout(root / "results", root / "reports")
        base = replication(1, VGG, IMAGES, headline=True, grids={"tiny_lr": TINY_LR})
        base["base"] |= {"steps": steps, "evaluation": {"every": steps // 4, "log_every": steps // 20}}
        for test in base["claims"][0]["tests"]:
            test |= {"arm": test["arm"] | {"grid": "main"}, "minus": test["minus"] | {"grid": "main"}}
        write_replication(root, NAME, base)
        shutil.copy(ROOT / "replications" / "references.yaml", root / "replications")
        (root / "docs").mkdir(exist_ok=True)
        self.specs = {run_id: run.spec for run_id, run in plan_runs(select(root, "all"), "smoke").items()}
        for spec in self.specs.values():
            fingerprint(spec)  # remembered

    def clear(self) -> None:
        """Forget all results but the timings of this machine, which take longer than a run."""
        for path in [*self.layout.results.glob("*"), *self.layout.results.glob(".*"), self.layout.reports]:
            if path.name == "calibration.json":
                continue
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)

    def start(self, phases: Iterable[str] = PHASES, inject: Callable[[], None] = lambda: None) -> int:
        """Begin an attempt; returns its process id.

        Args:
            inject: called in the new process before the first phase.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.chdir(self.root)
            file = os.open(self.root / f"printed-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            loop.CHECKPOINT_SECONDS = 0.0
            code = self._run(phases, inject)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @staticmethod
    def _run(phases: Iterable[str], inject: Callable[[], None]) -> int:
        inject()
        for phase in phases:
            sys.argv = ["decaylab", *COMMANDS[phase], "--scale", "smoke"]
            try:
                cli.main()
            except SystemExit as end:
                if end.code:
                    return int(end.code)
        return 0

    def wait(self, pid: int) -> Ended:
        _, status = os.waitpid(pid, 0)
        printed = self.root / f"printed-{pid}"
        text = printed.read_text(errors="replace") if printed.exists() else ""
        printed.unlink(missing_ok=True)
        return Ended(os.waitstatus_to_exitcode(status), text)

    def run(self, phases: Iterable[str] = PHASES, inject: Callable[[], None] = lambda: None) -> Ended:
        return self.wait(self.start(phases, inject))

    def signalled(self, number: int, seconds: float, phases: Iterable[str] = PHASES) -> Ended:
        """An attempt that gets a signal after some time, unless it ends earlier."""
        pid = self.start(phases)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return self.wait(pid)
            time.sleep(min(0.002, max(0.0, end - time.monotonic())))
        os.kill(pid, number)
        return self.wait(pid)

    def finished(self) -> dict[str, str]:
        """Of each run whose record is whole: when its training began, which a second training would change."""
        found = {}
        for run_id in self.specs:
            state = self.layout.state(run_id)
            if (state / "done.json").exists():
                summary = json.loads((state / "summary.json").read_text())
                found[run_id] = f"{summary['started_at']} {summary['seconds']}"
        return found

    def bits(self) -> dict[str, str]:
        """Everything that a user relies on, as digests: numbers of each run, snapshots, verdicts."""
        found = {}
        for run_id, spec in self.specs.items():
            summary = json.loads(self.layout.summary(run_id).read_text())
            kept = {key: summary[key] for key in ("run_id", "spec", "final", "diverged_at_step", "applied_decay")}
            found[f"{run_id} summary"] = json.dumps(kept)
            paths = [self.layout.metrics(run_id), *(self.layout.snapshot(run_id, step) for step in spec.snapshots)]
            found |= {f"{run_id} {path.name}": sha256_file(path) for path in paths}
        verdicts = json.loads(self.layout.verdicts("smoke", NAME).read_text())["claims"]
        found["verdicts"] = json.dumps([{key: claim[key] for key in JUDGED} for claim in verdicts])
        return found


JUDGED = ("claim", "verdict", "estimate", "interval", "n", "registered_before_runs")


def stop(pid: int) -> None:
    """End a process that must not outlive a test."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
