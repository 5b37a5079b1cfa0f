"""What the Snakefile needs to know: its configuration, which runs share a process, and when a lock is stale.

Pure Python, without torch: it is executed each time the workflow is read.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from decaylab.analysis.filed import filed_names
from decaylab.analysis.registry import register_claims
from decaylab.data import prepared_key
from decaylab.errors import InputError
from decaylab.files import Layout, sha256_file, sha256_json
from decaylab.fingerprint import code_digest, fingerprint, sources_for
from decaylab.replication import PlannedRun, Replication, plan_runs, replication_file, select
from decaylab.sources import Choice, choose
from decaylab.spec import RunSpec
from decaylab.workspace import Scale

Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    """Runs that one process trains, one after another. None of them starts from another one."""

    runs: tuple[PlannedRun, ...]
    """in order of their ids"""

    @cached_property
    def name(self) -> str:
        """Name of the rule: `train_gpt_0a1b2c3d4e`."""
        return f"train_{self.runs[0].spec.model.kind}_{sha256_json(self.run_ids)[:10]}"

    @cached_property
    def run_ids(self) -> list[str]:
        return [run.run_id for run in self.runs]

    @property
    def parents(self) -> list[tuple[str, int]]:
        """(run id, step) of the snapshots that the runs start from."""
        starts = [run.spec.start for run in self.runs if run.spec.start]
        return sorted({(start.run.run_id, start.step) for start in starts})

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
        """Multiplications of all runs, roughly: good enough to start the longest batch first."""
        return sum(map(cost, (run.spec for run in self.runs)))


def partition(runs: Iterable[PlannedRun], runs_per_process: int) -> list[Batch]:
    """Put every run into exactly one batch of at most `runs_per_process` runs.

    Runs of one batch are wanted by the same replications (so that one replication can be run alone), have the
    same depth (no run starts from its neighbour) and the same kind of model. Arms stay whole as far as they fit.
    A batch that is too large is halved by the hashes of its arms, then of its runs; so a new seed or arm changes
    one batch, and leaves the others as they are.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, PlannedRun]]] = defaultdict(list)
    for run in runs:
        key = (run.spec.depth, run.spec.model.kind, tuple(sorted(run.wanted)))
        groups[key].append((_bits(run.spec.arm_id()) + _bits(run.run_id), run))
    return [
        Batch(tuple(sorted((run for _, run in part), key=lambda run: run.run_id)))
        for key in sorted(groups)
        for part in _halve(groups[key], runs_per_process, 0)
    ]


def _halve(members: list[tuple[str, PlannedRun]], limit: int, bit: int) -> list[list[tuple[str, PlannedRun]]]:
    if len(members) <= limit:
        return [members] if members else []
    halves = ([item for item in members if item[0][bit] == value] for value in "01")
    return [part for half in halves for part in _halve(half, limit, bit + 1)]


def _bits(text: str) -> str:
    return f"{int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]):064b}"


def cost(spec: RunSpec) -> float:
    """Multiplications of a training's forward passes, roughly (a few ten per cent)."""
    model, data = spec.model, spec.data
    if model.kind == "gpt":
        # 12 width^2 weights in a block; the embedding is a lookup, the head a product
        example = model.context_length * (
            model.layers * model.width * (12 * model.width + model.context_length)
            + model.width * (model.vocabulary or 50257)
        )
        return spec.steps * spec.batch_size * example
    side, width = data.image_size, model.width
    if model.kind == "mlp":
        example = 3 * side**2 * width + (model.depth - 1) * width**2
    else:
        # each stage halves the side and doubles the width, so all 3x3 convolutions cost alike
        layers = sum(model.stages) if model.kind == "vgg" else 2 * sum(model.blocks)
        example = 9 * width**2 * side**2 * layers
    return spec.steps * spec.batch_size * example


def data_groups(runs: Iterable[PlannedRun]) -> dict[str, list[str]]:
    """Name of the rule: keys of the data sets that it prepares, all wanted by the same replications."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        wanted[prepared_key(run.spec.data)] |= set(run.wanted)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in sorted(wanted):
        groups[tuple(sorted(wanted[key]))].append(key)
    return {f"data_{sha256_json(names)[:10]}": keys for names, keys in groups.items()}


def priorities(batches: list[Batch]) -> dict[str, int]:
    """Rank of each batch, by name, highest first: what the longest chain of trainings still hangs on."""
    maker = {run_id: batch for batch in batches for run_id in batch.run_ids}
    children: dict[str, list[Batch]] = defaultdict(list)
    for batch in batches:
        for parent in {maker[run_id].name for run_id, _ in batch.parents}:
            children[parent].append(batch)
    chains: dict[str, float] = {}
    for batch in sorted(batches, key=lambda batch: -batch.runs[0].spec.depth):
        chains[batch.name] = batch.cost + max((chains[child.name] for child in children[batch.name]), default=0.0)
    return {name: rank for rank, name in enumerate(sorted(chains, key=lambda name: (chains[name], name)), 1)}


class Untracked:
    """Words and options of a shell command that decide no number, such as a folder, or that outputs tell anyway.

    Snakemake cannot represent such an object, so it does not compare it with that of the last execution.
    """

    def __init__(self, *words: str, **options: Any) -> None:
        pairs = [(name, value) for name, value in options.items() if value is not None]
        self._words = [*words, *(str(word) for name, value in pairs for word in (f"--{name}", value))]

    def __str__(self) -> str:
        return shlex.join(self._words)


class Plan:
    """Everything the rules ask for, computed once from the configuration.

    Raises:
        InputError: a value of the configuration is impossible; the line names its key.
    """

    def __init__(self, config: dict[str, Any], root: Path) -> None:
        self.config, self.root = config, root
        self.scale: Scale = config["scale"]
        self.layout = Layout(Path(config["results"]), Path(config["reports"]))
        self.replications: dict[str, Replication] = {rep.name: rep for rep in select(root, "all")}
        chosen = config["replications"]
        self.chosen = [rep.name for rep in _keyed("replications", lambda: select(root, chosen))]
        self.choices: dict[str, Choice] = {
            kind: _keyed(kind, lambda kind=kind: choose(kind, config[kind]))
            for kind in ("images", "text")
            if config[kind] is not None
        }
        # all replications, whatever is chosen: batches must not depend on the choice
        self.runs = plan_runs(list(self.replications.values()), self.scale, self.choices)
        self.batches = partition(self.runs.values(), config["runs_per_process"][self.scale])
        self.priorities = priorities(self.batches)
        self.gpu = int(config["device"] == "cuda" or (config["device"] == "auto" and has_nvidia()))
        self.data = data_groups(self.runs.values())
        self.evidence = filed_names(self.root)

    def options(self, *names: str) -> Untracked:
        """Options that the commands share: scale, data and results; and those named."""
        return self.options_of("scale", "images", "text", "results", *names)

    def options_of(self, *names: str) -> Untracked:
        """Only the options named."""
        return Untracked(**{name: self.config[name] for name in names})

    def wanted(self, name: str) -> dict[str, Any]:
        """run id: the parameters under which a replication's claims know it."""
        return {run_id: run.wanted[name] for run_id, run in self.runs.items() if name in run.wanted}

    def metas(self, names: Iterable[str]) -> list[Path]:
        """Descriptions of the prepared data sets of some replications."""
        keys = {prepared_key(run.spec.data) for run in self.runs.values() if set(names) & set(run.wanted)}
        return [self.meta(key) for key in sorted(keys)]

    def meta(self, key: str) -> Path:
        return self.layout.prepared(key) / "meta.json"

    def results(self, name: str) -> list[Path]:
        """Tables of all runs of a replication."""
        run_ids = sorted(self.wanted(name))
        return [*map(self.layout.summary, run_ids), *map(self.layout.metrics, run_ids)]

    def filed_report(self, filed: str, name: str) -> Path:
        """Report of a replication from evidence, whose name begins with its scale."""
        return self.layout.filed(filed).report(filed.split("-")[0], name)

    def data_code(self, keys: list[str]) -> str:
        """Digest of the code that prepares some data sets."""
        specs = [run.spec for run in self.runs.values() if prepared_key(run.spec.data) in keys]
        return code_digest(path for spec in specs for path in sources_for(spec) if path.parent.name == "data")

    def claims(self, *names: str) -> str:
        """Digest of the claims of some replications, and of the runs they speak of."""
        return sha256_json(
            [[self.replications[name].model_dump(mode="json")["claims"], self.wanted(name)] for name in names]
        )

    def register(self) -> None:
        """Note the text of every claim before the first run of any of them; ends snakemake if that is impossible."""
        try:
            register_claims(self.replications.values(), self.layout, self.root)
        except InputError as error:
            stop(str(error))

    def texts(self, *names: str) -> str:
        """Digest of the files of some replications, or of them all and the ledger: descriptions and evidence."""
        folders = [replication_file(self.root, name).parent for name in names] or [self.root / "replications"]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return sha256_json([[path.relative_to(self.root).as_posix(), _digest(path)] for path in files])


@cache
def _digest(path: Path) -> str:
    # asked once for its replication and once for the index
    return sha256_file(path)


def _keyed(key: str, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except InputError as error:
        raise InputError(f"config: {key}: {error}") from None


def has_nvidia() -> bool:
    """Whether this machine has an NVIDIA driver; asked of the kernel, since importing torch takes seconds."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidia0").exists()


def explain_config(error: BaseException) -> str:
    """One line, naming the key, for what snakemake.utils.validate raised."""
    cause = error.__context__  # the jsonschema.ValidationError
    if not hasattr(cause, "validator"):
        return f"config: {' '.join(str(error).split())}"
    where = ".".join(map(str, cause.absolute_path))
    if cause.validator == "additionalProperties":
        known = cause.schema["properties"]
        unknown = sorted(set(cause.instance) - set(known))
        prefix = f"{where}." if where else ""
        return f"config: {prefix}{unknown[0]}: unknown key, expected one of {', '.join(known)}"
    expected = cause.schema.get("description", cause.message)
    if cause.validator == "enum":
        expected = ", ".join(map(str, cause.validator_value))
    return f"config: {where}: expected {expected}, got {cause.instance!r}"


def stop(message: str) -> NoReturn:
    """End snakemake with one line and exit code 2: the user's input is wrong."""
    sys.stderr.write(f"decaylab: {' '.join(message.split())}\n")
    raise SystemExit(2)


def find_programs() -> None:
    """Let jobs find `decaylab` where snakemake was started as .venv/bin/snakemake, without activation."""
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


_held: list[Any] = []


def clear_stale_lock(folder: Path = Path(".snakemake")) -> bool:
    """Remove the lock that a killed snakemake left in this working directory; True if there was one.

    Every snakemake of this project holds a shared lock on a file until it ends, however it ends. Who gets it
    alone knows that no other one lives, so that what lies in `.snakemake/locks` belongs to nobody.
    """
    folder.mkdir(exist_ok=True)
    file = open(folder / "alive", "w")  # noqa: SIM115  (held until the process ends)
    _held.append(file)
    stale: list[Path] = []
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = sorted((folder / "locks").glob("*.lock"))
        for path in stale:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        pass  # another one lives; snakemake itself says what is to be done
    fcntl.flock(file, fcntl.LOCK_SH)
    return bool(stale)
