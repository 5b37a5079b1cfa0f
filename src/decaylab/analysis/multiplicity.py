"""How many verdicts may be wrong by chance when many claims are judged, and which survive a correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from decaylab.analysis.looks import SEQUENTIAL, Design, Test, value_interval
from decaylab.analysis.verdict import FALSE_PER_TEST

ERROR = FALSE_PER_TEST
"""of a test over all its looks: two sides of 2.5 %"""


def false_verdicts_bound(tests: int) -> float:
    """Upper bound of the expected number of wrong verdicts among `tests` tests judged: 5 % of each.

    Where the smallest effect is far below the standard error, a verdict on either side may be wrong, so both sides
    count.
    """
    return ERROR * tests


def false_share(decided: int, tests: int) -> float:
    """Upper bound of the share of wrong ones among `decided` claims, of which `tests` tests were judged.

    0 if none is decided.
    """
    return min(1.0, false_verdicts_bound(tests) / decided) if decided else 0.0


def p_values(values: Sequence[float], test: Test, design: Design = SEQUENTIAL) -> dict[str, float]:
    """P-value of each outcome that a test could have: reproduced, contradicted and, for effects, negligible.

    Each is the smallest error at which the interval would decide so, one-sided and against the smallest effect, at
    the best of the looks reached and multiplied by the number of planned looks (Bonferroni).

    Args:
        values: of the first seeds in planned order, without gaps.

    Returns:
        1 for every outcome before the first look.
    """
    looks = [np.asarray(values[:n], dtype=float) for n in design.reached(len(values))]
    effect = test.smallest_effect

    def above(edge: float) -> float:
        return min((_p_beyond(look, test.kind, edge, 1) for look in looks), default=1.0)

    def below(edge: float) -> float:
        return min((_p_beyond(look, test.kind, edge, -1) for look in looks), default=1.0)

    if test.direction == "within":
        result = {
            "reproduced": max(above(-effect), below(effect)),
            "contradicted": min(1.0, 2 * min(above(effect), below(-effect))),
        }
    elif test.kind == "proportion":
        held, against = (above(effect), below(effect)) if test.direction == "above" else (below(effect), above(effect))
        result = {"reproduced": held, "contradicted": against}
    else:
        held, against = (above(effect), below(0)) if test.direction == "above" else (below(-effect), above(0))
        result = {"reproduced": held, "contradicted": against, "negligible": max(above(-effect), below(effect))}
    return {outcome: min(1.0, len(design.looks) * p) for outcome, p in result.items()}


def claim_p_value(tests: Sequence[Mapping[str, float]]) -> float:
    """Two-sided p-value of a claim: that all its tests are reproduced, or that one contradicts it.

    A claim of one test may also be negligible. All tests must hold for a claim to be reproduced, so the largest
    p-value counts; one of them suffices to contradict it, so the smallest is multiplied by their number.
    """
    outcomes = [
        max(test["reproduced"] for test in tests),
        len(tests) * min(test["contradicted"] for test in tests),
    ]
    if len(tests) == 1:
        outcomes.append(tests[0].get("negligible", 1.0))
    return min(1.0, 2 * min(outcomes))


def surviving(claims: Mapping[str, float], level: float = ERROR) -> set[str]:
    """Names of the claims that survive Benjamini-Hochberg at `level`, from their p-values."""
    from scipy import stats

    if not claims:
        return set()
    adjusted = stats.false_discovery_control(list(claims.values()), method="bh")
    return {name for name, p in zip(claims, adjusted.tolist(), strict=True) if p <= level}


def _p_beyond(values: np.ndarray, kind: str, edge: float, side: int) -> float:
    """Smallest one-sided error at which the interval lies wholly above (`side` 1) or below (-1) `edge`."""

    def beyond(error: float) -> bool:
        _, interval = value_interval(values, kind, 1 - 2 * error)
        if interval is None:
            return False
        return interval[0] > edge if side > 0 else interval[1] < edge

    low, high = -16.0, float(np.log10(0.499))
    if not beyond(10**high):
        return 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(10**middle) else (middle, high)
    return float(10**high)
