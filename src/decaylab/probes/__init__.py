"""Probes: what a run can measure on its network beyond losses and errors. One file each, found by its name.

`_protocol.py` says what a probe is. Nothing here names one, so that a run depends only on the probes it uses, and
nothing imports torch, so that plans and pages can ask what columns mean.
"""

from __future__ import annotations

import functools

from decaylab import plugins


@functools.cache
def columns() -> dict[str, tuple[str, str]]:
    """Column: its label and unit, for every column that some probe writes.

    A column may be followed by a dot and a parameter group, as in `lost_updates.mlp`.
    """
    found: dict[str, tuple[str, str]] = {}
    for name in plugins.available("probes"):
        for column, (label, unit) in (plugins.literal("probes", name, "COLUMNS") or {}).items():
            found[column] = (label, unit)
    return found
