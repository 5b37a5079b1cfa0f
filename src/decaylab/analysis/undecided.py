"""Which claims of a replication are undecided, and what each of their later looks needs and promises."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from decaylab.analysis import looks, power
from decaylab.analysis.allocation import OpenClaim
from decaylab.analysis.arms import AbsentGrid, RunIndex, Selector, most_seeds, split_seeds
from decaylab.analysis.contrasts import choose_settings, runs_of
from decaylab.analysis.judge import judge
from decaylab.analysis.readings import design_of, planned_looks, tuning_runs
from decaylab.analysis.results import load_runs
from decaylab.analysis.verdict import Judged, TestResult
from decaylab.replication import Claim, Replication, Test, Variant
from decaylab.workspace import Workspace

OPEN = ("inconclusive", "not run")


@dataclass
class Progress:
    """How far the claims of a replication have come."""

    closed: list[str] = field(default_factory=list)
    """claims that are decided, or not testable here"""
    hopeless: list[str] = field(default_factory=list)
    """undecided claims that more seeds would not decide"""
    open: list[OpenClaim] = field(default_factory=list)
    """undecided claims and variants that could still be decided"""

    @property
    def total(self) -> int:
        names = {item.name for item in self.open if not item.variant}
        return len(self.closed) + len(self.hopeless) + len(names)


def progress(rep: Replication, workspace: Workspace, wanted: Collection[str] | None = None) -> Progress:
    """Judge a replication and say what is left to decide.

    Args:
        wanted: only these claims, by id.

    Claims that are judged once at this scale, on a fixed number of seeds, are left out.

    Raises:
        InputError: as `judge`.
    """
    seeds = most_seeds(rep, workspace.scale, workspace.choices)
    index = RunIndex.of(rep, workspace.scale, workspace.choices, seeds)
    verdicts = {verdict.claim: verdict for verdict in judge(rep, workspace).claims}
    found = Progress()
    for claim in rep.claims:
        planned = planned_looks(claim, workspace.scale)
        if not planned or workspace.scale not in claim.scales or (wanted is not None and claim.id not in wanted):
            continue
        verdict, name = verdicts[claim.id], f"{rep.name}/{claim.id}"
        asked = [(name, claim.tests, {}, verdict, None)]
        for variant, judged in zip(claim.also, verdict.also, strict=True):
            tests = variant.tests or claim.tests
            asked.append((f"{name}: {variant.label}", tests, variant.arm, judged, variant))
        for label, tests, over, judged, variant in asked:
            listed = found.closed if variant is None else []
            if judged.verdict in OPEN:
                steps = _Steps(claim, variant, planned, index, workspace)
                looks_of = steps.all(tests, over, judged)
                listed = None
                if looks_of:
                    needed = {look: frozenset(ids) for look, (ids, _) in looks_of.items()}
                    chances = {look: chance for look, (_, chance) in looks_of.items()}
                    found.open.append(OpenClaim(label, needed, chances, variant is not None))
                elif variant is None:
                    listed = found.hopeless
            if listed is not None:
                listed.append(label)
    return found


@dataclass
class _Steps:
    """The later looks of one claim, or of one of its variants."""

    claim: Claim
    variant: Variant | None
    planned: list[int]
    index: RunIndex
    workspace: Workspace

    def all(self, tests: list[Test], over: Selector, judged: Judged) -> dict[int, tuple[set[str], float]]:
        """Look: all runs that it needs, and the probability that it decides; empty if more seeds cannot help."""
        open_tests = [(test, part) for test, part in zip(tests, judged.parts, strict=True) if part.verdict in OPEN]
        try:
            each = [self.one(test, over, part) for test, part in open_tests]
        except AbsentGrid:
            return {}
        if not each or not all(each):
            return {}
        # a test that has not reached its first look decides how far all can go
        last = min(max(looks_of) for looks_of in each)
        found: dict[int, tuple[set[str], float]] = {}
        for look in self.planned:
            if look > last or look < min(max(min(looks_of) for looks_of in each), last):
                continue
            at = [looks_of[min(known for known in looks_of if known >= min(look, max(looks_of)))] for looks_of in each]
            ids = set().union(*(ids for ids, _ in at))
            found[look] = ids, power.claim_chance(chance for _, chance in at)
        return found

    def one(self, test: Test, over: Selector, part: TestResult) -> dict[int, tuple[set[str], power.Chance]]:
        where = self.index.where(self.claim, test, self.variant)
        terms = self.index.terms(test, over, where)
        tuning, seeds = split_seeds(terms)
        chosen_by = tuning_runs(terms, tuning)
        layout = self.workspace.layout
        if any(not layout.summary(run_id).exists() for run_id in chosen_by):
            return {self.planned[0]: (set(chosen_by), power.Chance(1.0))}
        specs = [(run.spec, run.parameters) for run in self.index.runs if run.id in chosen_by]
        settings, _ = choose_settings(test, terms, tuning, load_runs(layout, specs), where)

        def needed(look: int) -> set[str]:
            return {run_id for seed in seeds[:look] for run_id in runs_of(test, terms, seed, settings)}

        if not part.looks:
            return {self.planned[0]: (needed(self.planned[0]), power.Chance(1.0))}
        return {look: (needed(look), chance) for look, chance in _chances(test, part, self.planned)}


def _chances(test: Test, part: TestResult, planned: list[int]) -> Iterator[tuple[int, power.Chance]]:
    """Later looks of a test with the chance that each decides it; none if more seeds cannot help."""
    values = [item.value for item in part.seeds]
    if None in values:
        return  # a seed without a number decides nothing, however many follow
    kind = test.kind if test.kind == "proportion" or set(values) <= {-1.0, 0.0, 1.0} else "continuous"
    question = looks.Test(test.direction, test.smallest_effect, kind)
    design = design_of(planned, len(values))
    forecast = power.forecast(values, question, looks.read(values, question, design), design)
    if forecast.can_help:
        yield from forecast.chances.items()
