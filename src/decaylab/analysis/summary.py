"""All verdicts of a scale together: how many chance alone may have made wrong, and which survive a correction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from decaylab.analysis import multiplicity
from decaylab.analysis.verdict import DECIDED, ClaimVerdict


@dataclass(frozen=True)
class Summary:
    """What chance can do to a set of claims."""

    claims: int
    """judged"""
    tests: int
    """of these claims"""
    decided: int
    """claims"""
    false_verdicts: float
    """upper bound of the expected number of wrong decisions: 5 % of each test"""
    false_share: float
    """upper bound of the share of wrong ones among the decided claims"""
    surviving: frozenset[str]
    """names of the decided claims that survive Benjamini-Hochberg at 5 %"""


def summarise(verdicts: Iterable[tuple[str, ClaimVerdict]]) -> Summary:
    """Summary of claims, each with a name that is unique among them."""
    judged = [(name, claim) for name, claim in verdicts if claim.tests_judged]
    tests = sum(claim.tests_judged for _, claim in judged)
    decided = {name for name, claim in judged if claim.verdict in DECIDED}
    p_values = {name: claim.p_value for name, claim in judged if claim.p_value is not None}
    return Summary(
        claims=len(judged),
        tests=tests,
        decided=len(decided),
        false_verdicts=multiplicity.false_verdicts_bound(tests),
        false_share=multiplicity.false_share(len(decided), tests),
        surviving=frozenset(multiplicity.surviving(p_values) & decided),
    )
