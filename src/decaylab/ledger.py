"""The ledger: every testable or checkable statement of the sources, and what became of it.

replications/ledger.yaml ties each statement to claims of this suite, to a document, or to the reason why neither can
decide it. Claims of a replication that a fork has removed count as not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, model_validator

from decaylab.errors import InputError
from decaylab.spec import Strict
from decaylab.spec.base import WebAddress
from decaylab.yaml_files import explain, load_yaml

Outcome = Literal[
    "supported",
    "contradicted",
    "mixed",
    "undecided",
    "not testable here",
    "not run",
    "confirmed",
    "refuted",
    "unverifiable",
    "untestable",
]
"""the first six come from verdicts, the next three from documents"""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
DECIDED: tuple[Outcome, ...] = ("supported", "contradicted", "mixed")

Sense = Literal["as it says", "not", "opposite", "stricter"]
HOLDS: dict[Sense, dict[str, bool]] = {
    "as it says": {"reproduced": True, "contradicted": False, "negligible": False},
    "not": {"reproduced": False, "contradicted": True, "negligible": True},
    "opposite": {"reproduced": False, "contradicted": True, "negligible": False},
    "stricter": {"reproduced": True},
}
"""whether a statement holds, given how it bears on a claim and the claim's verdict; other verdicts leave it open"""
TOLD_NOTHING = {"inconclusive", "contradicted", "negligible"}
"""verdicts after which a statement that is still open is undecided: a stricter claim that fails leaves it so"""


@dataclass(frozen=True)
class Tie:
    """A claim of this suite, and how a statement bears on it."""

    claim: str
    """<replication>/<claim>"""
    sense: Sense

    @classmethod
    def parse(cls, text: str) -> Tie:
        """`a/b`; `not a/b` where the statement denies the claim; `opposite a/b` where it claims the other direction;
        `stricter a/b` where the claim demands more than the statement."""
        sense, _, claim = text.rpartition(" ")
        if sense not in ("", "not", "opposite", "stricter") or claim.count("/") != 1 or not all(claim.split("/")):
            raise ValueError(
                f"claims: expected <replication>/<claim>, perhaps after `not`, `opposite` or `stricter`, got {text!r}"
            )
        return cls(claim, sense or "as it says")


class LedgerSource(Strict):
    """A text whose statements the ledger lists."""

    title: str
    authors: str
    year: int
    url: WebAddress | None = None


class Document(Strict):
    """What a named document says about a statement."""

    outcome: Literal["confirmed", "refuted", "unverifiable"]
    name: str
    finding: str


class Entry(Strict):
    """One statement, in our words."""

    id: str = Field(pattern=r"^S\d{3}-\d+$")
    statement: str
    claims: list[str] = []
    """`<replication>/<claim>`, each of which bears on the statement, as `Tie.parse` reads them"""
    document: Document | None = None
    untestable: str | None = None
    """why neither runs nor documents can decide it"""
    partly: str | None = None
    """what the claims leave open"""

    @model_validator(mode="after")
    def _check(self) -> Entry:
        if sum([bool(self.claims), self.document is not None, self.untestable is not None]) != 1:
            raise ValueError("expected exactly one of claims, document and untestable")
        _ = self.ties  # raises ValueError
        if self.partly and not self.claims:
            raise ValueError("partly goes with claims")
        return self

    @property
    def source(self) -> str:
        """Key of its source: `S001` of `S001-24`."""
        return self.id.partition("-")[0]

    @property
    def ties(self) -> list[Tie]:
        """Its claims, and how it bears on each."""
        return [Tie.parse(claim) for claim in self.claims]

    def outcome(self, verdicts: Mapping[str, str]) -> Outcome:
        """What became of the statement, given `<replication>/<claim>`: verdict.

        A statement with several claims is supported or contradicted where all decided claims agree, and mixed
        where they do not. While none is decided, it is undecided if runs could not tell, not testable here if its
        phenomenon did not occur, and else not run.
        """
        if self.document:
            return self.document.outcome
        if self.untestable:
            return "untestable"
        found = [(tie.sense, verdicts.get(tie.claim, "not run")) for tie in self.ties]
        decided = {HOLDS[sense][verdict] for sense, verdict in found if verdict in HOLDS[sense]}
        if decided:
            return "mixed" if len(decided) == 2 else "supported" if True in decided else "contradicted"
        open_verdicts = {verdict for _, verdict in found}
        if open_verdicts & TOLD_NOTHING:
            return "undecided"
        return "not testable here" if "not testable here" in open_verdicts else "not run"


class Ledger(Strict):
    sources: dict[str, LedgerSource]
    entries: list[Entry]

    @model_validator(mode="after")
    def _check(self) -> Ledger:
        for entry_id, count in Counter(entry.id for entry in self.entries).items():
            if count > 1:
                raise ValueError(f"entry {entry_id} stands twice")
        for entry in self.entries:
            if entry.source not in self.sources:
                raise ValueError(f"entry {entry.id}: there is no source {entry.source}")
        return self

    def of(self, source: str) -> list[Entry]:
        """Entries of one source, in their order."""
        return [entry for entry in self.entries if entry.source == source]

    def summary(self, source: str, verdicts: Mapping[str, str]) -> str:
        """One sentence: how the statements of a source fared."""
        entries = self.of(source)
        counts = Counter(entry.outcome(verdicts) for entry in entries)
        tied = sum(bool(entry.claims) for entry in entries)
        documented = sum(entry.document is not None for entry in entries)
        total = f"Of {len(entries)} statement{'s' if len(entries) != 1 else ''}"
        parts = []
        if tied:
            parts.append(f"runs can test {tied if tied < len(entries) else 'all'}: {_counted(counts, TESTED)}")
        if documented:
            parts.append(f"documents speak of {documented}: {_counted(counts, DOCUMENTED)}")
        if counts["untestable"]:
            parts.append(f"{counts['untestable']} cannot be tested")
        return f"{total}, {'; '.join(parts)}."


TESTED = {
    "supported": "{} supported",
    "contradicted": "{} contradicted",
    "mixed": "{} mixed",
    "undecided": "{} undecided",
    "not testable here": "{} not testable at the scales that ran",
    "not run": "{} not run",
}
DOCUMENTED = {
    "confirmed": "{} confirmed",
    "refuted": "{} refuted",
    "unverifiable": "{} unverifiable",
}


def _counted(counts: Mapping[str, int], texts: Mapping[str, str]) -> str:
    """`2 supported, 1 mixed and 9 not run`."""
    parts = [text.format(counts[outcome]) for outcome, text in texts.items() if counts[outcome]]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def ledger_file(root: Path) -> Path:
    return root / "replications" / "ledger.yaml"


def load_ledger(root: Path) -> Ledger:
    """Read and check replications/ledger.yaml. Raises InputError naming the file and the key."""
    path = ledger_file(root)
    try:
        return Ledger.model_validate(load_yaml(path))
    except ValidationError as error:
        raise InputError(explain(error, str(path))) from None


def check_claims_exist(ledger: Ledger, known: Mapping[str, set[str]], path: Path) -> None:
    """Every claim of a replication that is here must be one of its claims.

    Args:
        known: replication: ids of its claims.

    Raises:
        InputError: naming the entry and the claim.
    """
    for entry in ledger.entries:
        for tie in entry.ties:
            replication, _, claim = tie.claim.partition("/")
            if replication in known and claim not in known[replication]:
                raise InputError(f"{path}: {entry.id}: {replication} has no claim {claim}")
