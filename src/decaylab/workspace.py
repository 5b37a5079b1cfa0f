"""What a command works on: the clone, its results and reports, the scale, and the data that the user chose."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.sources import Choice

Scale = Literal["smoke", "laptop", "gpu", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)


def find_root(start: Path | None = None) -> Path:
    """The project's folder: the nearest one upwards with a `replications` folder, else $DECAYLAB_ROOT.

    Raises:
        InputError: there is none.
    """
    here = (start or Path()).resolve()
    named = os.environ.get("DECAYLAB_ROOT")
    for folder in (here, *here.parents, *([Path(named).resolve()] if named else [])):
        if (folder / "replications").is_dir():
            return folder
    raise InputError(f"{here}: no folder `replications` here or above; run decaylab inside its clone")


@dataclass(frozen=True)
class Workspace:
    """Everything that planning, judging and rendering share, as one argument."""

    root: Path
    """the clone, with `replications/` and `notebooks/`"""
    scale: Scale = "laptop"
    layout: Layout = field(default_factory=Layout)
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """`images` or `text`: the data source to use instead of the replications' own"""

    @classmethod
    def here(cls, scale: Scale = "laptop") -> Workspace:
        """The clone around the working directory, with its own `results` and `reports`. Raises InputError."""
        root = find_root()
        return cls(root, scale, Layout(root / "results", root / "reports"))

    def at(self, scale: Scale) -> Workspace:
        """The same at another scale."""
        return replace(self, scale=scale)

    def added_seeds(self) -> dict[str, dict[str, int]]:
        """replication: arm (see `replication.arm_key`): its seeds by now, beyond the first look. Raises InputError."""
        path = self.layout.seeds(self.scale)
        if not path.exists():
            return {}
        value = read_json(path)
        arms = [count for item in value.values() for count in item.values()] if isinstance(value, dict) else [None]
        if not all(isinstance(count, int) for count in arms):
            raise InputError(f"{path}: expected replication, arm and its number of seeds")
        return value

    def to_json(self) -> str:
        """One line of text for `parse`: the parameter of a notebook."""
        return json.dumps(
            {
                "root": str(self.root.resolve()),
                "scale": self.scale,
                "results": str(self.layout.results.resolve()),
                "reports": str(self.layout.reports.resolve()),
                "choices": {kind: choice.text for kind, choice in sorted(self.choices.items())},
            }
        )

    @classmethod
    def parse(cls, text: str) -> Workspace:
        """The workspace that `to_json` wrote; for empty text, the clone here at laptop scale. Raises InputError."""
        if not text.strip():
            return cls.here()
        try:
            value = json.loads(text)
            layout = Layout(Path(value["results"]), Path(value["reports"]))
            choices = {kind: Choice.from_text(choice) for kind, choice in value["choices"].items()}
            root, scale = Path(value["root"]), value["scale"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"workspace: expected what Workspace.to_json writes, got {text:.60}") from None
        if scale not in SCALES:
            raise InputError(f"workspace: scale: expected one of {', '.join(SCALES)}, got {scale!r}")
        return cls(root, scale, layout, choices)
