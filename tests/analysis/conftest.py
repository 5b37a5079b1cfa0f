"""A clone in a temporary folder: one tiny replication, and results written by hand instead of trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from decaylab.files import Layout
from decaylab.replication import Replication, expand, load_replication, replication_file
from decaylab.workspace import Workspace

SEEDS = [0, 1, 2, 3, 4, 5]
CHANCE = {"loss": 2.302585, "error": 0.9}
CLAIM = {
    "id": "decay-helps",
    "statement": "Decay lowers the test error.",
    "locator": "Fig 1",
    "unit": "test error (fraction)",
    "source_value": {"value": -0.04, "text": "14.6 -> 10.4 %", "same_setting": ["paper", "laptop"]},
    "tests": [
        {
            "metric": "test_error",
            "arm": {"grid": "mlp", "decay": "on", "learning_rate": 0.3},
            "minus": {"grid": "mlp", "decay": "off", "learning_rate": 0.3},
            "direction": "below",
            "smallest_effect": 0.01,
        }
    ],
    "scales": ["laptop", "gpu"],
}
REPLICATION = {
    "title": "Tiny",
    "question": "Does decay help?",
    "row": 1,
    "references": [{"id": "E1", "title": "Paper", "url": "https://example.org", "locator": "Fig 1"}],
    "base": {
        "data": {"kind": "images", "source": "procedural", "train_examples": 100, "test_examples": 100},
        "model": {"kind": "mlp", "width": 8, "depth": 1},
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "steps": 100,
        "batch_size": 10,
        "evaluation": {"every": 10, "log_every": 5},
    },
    "grids": {
        "mlp": {
            "label": "MLP",
            "axes": {
                "learning_rate": [0.1, 0.3],
                "decay": {
                    "off": {"decay": {"weight_decay": 0.0}},
                    "on": {"decay": {"weight_decay": 0.01}},
                },
                "seed": SEEDS,
            },
        },
        "wide": {
            "label": "MLP of several widths",
            "axes": {"width": [10, 100, 1000], "weight_decay": [0.001, 0.01], "seed": SEEDS},
        },
    },
    "scales": {"smoke": {"grids": {"wide": {"skip": True}}}, "gpu": {"grids": {"wide": {"skip": True}}}},
}


@dataclass
class Lab:
    root: Path
    layout: Layout

    def workspace(self, scale: str = "laptop", choices: dict[str, Any] | None = None) -> Workspace:
        return Workspace(self.root, scale, self.layout, choices or {})

    def replication(self, *claims: dict[str, Any], **changes: Any) -> Replication:
        """Write replications/tiny/replication.yaml (JSON is YAML) and load it; a claim is a change of CLAIM."""
        content = REPLICATION | changes | {"claims": [CLAIM | claim for claim in claims or ({},)]}
        path = replication_file(self.root, "tiny")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
        return load_replication(path)

    def test(self, **changes: Any) -> dict[str, Any]:
        """A claim with CLAIM's test changed; a change to None removes the key."""
        test = CLAIM["tests"][0] | changes
        return {"tests": [{key: value for key, value in test.items() if value is not None}]}

    def run(self, spec, final: dict[str, float], rows: list[dict[str, float]] | None = None, **summary: Any) -> Path:
        """Write one finished run; a test that reads curves gives rows."""
        folder = self.layout.run(spec.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        rows = rows or [{"step": 0}, {"step": spec.steps} | final]
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet")
        value = {
            "run_id": spec.run_id,
            "spec": spec.model_dump(mode="json", exclude_none=True),
            "seconds": 2.0,
            "started_at": "2999-01-01T00:00:00+00:00",
            "steps_done": spec.steps,
            "final": final,
            "texts": {},
            "diverged_at_step": None,
            "chance": CHANCE,
            "data_sha256": "d" * 64,
            "commit": "abc123",
            "versions": {"torch": "2.15"},
            "hardware": {"device": "cuda", "name": "NVIDIA H200", "cpu_count": 2},
        } | summary
        (folder / "summary.json").write_text(json.dumps(value))
        return folder

    def fill(self, rep: Replication, scale: str, final, only=lambda parameters: True, **summary: Any) -> None:
        """Write every run of a plan; `final` maps its parameters to its final metrics."""
        for spec, parameters, _ in expand(rep, scale):
            if only(parameters):
                self.run(spec, final(parameters), **summary)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, Layout(tmp_path / "results", tmp_path / "reports"))
