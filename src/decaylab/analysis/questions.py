"""Whether a variant asks its claim's question of other runs, or a question of its own."""

from __future__ import annotations

from typing import Any

from decaylab.files import sha256_json
from decaylab.replication import Claim, Scalar, Test, Variant


def same_question(claim: Claim, variant: Variant) -> bool:
    """True if a variant only moves the claim's tests to other runs: another network, text or learning rate.

    Another metric, another contrast or another expectation makes it a question of its own, whose verdict speaks
    neither for the claim nor against it.
    """
    tests = variant.tests or claim.tests
    return {_question(test, variant.arm) for test in tests} == {_question(test) for test in claim.tests}


def contrast_of(test: Test) -> list[tuple[float, dict[str, Scalar]]]:
    """(weight, parameters in which it differs from the other arms) of each arm of a test; a single arm has none."""
    arms = [(weight, arm) for weight, arm, _ in _terms(test)]
    return [(weight, _own(arm, [other for _, other in arms])) for weight, arm in arms]


def _terms(test: Test) -> list[tuple[float, dict[str, Scalar], Any]]:
    """(weight, arm, metric) of each arm."""
    if test.terms:
        return [(term.weight, term.arm, (term.metric or test.metric).model_dump()) for term in test.terms]
    metric = test.metric.model_dump()
    first = (1.0, test.arm or {}, metric)
    return [first] if test.minus is None else [first, (-1.0, test.minus, metric)]


def _own(arm: dict[str, Scalar], arms: list[dict[str, Scalar]]) -> dict[str, Scalar]:
    return {name: value for name, value in arm.items() if any(other.get(name) != value for other in arms)}


def _question(test: Test, over: dict[str, Scalar] | None = None) -> str:
    """Everything about a test but its name and what all its arms share, as a digest."""
    terms = [(weight, arm | (over or {}), metric) for weight, arm, metric in _terms(test)]
    arms = [arm for _, arm, _ in terms]
    asked = test.model_dump(mode="json", exclude={"name", "metric", "arm", "minus", "terms"})
    return sha256_json([asked, [[weight, _own(arm, arms), metric] for weight, arm, metric in terms]])
