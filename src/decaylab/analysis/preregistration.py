"""When the text and tests of each claim were fixed: one line in results/claims.jsonl for each version of each claim.

A verdict says whether its claim was registered before the runs it rests on. Without the file a claim counts as
registered when it is judged, so deleting the file can only make a verdict look worse.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from decaylab.errors import InputError
from decaylab.files import Layout, atomic_path, git_commit
from decaylab.locks import exclusive
from decaylab.replication import Replication
from decaylab.workspace import Workspace

Key = tuple[str, str, str]
"""replication, claim, sha256"""


def register_claims(reps: Iterable[Replication], workspace: Workspace) -> int:
    """Register the claims of `reps` whose present version is not registered yet; call it before training.

    Any number of processes may call it at once.

    Returns:
        how many were added.

    Raises:
        InputError: the registry is damaged.
    """
    path = workspace.layout.claims
    with exclusive(path.with_name(".claims.lock")):
        known = registered(workspace.layout)
        new = [
            {"replication": rep.name, "claim": claim.id, "sha256": sha256}
            for rep in reps
            for claim in rep.claims
            if (rep.name, claim.id, sha256 := claim.sha256()) not in known
        ]
        if new:
            # whole seconds, since a run's started_at may have no more and the two are compared
            now = datetime.now(UTC).isoformat(timespec="seconds")
            stamp = {"registered_at": now, "commit": git_commit(workspace.root)}
            _write(path, [*known.values(), *(line | stamp for line in new)])
    return len(new)


def merge(layout: Layout, lines: Iterable[dict[str, Any]]) -> None:
    """Add lines of other registries, keeping the earliest line of each version. Not safe beside other writers.

    Raises:
        InputError: the registry is damaged.
    """
    kept: dict[Key, dict[str, Any]] = {}
    for line in sorted([*registered(layout).values(), *lines], key=lambda line: moment(line["registered_at"])):
        kept.setdefault(_key(line), line)
    _write(layout.claims, kept.values())


def registered(layout: Layout) -> dict[Key, dict[str, Any]]:
    """The registry's lines by version; the earliest counts. Raises InputError naming a damaged line."""
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
    """An ISO time in whole seconds; UTC if it has no zone. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).replace(microsecond=0)


def _key(line: dict[str, Any]) -> Key:
    return line["replication"], line["claim"], line["sha256"]


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
