"""Judge the claims of a replication from its results. docs/read-a-verdict.md explains the rules."""

from __future__ import annotations

import math

from decaylab.analysis import preregistration, statistics
from decaylab.analysis.arms import BEST, AbsentGrid, RunIndex, Selector, common_seeds
from decaylab.analysis.contrasts import contrast
from decaylab.analysis.results import Results, load_runs
from decaylab.analysis.verdict import (
    ClaimVerdict,
    ReportedValue,
    SeedValue,
    TestResult,
    VariantVerdict,
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
    index = RunIndex.of(rep, workspace.scale, dict(workspace.choices), added_seeds(workspace).get(rep.name))
    results = load_runs(layout, [(run.spec, run.parameters) for run in index.runs])
    preregistration.register_claims([rep], workspace)
    registry = preregistration.registered(layout)
    lines = claim_lines(replication_file(root, rep.name))
    claims = []
    for claim in rep.claims:
        sha256 = claim.sha256()
        registered_at = registry[rep.name, claim.id, sha256]["registered_at"]
        verdict = _Judge(index, results).claim(claim)
        verdict.claim_sha256 = sha256
        verdict.registered_at = registered_at
        moments = [preregistration.moment(results.runs[run_id].summary["started_at"]) for run_id in verdict.run_ids]
        verdict.registered_before_runs = all(preregistration.moment(registered_at) <= start for start in moments)
        verdict.line = lines[claim.id]
        claims.append(verdict)
    return VerdictFile(replication=rep.name, scale=workspace.scale, commit=git_commit(root), claims=claims)


class _Judge:
    """Judges one claim and remembers which runs it read."""

    def __init__(self, index: RunIndex, results: Results) -> None:
        self.index, self.results = index, results
        self.present = set(results.runs)
        self.used: set[str] = set()

    def claim(self, claim: Claim) -> ClaimVerdict:
        scale = self.index.scale
        judged_here = scale in claim.scales
        try:
            parts = [self.test(test, {}, self.index.where(claim, test)) for test in claim.tests]
        except InputError:
            if judged_here:
                raise
            # at a scale where the claim is not judged, the plan may lack an arm or a probe
            parts = [_not_run(test) for test in claim.tests]
        verdict = statistics.combine([part.verdict for part in parts])
        reason = _reason(parts)
        if not judged_here:
            verdict, reason = "not run", _not_at(scale, claim)
            parts = [part.model_copy(update={"verdict": verdict, "reason": reason}) for part in parts]
        source, estimate = claim.source_value, parts[0].estimate
        comparable = estimate is not None and source.value is not None and scale in source.same_setting
        also = [self.variant(claim, variant) for variant in claim.also] if judged_here else []
        runs = [self.results.runs[run_id] for run_id in sorted(self.used)]
        return ClaimVerdict(
            claim=claim.id,
            statement=claim.statement,
            verdict=verdict,
            reason=reason,
            parts=parts,
            unit=claim.unit,
            source_value=ReportedValue(value=source.value, text=source.text),
            difference_from_source=estimate - source.value if comparable else None,
            scale=scale,
            also=also,
            run_ids=[run.run_id for run in runs],
            seconds=math.fsum(run.summary["seconds"] for run in runs),
            commits=sorted({run.summary.get("commit") or "unknown" for run in runs}),
            hardware=sorted({run.hardware_name for run in runs}),
        )

    def variant(self, claim: Claim, variant: Variant) -> VariantVerdict:
        tests = variant.tests or claim.tests
        try:
            parts = [self.test(test, variant.arm, self.index.where(claim, test, variant)) for test in tests]
            reason = _reason(parts)
        except AbsentGrid:
            parts = [_not_run(test) for test in tests]
            reason = f"{self.index.scale} scale has no such runs"
        verdict = statistics.combine([part.verdict for part in parts])
        return VariantVerdict(label=variant.label, verdict=verdict, reason=reason, parts=parts)

    def test(self, test: Test, over: Selector, where: str) -> TestResult:
        """One test's estimate, interval and verdict."""
        terms = self.index.terms(test, over, where)
        wanted = {run_id for term in terms for run_id in term.arm.run_ids()}
        self.used |= wanted & self.present
        result = _not_run(test)
        planned, seeds = common_seeds(terms), common_seeds(terms, self.present)
        missing = len(wanted - self.present)
        notes = [f"{missing} of {len(wanted)} runs are missing"] if missing else []
        if missing and seeds:
            notes.append(f"judged on the {len(seeds)} of {len(planned)} seeds that are complete")
        values: list[float] = []
        without: list[str] = []
        for seed in seeds:
            found = contrast(test, terms, seed, self.results, where)
            result.seeds.append(SeedValue(seed=seed, value=found.value, runs=found.run_ids))
            result.chosen += found.chosen
            if found.value is None:
                without.append(str(seed))
            else:
                values.append(found.value)
        result.n = len(values)
        if values:
            result.estimate, result.interval = _estimate(test, values, where)
        result.verdict = statistics.decide(
            result.estimate, result.interval, test.direction, test.smallest_effect, test.kind
        )
        if without:
            # leaving these seeds out could flatter the claim, so the rest decides nothing
            result.verdict = "inconclusive"
            names = ", ".join(dict.fromkeys(term.metric.name for term in terms))
            notes.append(f"{names} has no value for seed {', '.join(without)}")
            if len(seeds) == 1 and BEST in [value for term in terms for value in term.arm.selector.values()]:
                notes[-1] = "the best setting cannot be chosen with one seed, since a seed never chooses its own"
        elif result.verdict == "inconclusive":
            notes.append(_why_open(test, result))
        result.reason = "; ".join(notes)
        return result


def _estimate(test: Test, values: list[float], where: str) -> tuple[float, statistics.Interval | None]:
    if test.kind == "mean":
        return statistics.mean_interval(values)
    if set(values) - {0.0, 1.0}:
        raise InputError(f"{where}: a {test.kind} needs a metric that is 0 or 1, {test.metric.name} is {values}")
    return statistics.rate_interval(int(sum(values)), len(values))


def _not_run(test: Test) -> TestResult:
    """A test's result before anything is known."""
    return TestResult(
        name=test.name or test.metric.name,
        direction=test.direction,
        smallest_effect=test.smallest_effect,
        kind=test.kind,
    )


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


def _why_open(test: Test, result: TestResult) -> str:
    """Why a test with an estimate is inconclusive."""
    if result.interval is None:
        return "one seed has no interval"
    low, high = result.interval
    interval = f"the interval {low:.3g} to {high:.3g}"
    effect = f"{test.smallest_effect:g}"
    if test.direction == "within":
        return f"{interval} is neither inside nor outside -{effect} to {effect}"
    if test.kind != "mean":
        return f"{interval} contains {effect}"
    if test.smallest_effect == 0:
        return f"{interval} contains 0"
    sign = "" if test.direction == "above" else "-"
    return f"{interval} is neither wholly {test.direction} {sign}{effect} nor wholly on the other side of 0"
