"""The ledger: every testable or checkable statement of the sources, and what became of it.

replications/ledger.yaml ties each statement to claims of this suite, to a document, or to the reason why neither can
decide it. Claims of replications that do not exist yet are allowed; their statements count as not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from decaylab.errors import InputError
from decaylab.spec import Strict
from decaylab.yaml_files import explain, load_yaml

Outcome = Literal["supported", "contradicted", "mixed", "open", "confirmed", "refuted", "unverifiable", "untestable"]
"""`supported`, `contradicted`, `mixed` and `open` come from verdicts; the next three from documents"""


class LedgerSource(Strict):
    """A text whose statements the ledger lists."""

    title: str
    authors: str
    year: int
    url: str | None = None


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
    """`<replication>/<claim>`, each of which bears on the statement"""
    document: Document | None = None
    untestable: str | None = None
    """why neither runs nor documents can decide it"""
    partly: str | None = None
    """what the claims leave open"""

    @model_validator(mode="after")
    def _check(self) -> Entry:
        if sum([bool(self.claims), self.document is not None, self.untestable is not None]) != 1:
            raise ValueError("expected exactly one of claims, document and untestable")
        for claim in self.claims:
            if claim.count("/") != 1 or not all(claim.split("/")):
                raise ValueError(f"claims: expected <replication>/<claim>, got {claim!r}")
        if self.partly and not self.claims:
            raise ValueError("partly goes with claims")
        return self

    @property
    def source(self) -> str:
        """Key of its source: `S001` of `S001-24`."""
        return self.id.partition("-")[0]

    def outcome(self, verdicts: Mapping[str, str]) -> Outcome:
        """What became of the statement, given `<replication>/<claim>`: verdict.

        A statement with several claims is supported or contradicted where all decided claims agree, and mixed
        where they do not. It is open while none of them is decided.
        """
        if self.document:
            return self.document.outcome
        if self.untestable:
            return "untestable"
        found = {verdicts.get(claim, "not run") for claim in self.claims}
        held, failed = "reproduced" in found, bool(found & {"contradicted", "negligible"})
        if held and failed:
            return "mixed"
        return "supported" if held else "contradicted" if failed else "open"


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
        testable = [entry for entry in entries if entry.claims]
        decided = counts["supported"] + counts["contradicted"] + counts["mixed"]
        parts = [f"{decided} of {len(testable)} testable statements have a verdict"]
        for outcome, words in (
            ("supported", "held"),
            ("contradicted", "did not hold"),
            ("mixed", "held in part"),
            ("confirmed", "confirmed by a document"),
            ("refuted", "refuted by a document"),
            ("unverifiable", "unverifiable"),
            ("untestable", "untestable"),
        ):
            if counts[outcome]:
                parts.append(f"{counts[outcome]} {words}")
        return f"Of {len(entries)} statements: {'; '.join(parts)}."


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
    """Every claim of a replication that exists must exist as well.

    Args:
        known: replication: ids of its claims.

    Raises:
        InputError: naming the entry and the claim.
    """
    for entry in ledger.entries:
        for name in entry.claims:
            replication, _, claim = name.partition("/")
            if replication in known and claim not in known[replication]:
                raise InputError(f"{path}: {entry.id}: {replication} has no claim {claim}")
