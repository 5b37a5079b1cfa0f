"""YAML as people write it: numbers are numbers, repeated keys are errors, and every error names its place."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from decaylab.errors import InputError

_TAGS = {"images", "text", "mlp", "vgg", "preact_resnet", "gpt", "sgd", "adamw"}
"""members of discriminated unions: pydantic puts them into locations, but users never wrote them"""


def explain(error: ValidationError, where: str) -> str:
    """One line for the first problem of a validation: file (or block), key, what was expected."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in _TAGS)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif first["type"] == "missing":
        message = "this key is required"
    elif first["type"] != "value_error":
        message += f", got {first['input']!r:.80}"
    more = error.error_count() - 1
    return f"{where}: {key + ': ' if key else ''}{message}" + (f" (and {more} more)" if more else "")


def load_yaml(path: Path) -> Any:
    """Read YAML (of which JSON is a part). Raises InputError naming the file and the line."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if getattr(error, "problem_mark", None) else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", "not readable")
        raise InputError(f"{path}: {line}expected YAML ({reason})") from None
    except ValueError as error:  # text that is not UTF-8, or a date that does not exist
        raise InputError(f"{path}: expected YAML ({error})") from None


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 reads 1e-4 as text and lets a repeated key silently win; we do neither."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def line_of(path: Path, location: tuple[str | int, ...]) -> int:
    """Line (from 1) of the deepest part of a location that stands in a YAML file."""
    return lines_of(path, [location])[0]


def lines_of(path: Path, locations: list[tuple[str | int, ...]]) -> list[int]:
    """`line_of` for several locations of one file, which is read once."""
    root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return [_line(root, location) for location in locations]


def _line(node: Any, location: tuple[str | int, ...]) -> int:
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def merge(base: Any, *overrides: Any) -> Any:
    """Deep merge of mappings, later ones winning; a discriminator (`kind`, `name`) that changes replaces all."""
    for over in overrides:
        if isinstance(base, dict) and isinstance(over, dict):
            if any(tag in over and tag in base and over[tag] != base[tag] for tag in ("kind", "name")):
                base = over
            else:
                base = base | {key: merge(base.get(key), item) for key, item in over.items()}
        else:
            base = over
    return base


def set_path(fragment: dict[str, Any], path: Iterable[str], value: Any) -> dict[str, Any]:
    """`{a: {b: value}}` merged over `fragment` for the path (a, b)."""
    for key in reversed(list(path)):
        value = {key: value}
    return merge(fragment, value)
