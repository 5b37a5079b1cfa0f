"""How far a scale is from the source: the dimensionless numbers of both, side by side."""

from __future__ import annotations

import pandas as pd

from decaylab.operations import operations_of
from decaylab.regime import LABELS, Regime, regime_of
from decaylab.replication import Replication, expand, matches
from decaylab.replication.schema import RegimeArm
from decaylab.report.html import number
from decaylab.report.load import Report
from decaylab.workspace import Scale, Workspace

FAR = 3.0
"""a number that differs from the source's by more than this factor is said to differ"""


def regimes(report: Report) -> pd.DataFrame:
    """One row for each regime of a replication and each of its numbers: the source's, this scale's, their ratio."""
    rows = []
    for label, arm in report.replication.regimes.items():
        source = _numbers(report.replication, "paper", report.workspace, arm)
        here = _numbers(report.replication, report.scale, report.workspace, arm)
        for name, text in LABELS.items():
            if name in source or name in here:
                ratio = here[name] / source[name] if source.get(name) and name in here else None
                rows.append(
                    {
                        "runs": label,
                        "number": text,
                        "source": number(source.get(name), 3),
                        f"{report.scale} scale": number(here.get(name), 3),
                        "this scale / source": number(ratio, 2),
                        "far": ratio is not None and not 1 / FAR <= ratio <= FAR,
                    }
                )
    return pd.DataFrame(rows)


def _numbers(rep: Replication, scale: Scale, workspace: Workspace, arm: RegimeArm) -> dict[str, float]:
    """The regime of the first run of an arm at a scale; empty where the scale has none."""
    choices = {} if scale == "paper" else dict(workspace.choices)
    specs = [spec for spec, parameters, _ in expand(rep, scale, choices) if matches(parameters, arm.among)]
    if not specs:
        return {}
    regime: Regime = regime_of(specs[0], arm.until, operations_of(specs[0]).parameters)
    return regime.numbers()
