"""What a source was found to hold: what was read, what was left out and why, and what looks wrong."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Inventory:
    """Kept while a source is read; part of meta.json, and printed by `decaylab data`."""

    read: Counter[str] = field(default_factory=Counter)
    """files by extension, or rows of tables"""
    skipped: Counter[str] = field(default_factory=Counter)
    """files by the reason why they were left out"""
    examples: dict[str, str] = field(default_factory=dict)
    """one file for each reason"""
    notes: list[str] = field(default_factory=list)
    """sentences about what a careful person would want to know"""

    def take(self, name: str, count: int = 1) -> None:
        self.read[kind_of_file(name)] += count

    def skip(self, name: str, reason: str, count: int = 1) -> None:
        self.skipped[reason] += count
        self.examples.setdefault(reason, printable(name))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def to_json(self) -> dict[str, Any]:
        return {
            "read": dict(self.read.most_common()),
            "skipped": {
                reason: {"files": count, "for_example": self.examples[reason]}
                for reason, count in self.skipped.most_common()
            },
            "notes": self.notes,
        }


def kind_of_file(name: str) -> str:
    """`.txt files`, or `files without an extension`."""
    found = posixpath.splitext(name)[1].lower()
    return f"{found} files" if found else "files without an extension"


def printable(name: str) -> str:
    """A file's name with bytes that are no UTF-8 shown as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def lines(found: dict[str, Any]) -> list[str]:
    """The sentences of a meta.json's `found`, for a terminal or a page."""
    said = [f"read: {', '.join(f'{count:,} {kind}' for kind, count in found['read'].items())}"] if found["read"] else []
    said += [
        f"left out: {item['files']:,} {reason} (for example {item['for_example']})"
        for reason, item in found["skipped"].items()
    ]
    return said + found["notes"]
