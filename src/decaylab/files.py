"""Files that are either complete or absent, and the layout of results and reports.

Every path below the results folder is built here.
"""

import contextlib
import hashlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.errors import InputError

_BLOCK = 1 << 20


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    After an exception, such as a full disk, the old file is unchanged and the temporary one removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private, but others may read results
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically. NaN and infinities, which JSON lacks, become null."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON. Raises InputError naming the file if it is missing, unreadable or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}: expected JSON ({error.msg})") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def printable(name: str) -> str:
    """A file's name with bytes that are no UTF-8 shown as \\xNN; other names as they are."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sha256_json(value: Any) -> str:
    """Hexadecimal sha256 of a value's canonical JSON: sorted keys, no white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


DIGESTS = "sha256.json"
"""in a folder of results: the digest of each of its other files, so that a damaged one is found out"""


def write_digests(folder: Path, names: Iterable[str]) -> None:
    """Note the sha256 of some files of a folder, for `check_digest`."""
    write_json(folder / DIGESTS, {name: sha256_file(folder / name) for name in sorted(names)})


def check_digest(path: Path, cure: str) -> None:
    """Compare a file with the digest noted beside it; a folder without digests is older than they are.

    Raises:
        InputError: it is another one, so the file is damaged. The line ends with the cure.
    """
    noted = path.parent / DIGESTS
    if not noted.exists():
        return
    try:
        digests = read_json(noted)
    except InputError as error:
        raise InputError(f"{error}; {cure}") from None
    if not isinstance(digests, dict):
        raise InputError(f"{noted}: damaged; {cure}")
    try:
        intact = digests.get(path.name) in (None, sha256_file(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {cure}") from None
    if not intact:
        raise InputError(f"{path}: damaged, since its sha256 is not the one in {DIGESTS}; {cure}")


def git_commit(folder: Path) -> str | None:
    """Short commit of the clone around `folder`, with `+dirty` if tracked files differ from it; None without git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True)
class Layout:
    """Where every file is, given the folders of results and reports."""

    results: Path = Path("results")
    reports: Path = Path("reports")

    def run(self, run_id: str) -> Path:
        return self.results / "runs" / run_id

    def summary(self, run_id: str) -> Path:
        return self.run(run_id) / "summary.json"

    def metrics(self, run_id: str) -> Path:
        return self.run(run_id) / "metrics.parquet"

    def snapshot(self, run_id: str, step: int) -> Path:
        return self.run(run_id) / f"snapshot-{step:08d}.safetensors"

    def state(self, run_id: str) -> Path:
        """Checkpoint, then record of a run. Snakemake deletes the outputs of a job that it reruns, but not this."""
        return self.results / "state" / run_id

    @property
    def claims(self) -> Path:
        """When each version of each claim was registered."""
        return self.results / "claims.jsonl"

    @property
    def origin(self) -> Path:
        """Says which evidence these results were restored from; absent if they were made here."""
        return self.results / "origin.json"

    def filed(self, name: str) -> "Layout":
        """Where the evidence of that name is restored and reported."""
        return Layout(self.results / "evidence" / name, self.reports / "evidence" / name)

    def prepared(self, key: str) -> Path:
        """A prepared data set: image tensors or token arrays."""
        return self.results / "data" / key

    @property
    def compiled(self) -> Path:
        """Cache of torch.compile."""
        return self.results / "compiled"

    def verdicts(self, scale: str, replication: str) -> Path:
        return self.results / "verdicts" / scale / f"{replication}.json"

    def seeds(self, scale: str) -> Path:
        """How many seeds each arm has by now, where claims got more than their first look."""
        return self.results / "seeds" / f"{scale}.json"

    def decided(self, scale: str, key: str, number: int) -> Path:
        """Empty file: the round `number` of adding seeds to the claims of that key has ended."""
        return self.results / "seeds" / scale / f"{key}-{number}.done"

    def verified(self, scale: str) -> Path:
        """What judging decided claims again gave."""
        return self.results / "verify" / f"{scale}.json"

    def report(self, scale: str, replication: str) -> Path:
        return self.reports / scale / f"{replication}.html"

    def index(self, scale: str) -> Path:
        return self.reports / scale / "index.html"

    def shown(self, scale: str, replication: str) -> Path:
        """Empty file: the index shows this report."""
        return self.reports / scale / ".shown" / replication

    @property
    def evidence_index(self) -> Path:
        return self.reports / "evidence" / "index.html"
