"""Replications: questions with references, runs and claims, read from replications/<name>/replication.yaml."""

from decaylab.replication.claims import Claim, Metric, Scalar, Selection, SourceValue, Term, Test, Variant
from decaylab.replication.expansion import (
    PlannedRun,
    expand,
    grids_at,
    matches,
    plan_runs,
    with_snapshots,
)
from decaylab.replication.files import claim_lines, list_replications, load_replication, replication_file, select
from decaylab.replication.schema import Grid, Parameters, Reference, Replication, ScaleOverride, path_of_axis

__all__ = [
    "Claim",
    "Grid",
    "Metric",
    "Parameters",
    "PlannedRun",
    "Reference",
    "Replication",
    "Scalar",
    "ScaleOverride",
    "Selection",
    "SourceValue",
    "Term",
    "Test",
    "Variant",
    "claim_lines",
    "expand",
    "grids_at",
    "list_replications",
    "load_replication",
    "matches",
    "path_of_axis",
    "plan_runs",
    "replication_file",
    "select",
    "with_snapshots",
]
