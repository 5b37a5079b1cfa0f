"""What a source was found to hold: what was read, what was left out and why, and what looks wrong."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from decaylab.files import printable


@dataclass
class Inventory:
    """Kept while a source is read; becomes `found` in meta.json, and is printed by `decaylab data`."""

    read: Counter[str] = field(default_factory=Counter)
    """files by extension, or rows of tables"""
    skipped: Counter[str] = field(default_factory=Counter)
    """files by the reason why they were left out"""
    examples: dict[str, str] = field(default_factory=dict)
    """one file for each reason"""
    remarks: Counter[str] = field(default_factory=Counter)
    """what was done to how many items that their owner may not expect"""
    notes: list[str] = field(default_factory=list)
    """sentences about the whole that a careful person would want to know"""

    def take(self, name: str) -> None:
        self.read[kind_of_file(name)] += 1

    def rows(self, name: str, count: int) -> None:
        self.read[f"rows of {kind_of_file(name)}"] += count

    def skip(self, name: str, reason: str, count: int = 1) -> None:
        self.skipped[reason] += count
        self.examples.setdefault(reason, printable(name))

    def drop(self, name: str, reason: str) -> None:
        """Take back a file that was counted as read."""
        self.read -= Counter([kind_of_file(name)])
        self.skip(name, reason)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def to_json(self) -> dict[str, Any]:
        return {
            "read": dict(self.read.most_common()),
            "skipped": {
                reason: {"count": count, "for_example": self.examples[reason]}
                for reason, count in self.skipped.most_common()
            },
            "notes": [f"{count:,} {remark}" for remark, count in self.remarks.most_common()] + self.notes,
        }


def kind_of_file(name: str) -> str:
    """`.txt files`, or `files without an extension`."""
    found = posixpath.splitext(name)[1].lower()
    return f"{printable(found)} files" if found else "files without an extension"
