"""The plan that all rules read: replications, runs, jobs and paths, computed once from the configuration."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import filed_names
from decaylab.analysis.preregistration import register_claims
from decaylab.data import prepared_key
from decaylab.errors import InputError
from decaylab.files import Layout, sha256_file, sha256_json
from decaylab.fingerprint import PACKAGE, code_digest, fingerprint, sources_for
from decaylab.replication import (
    Replication,
    merge_runs,
    plan_here,
    plan_runs,
    record_seeds,
    replication_file,
    select,
)
from decaylab.sources import choose
from decaylab.training.records import finished, publish
from decaylab.workflow.first_look import first_look
from decaylab.workflow.jobs import TrainingJob, data_groups, partition, priorities
from decaylab.workflow.machine import has_nvidia
from decaylab.workflow.messages import keyed, stop
from decaylab.workflow.requests import shared_gpus
from decaylab.workflow.rounds import Rounds
from decaylab.workflow.targets import RESERVED
from decaylab.workspace import Workspace

_SAFE = re.compile(r"\w[\w.+-]*", re.ASCII)
"""names that a shell and snakemake take as they are: those of folders stand in commands and in paths of logs"""


class Untracked:
    """Words and options of a shell command that change no number, or whose change shows in the outputs.

    Snakemake cannot represent such an object, so it does not compare it with that of the last execution.
    """

    def __init__(self, *words: str, **options: Any) -> None:
        pairs = [(name, value) for name, value in options.items() if value is not None]
        self._words = [*words, *(str(word) for name, value in pairs for word in (f"--{name}", value))]

    def __str__(self) -> str:
        return shlex.join(self._words)


def any_of(names: Iterable[str]) -> str:
    """A regular expression that matches these names and nothing else: the constraint of a wildcard."""
    return "|".join(map(re.escape, names)) or "(?!)"


class Plan:
    """Everything that the rules ask for.

    Raises:
        InputError: a value of the configuration is impossible; the line names its key.
    """

    def __init__(self, config: dict[str, Any], root: Path) -> None:
        self.config = config
        self.replications: dict[str, Replication] = {rep.name: rep for rep in select(root, "all")}
        for name in RESERVED.intersection(self.replications):
            raise InputError(f"replications/{name}: expected another name, since {name!r} is a rule of the workflow")
        self.evidence = filed_names(root)
        for name in (*self.replications, *self.evidence):
            if not _SAFE.fullmatch(name):
                raise InputError(f"replications: {name!r}: expected a name of letters, digits, and _ . + - only")
        wanted = config["replications"]
        self.chosen = [rep.name for rep in keyed("replications", lambda: select(root, wanted))]
        choices = {
            kind: keyed(kind, lambda kind=kind: choose(kind, config[kind]))
            for kind in ("images", "text")
            if config[kind] is not None
        }
        layout = Layout(Path(config["results"]), Path(config["reports"]))
        self.workspace = Workspace(root, config["scale"], layout, choices)
        # of all replications, because the jobs must not depend on which are chosen
        reps = list(self.replications.values())
        first = {rep.name: first_look(rep, self.scale, choices) for rep in reps}
        self.runs = merge_runs(first)
        self.planned = plan_runs(reps, self.scale, choices)
        self.rounds = Rounds(self.replications, self.workspace, config["minutes"])
        self.jobs = partition(self.runs.values(), config["runs_per_process"][self.scale])
        self.priorities = priorities(self.jobs)
        self.gpu = int(config["device"] == "cuda" or (config["device"] == "auto" and has_nvidia()))
        self._check_gpus()
        self.data = data_groups(self.planned.values())

    @property
    def scale(self) -> str:
        return self.workspace.scale

    @property
    def layout(self) -> Layout:
        return self.workspace.layout

    def _check_gpus(self) -> None:
        """Raise InputError if several GPUs for a run contradict the rest of the configuration."""
        gpus, together = self.config["gpus"], self.config["together"]
        if gpus > 1 and not self.gpu:
            raise InputError(f"config: gpus: {gpus} need a GPU, and there is none here; expected device=cuda or gpus=1")
        if gpus > 1 and together not in ("auto", 1):
            raise InputError(f"config: together: several GPUs train one run at a time; expected auto, got {together}")

    def gpus(self, job: TrainingJob) -> int:
        """GPUs that train each run of a job; 0 on a CPU."""
        return shared_gpus([run.spec for run in job.runs], self.config["gpus"]) if self.gpu else 0

    def options(self, *names: str) -> Untracked:
        """The options that most commands share (scale, data, results), and those named."""
        return self.options_of("scale", "images", "text", "results", *names)

    def options_of(self, *names: str) -> Untracked:
        """Only the options named."""
        return Untracked(**{name: self.config[name] for name in names})

    def wanted(self, name: str) -> dict[str, Any]:
        """run id: the parameters by which a replication's claims select it."""
        return {run_id: run.wanted[name] for run_id, run in self.runs.items() if name in run.wanted}

    def metas(self, names: Iterable[str]) -> list[Path]:
        """The prepared data sets of some replications."""
        keys = {prepared_key(run.spec.data) for run in self.planned.values() if set(names) & set(run.wanted)}
        return [self.meta(key) for key in sorted(keys)]

    def needing(self, keys: Iterable[str], targets: Iterable[str]) -> list[str]:
        """Replications that need some data sets: those that are targets or chosen, or all if none of them does.

        Others must not stop these by asking for more than a user's data have.
        """
        keys = set(keys)
        found = {name for run in self.planned.values() if prepared_key(run.spec.data) in keys for name in run.wanted}
        now = found.intersection(targets) or found.intersection(self.chosen)
        return sorted(now or found)

    def meta(self, key: str) -> Path:
        return self.layout.prepared(key) / "meta.json"

    def first(self, *names: str) -> list[Path]:
        """Summaries and metrics of the runs that some replications are first judged by."""
        return self._tables({run_id for name in names for run_id in self.wanted(name)})

    def results(self, name: str) -> list[Path]:
        """Summaries and metrics of a replication's runs: those of its first look, and those added since."""
        added = self.rounds.added(name) if self.rounds.adds_seeds(name) else ()
        return self._tables({*self.wanted(name), *added})

    def _tables(self, run_ids: Iterable[str]) -> list[Path]:
        ordered = sorted(run_ids)
        return [*map(self.layout.summary, ordered), *map(self.layout.metrics, ordered)]

    def source(self, path: str) -> str:
        """A file of the clone, as rules name it: below the working directory, unless that is another folder."""
        return path if self.workspace.root == Path.cwd() else str(self.workspace.root / path)

    def filed_files(self, filed: str) -> list[str]:
        """Files of one piece of evidence, in the folders of all replications that it has runs of."""
        names = self.evidence[filed]
        paths = [f"replications/{name}/evidence/{filed}.{kind}" for name in names for kind in ("json", "parquet")]
        return [self.source(path) for path in paths]

    def put_back(self) -> None:
        """Link the records of finished runs to their places, where a folder of results was deleted."""
        for run_id, run in plan_here(self.replications.values(), self.workspace).items():
            if not self.layout.summary(run_id).exists() and self.layout.state(run_id).exists():
                key = {"spec": sha256_json(run.spec.identity()), "code": fingerprint(run.spec)}
                if finished(run.spec, self.layout, key) is not None:
                    publish(run.spec, self.layout)

    def filed_reports(self) -> list[Path]:
        """Reports of all filed evidence. The name of each piece begins with its scale."""
        return [
            self.layout.filed(filed).report(filed.split("-")[0], name)
            for filed, names in self.evidence.items()
            for name in names
        ]

    def data_code(self, keys: list[str]) -> str:
        """Digest of the code that prepares some data sets."""
        specs = [run.spec for run in self.planned.values() if prepared_key(run.spec.data) in keys]
        return code_digest(path for spec in specs for path in sources_for(spec) if PACKAGE / "data" in path.parents)

    def claims(self, *names: str) -> str:
        """Digest of the claims of some replications, and of the runs that they read."""
        return sha256_json(
            [[self.replications[name].model_dump(mode="json")["claims"], self.wanted(name)] for name in names]
        )

    def begin(self) -> None:
        """Before anything runs: register every claim, and forget runs that older code added.

        Ends snakemake if that is impossible.
        """
        try:
            register_claims(self.replications.values(), self.workspace)
            for folder in self.rounds.stale_folders(self.replications, self.runs):
                shutil.rmtree(folder)
            for rep in self.replications.values():
                if self.rounds.adds_seeds(rep.name):
                    record_seeds(rep, self.workspace, self.wanted(rep.name))
        except InputError as error:
            stop(str(error))

    def texts(self, *names: str) -> str:
        """Digest of all files of some replications; without names, of all replications, the ledger and the docs."""
        root = self.workspace.root
        folders = [replication_file(root, name).parent for name in names]
        folders = folders or [root / "replications", root / "docs"]
        shared = [root / "replications" / "references.yaml"] if names else []  # pages cite it
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        files += filter(Path.is_file, shared)
        return sha256_json([[path.relative_to(root).as_posix(), _digest(path)] for path in files])


@cache
def _digest(path: Path) -> str:
    # read twice: for its replication and for the index
    return sha256_file(path)
