"""Replications: questions with references, runs and claims, read from replications/<name>/replication.yaml."""

from decaylab.replication.added import expand_here, plan_here, record_seeds, seeds_of
from decaylab.replication.claims import Claim, Metric, Precondition, Scalar, Selection, SourceValue, Term, Test, Variant
from decaylab.replication.expansion import (
    PlannedRun,
    arm_key,
    expand,
    grids_at,
    matches,
    merge_runs,
    plan_runs,
    planned_seeds,
    with_snapshots,
)
from decaylab.replication.files import claim_lines, list_replications, load_replication, replication_file, select
from decaylab.replication.schema import Grid, Parameters, Reference, RegimeArm, Replication, ScaleOverride, path_of_axis

__all__ = [
    "Claim",
    "Grid",
    "Metric",
    "Parameters",
    "PlannedRun",
    "Precondition",
    "Reference",
    "RegimeArm",
    "Replication",
    "Scalar",
    "ScaleOverride",
    "Selection",
    "SourceValue",
    "Term",
    "Test",
    "Variant",
    "arm_key",
    "claim_lines",
    "expand",
    "expand_here",
    "grids_at",
    "list_replications",
    "load_replication",
    "matches",
    "merge_runs",
    "path_of_axis",
    "plan_here",
    "plan_runs",
    "planned_seeds",
    "record_seeds",
    "replication_file",
    "seeds_of",
    "select",
    "with_snapshots",
]
