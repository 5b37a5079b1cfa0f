"""Judge the claims of a replication from its results. docs/read-a-verdict.md explains the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

from decaylab.analysis import looks, multiplicity, preregistration
from decaylab.analysis.arms import AbsentGrid, RunIndex, Selector, most_seeds
from decaylab.analysis.preconditions import check_preconditions
from decaylab.analysis.questions import same_question
from decaylab.analysis.readings import TestReading, planned_looks, read_test, unread
from decaylab.analysis.results import Results, load_runs
from decaylab.analysis.verdict import (
    DECIDED,
    RULE,
    ClaimVerdict,
    PreconditionResult,
    ReportedValue,
    TestResult,
    VariantVerdict,
    Verdict,
    VerdictFile,
)
from decaylab.errors import InputError
from decaylab.files import git_commit
from decaylab.replication import Claim, Replication, Test, Variant, claim_lines, replication_file
from decaylab.seeds import added_seeds
from decaylab.workspace import SCALES, Scale, Workspace


def judge(rep: Replication, workspace: Workspace) -> VerdictFile:
    """Verdicts of a replication at the workspace's scale: the same for the same claims, results, registry and commit.

    Claims that are not registered yet are registered now.

    Raises:
        InputError: a claim's arms are not in the plan, a run lacks a claim's metric, or a result is damaged.
    """
    layout, root = workspace.layout, workspace.root
    scale, choices = workspace.scale, workspace.choices
    here = RunIndex.of(rep, scale, choices, added_seeds(workspace).get(rep.name))
    results = load_runs(layout, [(run.spec, run.parameters) for run in here.runs])
    # seeds are added to single arms: of an arm that stands for the best of several, only to the one that was chosen
    possible = RunIndex.of(rep, scale, choices, most_seeds(rep, scale, choices))
    preregistration.register_claims([rep], workspace)
    registry = preregistration.registered(layout)
    lines = claim_lines(replication_file(root, rep.name))
    claims = []
    for claim in rep.claims:
        sha256 = claim.sha256()
        registered_at = registry[rep.name, claim.id, sha256]["registered_at"]
        index = possible if planned_looks(claim, scale) else here
        verdict = _Judge(claim, index, results).verdict()
        verdict.claim_sha256 = sha256
        verdict.registered_at = registered_at
        starts = [preregistration.moment(results.runs[run_id].summary["started_at"]) for run_id in verdict.run_ids]
        verdict.registered_before_runs = all(preregistration.moment(registered_at) <= start for start in starts)
        verdict.line = lines[claim.id]
        claims.append(verdict)
    return VerdictFile(replication=rep.name, scale=scale, commit=git_commit(root), claims=claims)


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim whose tests must all hold.

    One contradicted test contradicts the claim, and one negligible effect makes it negligible. Otherwise a test that
    compares nothing leaves it untestable. It is reproduced if all tests are, and not run if one is not and no other
    settles it.
    """
    known = [verdict for verdict in verdicts if verdict != "not run"]
    verdict = looks.combine(known)
    if verdict not in looks.AGAINST and "not testable here" in known:
        return "not testable here"
    return verdict if verdict in looks.AGAINST or len(known) == len(verdicts) else "not run"


class _Judge:
    """Judges one claim and remembers which runs it read."""

    def __init__(self, claim: Claim, index: RunIndex, results: Results) -> None:
        self.claim, self.index, self.results = claim, index, results
        self.looks = planned_looks(claim, index.scale)
        self.used: set[str] = set()

    def verdict(self) -> ClaimVerdict:
        claim, scale = self.claim, self.index.scale
        judged_here = scale in claim.scales
        conditions: list[PreconditionResult] = []
        try:
            parts, conditions = self.tests(claim.tests, {})
        except InputError:
            if judged_here:
                raise
            # at a scale where the claim is not judged, the plan may lack an arm or a probe
            parts = [unread(test) for test in claim.tests]
        verdict, reason = _settle(parts, conditions)
        if not judged_here:
            verdict, reason = "not run", _not_at(scale, claim)
        if not judged_here or verdict == "not testable here":
            parts = [part.model_copy(update={"verdict": verdict, "reason": reason}) for part in parts]
        also = [self.variant(variant) for variant in claim.also] if judged_here else []
        disagrees = _disagreement(verdict, also)
        source, estimate = claim.source_value, parts[0].estimate
        comparable = estimate is not None and source.value is not None and scale in source.same_setting
        runs = [self.results.runs[run_id] for run_id in sorted(self.used)]
        judged = all(part.p_values for part in parts) and verdict not in ("not run", "not testable here")
        return ClaimVerdict(
            claim=claim.id,
            statement=claim.statement,
            verdict=verdict,
            reason="; ".join([reason] * bool(reason) + [f"elsewhere: {item}" for item in disagrees]),
            parts=parts,
            preconditions=conditions,
            unit=claim.unit,
            source_value=ReportedValue(value=source.value, text=source.text),
            difference_from_source=estimate - source.value if comparable else None,
            scale=scale,
            also=also,
            run_ids=[run.run_id for run in runs],
            seconds=math.fsum(run.summary["seconds"] for run in runs),
            commits=sorted({run.summary.get("commit") or "unknown" for run in runs}),
            hardware=sorted({run.hardware_name for run in runs}),
            planned_looks=self.looks,
            p_value=multiplicity.claim_p_value([part.p_values for part in parts]) if judged else None,
            disagrees=disagrees,
            rule=RULE,
        )

    def variant(self, variant: Variant) -> VariantVerdict:
        tests = variant.tests or self.claim.tests
        conditions: list[PreconditionResult] = []
        try:
            parts, conditions = self.tests(tests, variant.arm, variant)
            verdict, reason = _settle(parts, conditions)
        except AbsentGrid:
            parts = [unread(test) for test in tests]
            verdict, reason = "not run", f"{self.index.scale} scale has no such runs"
        return VariantVerdict(
            label=variant.label,
            same_question=same_question(self.claim, variant),
            verdict=verdict,
            reason=reason,
            parts=parts,
            preconditions=conditions,
        )

    def tests(
        self, tests: list[Test], over: Selector, variant: Variant | None = None
    ) -> tuple[list[TestResult], list[PreconditionResult]]:
        """Results of some tests, and of the claim's preconditions where they apply to them."""
        readings: list[TestReading] = []
        for test in tests:
            where = self.index.where(self.claim, test, variant)
            readings.append(read_test(test, over, self.looks, self.index, self.results, where))
            self.used |= readings[-1].run_ids
            if variant is None:
                readings[-1].add_p_values()
        conditions: list[PreconditionResult] = []
        if variant is None or variant.tests is None:  # tests of its own are of another question
            conditions = check_preconditions(self.claim, over, readings[0].seeds, self.index, self.results)
        return [reading.result for reading in readings], conditions


def _settle(parts: list[TestResult], conditions: list[PreconditionResult]) -> tuple[Verdict, str]:
    """The verdict of several tests, and its reason."""
    if failed := [condition.name for condition in conditions if condition.fails]:
        return "not testable here", "; ".join(failed)
    return combine([part.verdict for part in parts]), _reason(parts)


def _disagreement(verdict: Verdict, also: list[VariantVerdict]) -> list[str]:
    """Variants that ask the claim's question of other runs and are decided otherwise than the claim."""
    if verdict not in DECIDED:
        return []
    return [
        f"{found.verdict} for {found.label}"
        for found in also
        if found.same_question and found.verdict in DECIDED and found.verdict != verdict
    ]


def _not_at(scale: Scale, claim: Claim) -> str:
    if SCALES.index(scale) < min(map(SCALES.index, claim.scales)):
        return f"{scale} scale is too small to judge this claim"
    return f"this claim is judged at {', '.join(claim.scales)}, not at {scale}"


def _reason(parts: list[TestResult]) -> str:
    """The reasons of a claim's tests, each with the test's name if they differ."""
    reasons = [(part.name, part.reason) for part in parts if part.reason]
    if len(reasons) == len(parts) and len({reason for _, reason in reasons}) == 1:
        return reasons[0][1]
    return "; ".join(f"{name}: {reason}" for name, reason in reasons)
