"""Probes: what a run can measure on its model beyond losses and errors.

A probe's module is imported only when a run asks for it, so that a run depends on the probes it uses and on
no others.
"""

from collections.abc import Iterable

from decaylab.errors import InputError

PROBES: dict[str, str] = {
    "lost_updates": "decaylab.probes.rounding",
    "attention": "decaylab.probes.attention",
    "completion": "decaylab.probes.completion",
}
"""name in spec.evaluation.probes -> module that measures it"""


def check_probes(names: Iterable[str]) -> None:
    """Raises InputError for a name that is no probe."""
    for name in names:
        if name not in PROBES:
            raise InputError(f"evaluation.probes: unknown probe {name!r}, expected one of {', '.join(PROBES)}")
