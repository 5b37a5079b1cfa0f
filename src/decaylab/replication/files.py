"""Replications on disk: where they are, and what is wrong with one that cannot be read."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from decaylab.errors import InputError
from decaylab.replication.schema import Replication
from decaylab.replication.short_form import ShortFormError, expand_claim
from decaylab.yaml_files import explain, line_of, lines_of, load_yaml


def list_replications(root: Path) -> list[str]:
    """Names of all replications, in the order of their rows."""
    files = (root / "replications").glob("*/replication.yaml")
    return [rep.name for rep in sorted(map(load_replication, files), key=lambda rep: rep.row)]


def replication_file(root: Path, name: str) -> Path:
    return root / "replications" / name / "replication.yaml"


def select(root: Path, names: list[str] | str) -> list[Replication]:
    """Replications by name; `all` and `headline` stand for many. Raises InputError for unknown names."""
    wanted = names.replace(",", " ").split() if isinstance(names, str) else list(names)
    known = [load_replication(replication_file(root, name)) for name in list_replications(root)]
    for name in wanted:
        if name not in ("all", "headline") and name not in [rep.name for rep in known]:
            expected = ", ".join(["all", "headline", *(rep.name for rep in known)])
            raise InputError(f"replication {name!r}: unknown; expected one of {expected}")
    return [rep for rep in known if "all" in wanted or rep.name in wanted or ("headline" in wanted and rep.headline)]


def load_replication(path: Path) -> Replication:
    """Read and check one replication.yaml. Raises InputError naming file, line and key."""
    path = Path(path)
    try:
        version = _version(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    shared = _shared_references(path)
    return _load(path, version, _version(shared) if shared.exists() else None)


def _shared_references(path: Path) -> Path:
    """The references that all replications beside this one can name."""
    return path.parent.parent / "references.yaml"


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=64)
def _load(path: Path, _file: tuple[int, int], _references: tuple[int, int] | None) -> Replication:
    value = load_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a mapping of keys")
    value = {"name": path.parent.name} | value
    if value["name"] != path.parent.name:
        raise InputError(f"{path}: name: expected {path.parent.name!r}, as the folder, got {value['name']!r}")
    try:
        return Replication.model_validate(_long_form(value, path))
    except ValidationError as error:
        raise InputError(explain(error, f"{path}:{line_of(path, error.errors()[0]['loc'])}")) from None


def _long_form(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file with its references and claims written out. Raises InputError naming line and key."""
    value = dict(value)
    if isinstance(value.get("references"), dict):
        value["references"] = _references(value["references"], path)
    defaults, variants = value.pop("claim_defaults", {}), value.pop("variants", {})
    for key, block in (("claim_defaults", defaults), ("variants", variants)):
        if not isinstance(block, dict):
            raise InputError(f"{path}:{line_of(path, (key,))}: {key}: expected a mapping of keys")
    if not isinstance(value.get("claims"), list):
        return value
    claims = []
    for index, claim in enumerate(value["claims"]):
        try:
            claims.append(expand_claim(claim, defaults, variants))
        except ShortFormError as error:
            name = claim.get("id", index) if isinstance(claim, dict) else index
            location = ("claims", index, *(int(part) if part.isdecimal() else part for part in error.key.split(".")))
            raise InputError(f"{path}:{line_of(path, location)}: claim {name}: {error}") from None
    return value | {"claims": claims}


def _references(locators: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Full entries for `{id: locator}`."""
    shared = _shared_references(path)
    known = load_yaml(shared) if shared.exists() else {}
    if not isinstance(known, dict) or not all(isinstance(entry, dict) for entry in known.values()):
        raise InputError(f"{shared}: expected a mapping of ids to title, authors, year and url")
    for name in locators:
        if name not in known:
            line = line_of(path, ("references", name))
            expected = ", ".join(map(str, known)) or "a list of full references"
            raise InputError(f"{path}:{line}: references: {name!r} is not in {shared}; expected {expected}")
    return [known[name] | {"id": name, "locator": locator} for name, locator in locators.items()]


def claim_lines(path: Path) -> dict[str, int]:
    """claim id: its line in the file, for links from a page to the text that was judged."""
    claims = load_yaml(path).get("claims", [])
    lines = lines_of(path, [("claims", index) for index in range(len(claims))])
    return {claim["id"]: line for claim, line in zip(claims, lines, strict=True)}
