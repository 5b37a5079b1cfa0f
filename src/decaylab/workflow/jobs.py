"""Which jobs there are: runs that share a process, data sets that are prepared together, and what starts first."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from decaylab.data import prepared_key
from decaylab.files import sha256_json
from decaylab.fingerprint import fingerprint
from decaylab.operations import run_flops
from decaylab.replication import PlannedRun


@dataclass(frozen=True)
class TrainingJob:
    """Runs that one process trains. None of them starts from another or follows it."""

    runs: tuple[PlannedRun, ...]
    """sorted by run id"""

    @cached_property
    def name(self) -> str:
        """Name of the rule, such as `train_gpt_0a1b2c3d4e`."""
        return f"train_{self.kind}_{sha256_json(self.run_ids)[:10]}"

    @property
    def kind(self) -> str:
        """Kind of model that all runs train."""
        return self.runs[0].spec.model.kind

    @cached_property
    def run_ids(self) -> list[str]:
        return [run.run_id for run in self.runs]

    @property
    def parents(self) -> list[str]:
        """Ids of the runs that must be finished first."""
        return sorted({parent.run_id for run in self.runs for parent in run.spec.parents})

    @property
    def followed(self) -> list[str]:
        """Ids of the runs whose metrics a run follows."""
        return sorted({run.spec.follow.run.run_id for run in self.runs if run.spec.follow})

    @property
    def starts(self) -> list[tuple[str, int]]:
        """(run id, step) of each snapshot that a run starts from."""
        starts = [run.spec.start for run in self.runs if run.spec.start]
        return sorted({(start.run.run_id, start.step) for start in starts})

    @property
    def snapshots(self) -> list[tuple[str, int]]:
        """(run id, step) of each snapshot that the runs save."""
        return [(run.run_id, step) for run in self.runs for step in run.spec.snapshots]

    @property
    def data(self) -> list[str]:
        """Keys of the prepared data sets."""
        return sorted({prepared_key(run.spec.data) for run in self.runs})

    @property
    def code(self) -> str:
        """Digest of the code that the runs execute."""
        return sha256_json(sorted({fingerprint(run.spec) for run in self.runs}))

    @property
    def cost(self) -> float:
        """FLOPs of all runs, to start the longest job first."""
        return sum(run_flops(run.spec) for run in self.runs)


def partition(runs: Iterable[PlannedRun], runs_per_process: int) -> list[TrainingJob]:
    """Put every run into exactly one job of at most `runs_per_process` runs.

    Runs share a job only if the same replications want them (so that one replication can run alone), if they have
    the same depth (so that none waits for another) and the same kind of model. Arms stay whole where they fit. A job
    that is too large is split by the hashes of its arms, then of its runs, so a new seed or arm changes one job only.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, PlannedRun]]] = defaultdict(list)
    for run in runs:
        key = (run.spec.depth, run.spec.model.kind, tuple(sorted(run.wanted)))
        groups[key].append((_bits(run.spec.arm_id()) + _bits(run.run_id), run))
    return [
        TrainingJob(tuple(sorted((run for _, run in part), key=lambda run: run.run_id)))
        for key in sorted(groups)
        for part in _split(groups[key], runs_per_process, 0)
    ]


def _split(members: list[tuple[str, PlannedRun]], limit: int, bit: int) -> list[list[tuple[str, PlannedRun]]]:
    if len(members) <= limit:
        return [members] if members else []
    halves = ([item for item in members if item[0][bit] == value] for value in "01")
    return [part for half in halves for part in _split(half, limit, bit + 1)]


def _bits(text: str) -> str:
    return f"{int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]):064b}"


def priorities(jobs: list[TrainingJob]) -> dict[str, int]:
    """Rank of each job by name. The highest rank has the longest chain of trainings that waits for it."""
    trained_by = {run_id: job for job in jobs for run_id in job.run_ids}
    children: dict[str, list[TrainingJob]] = defaultdict(list)
    for job in jobs:
        for parent in {trained_by[run_id].name for run_id in job.parents}:
            children[parent].append(job)
    chains: dict[str, float] = {}
    for job in sorted(jobs, key=lambda job: -job.runs[0].spec.depth):
        chains[job.name] = job.cost + max((chains[child.name] for child in children[job.name]), default=0.0)
    return {name: rank for rank, name in enumerate(sorted(chains, key=lambda name: (chains[name], name)), 1)}


def data_groups(runs: Iterable[PlannedRun]) -> dict[str, list[str]]:
    """Name of each data rule: keys of the data sets that it prepares, all wanted by the same replications."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        wanted[prepared_key(run.spec.data)] |= set(run.wanted)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in sorted(wanted):
        groups[tuple(sorted(wanted[key]))].append(key)
    return {f"data_{sha256_json(names)[:10]}": keys for names, keys in groups.items()}
