"""When a claim's text and test were fixed: one line in results/claims.jsonl for each version of each claim.

A verdict says whether the line is older than the runs it rests on. Without the file a claim counts as
registered when it is judged, so that deleting it can only make things look worse.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, git_commit
from decaylab.replication import Replication

Key = tuple[str, str, str]
"""replication, claim, sha256"""


def register_claims(reps: Iterable[Replication], layout: Layout, root: Path = Path()) -> int:
    """Add the claims of `reps` that are not registered in their present form; call it before training.

    Any number of processes may call it at once.

    Args:
        root: the clone that holds the replications, for the commit.

    Returns:
        how many were added.

    Raises:
        InputError: the registry is damaged.
    """
    path = layout.claims
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(".claims.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = registered(layout)
        new = [
            {"replication": rep.name, "claim": claim.id, "sha256": sha256}
            for rep in reps
            for claim in rep.claims
            if (rep.name, claim.id, sha256 := claim.sha256()) not in known
        ]
        if new:
            # whole seconds: started_at may have no more, and both are compared
            stamp = {"registered_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": git_commit(root)}
            _write(path, [*known.values(), *(line | stamp for line in new)])
    return len(new)


def merge(layout: Layout, lines: Iterable[dict[str, Any]]) -> None:
    """Add lines of other registries; of two for the same text the earlier one stays. Nobody else may write meanwhile.

    Raises:
        InputError: the registry is damaged.
    """
    kept: dict[Key, dict[str, Any]] = {}
    for line in sorted([*registered(layout).values(), *lines], key=lambda line: moment(line["registered_at"])):
        kept.setdefault(_key(line), line)
    _write(layout.claims, kept.values())


def _key(line: dict[str, Any]) -> Key:
    return line["replication"], line["claim"], line["sha256"]


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def registered(layout: Layout) -> dict[Key, dict[str, Any]]:
    """(replication, claim, sha256): its line. The earliest counts. Raises InputError naming a damaged line."""
    path = layout.claims
    if not path.exists():
        return {}
    lines: dict[Key, dict[str, Any]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            key = _key(line)
            moment(line["registered_at"])
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}:{number}: expected JSON with replication, claim, sha256, registered_at; got {text:.60}"
            ) from None
        lines.setdefault(key, line)
    return lines


def moment(text: str) -> datetime:
    """An ISO time in whole seconds; without a zone it is UTC. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).replace(microsecond=0)
