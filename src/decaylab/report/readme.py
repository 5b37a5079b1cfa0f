"""What documents say about replications and their results: generated, never typed.

`make readme` runs this module, and a test checks that each document says what the evidence says. Generated text stands
between two markers, `<!-- name: ... -->` and `<!-- /name -->`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from decaylab.analysis.verdict import VERDICTS
from decaylab.errors import InputError
from decaylab.files import atomic_path
from decaylab.replication import Replication, select
from decaylab.report import archive_summary
from decaylab.report.claims import judged_in, read_evidence
from decaylab.report.figures import claims_forest, png
from decaylab.report.findings import agreement, findings
from decaylab.report.html import duration, estimate, number, scalar, words
from decaylab.report.ledger_page import ledger_markdown
from decaylab.report.provenance import sources_text
from decaylab.report.references import citation
from decaylab.sources import is_named
from decaylab.workspace import find_root

FIGURE = Path("docs/images/headline.png")
ARM_METRICS = (
    "test_error",
    "test_loss",
    "validation_loss",
    "train_loss",
    "weight_norm",
    "lost_updates",
    "attention_logit",
)
"""columns of an arm, where its runs have them"""


def headline_claims(root: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(evidence file, claim) of every headline claim that evidence judges, from the best evidence it has."""
    found = []
    for rep in select(root, "headline"):
        evidence = read_evidence(root, rep.name)
        for claim in rep.claims:
            for file, judged in judged_in(evidence, claim.id)[:1]:
                view = judged.to_json() | {"statement": claim.statement, "replication": rep.name}
                found.append((file, view | {"evidence": [], "origin": None}))
    return found


def table(rows: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The claims as a Markdown table."""
    lines = ["| claim | the source | ours [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for file, claim in rows:
        source = claim["source_value"]
        said = number(source["value"]) if source.get("value") is not None else "no number"
        ours = f"{estimate(claim['estimate'], claim['interval'])} {claim['unit']}"
        name = f"[{claim['claim']}](replications/{claim['replication']})"
        lines.append(f"| {name} | {said} | {ours} | {claim['n']} | **{claim['verdict']}**, {file['scale']} |")
    return "\n".join(lines)


def headline(root: Path) -> str:
    """Findings, figure and table of README.md."""
    rows = headline_claims(root)
    if not rows:
        return ""
    views = [view for _, view in rows]
    files = {file["file"]: file for file, _ in rows}
    data = sources_text(item for file in files.values() for item in file["data"])
    commits = sorted({commit for view in views for commit in view["commits"]})
    places = "; ".join(sorted({f"{file['scale']} scale on {file['hardware']}" for file in files.values()}))
    said = "\n".join(
        f"- **{finding.verdict}** ([{finding.replication}](replications/{finding.replication})): {finding.text}"
        for finding in findings(views)
    )
    return (
        f"Of {len(views)} headline claims, {verdict_counts(views)}. {agreement(views)}\n\n"
        f'<img src="{FIGURE.as_posix()}" width="700" alt="The decided claims with their intervals, what each one says, '
        "and the source's number\">\n\n<details><summary>What was found, claim by claim</summary>\n\n"
        f"{said}\n\n</details>\n\n<details><summary>All claims as a table</summary>\n\n"
        f"{table(rows)}\n\n</details>\n\n"
        f"Measured at {places}, on {data}, at commit {', '.join(commits)}. The sources' numbers\n"
        "belong to their own scale. Each estimate is that of the test that decides the claim; the reports show all\n"
        "tests and variants. `snakemake --cores all evidence` makes them from the archived runs.\n"
    )


def verdict_counts(views: Iterable[Mapping[str, Any]]) -> str:
    """`15 are reproduced, 7 contradicted and 3 inconclusive`: verdicts in their usual order, those that occur."""
    counts = Counter(view["verdict"] for view in views)
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
    first = parts[0].split(" ", 1)
    parts[0] = f"{first[0]} {'is' if first[0] == '1' else 'are'} {first[1]}"
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def decided(root: Path) -> list[dict[str, Any]]:
    """The headline claims about which the evidence says something."""
    views = [view for _, view in headline_claims(root)]
    told = {(finding.replication, finding.claim) for finding in findings(views)}
    return [view for view in views if (view["replication"], view["claim"]) in told]


def own_data(root: Path) -> str:
    """Arms and claims of all evidence on data that a user brought, one section a file."""
    sections = []
    for rep in select(root, "all"):
        for file in read_evidence(root, rep.name):
            sources = [data["source"] for data in file["data"]]
            if not any(map(is_named, sources)):
                about = f"{file['scale'].capitalize()} scale on {file['hardware']}, data {', '.join(sources)}, "
                about += f"{len(file['runs'])} runs that took {duration(file['seconds'])}, {file['made_at'][:10]}"
                sections.append(f"## {rep.title} (`{rep.name}`)\n\n{about}.\n\n{arms(file)}\n\n{claims(file)}\n")
    return "\n".join(sections)


def strategies(root: Path) -> str:
    """Verdicts on decay strategies, one table for each evidence file."""
    tables = [
        f"{file['scale'].capitalize()} scale, {sources_text(file['data'])}:\n\n{claims(file)}\n"
        for file in read_evidence(root, "decay_strategies")
    ]
    return "\n".join(tables) or "No runs are on file.\n"


def arms(file: dict[str, Any]) -> str:
    """Mean and standard deviation of the arms of an archive file, as a Markdown table."""
    frame = archive_summary.arms(file)
    axes = list(frame.columns[: list(frame.columns).index("seeds") + 1])
    frame = frame[[*axes, *(name for name in ARM_METRICS if name in frame)]]
    lines = [f"| {' | '.join(words(name) for name in frame)} |", "|" + "---|" * frame.shape[1]]
    lines += [f"| {' | '.join(map(scalar, row))} |" for row in frame.itertuples(index=False, name=None)]
    return "\n".join(lines)


def claims(file: dict[str, Any]) -> str:
    """Verdicts of an evidence file, with their variants, as a Markdown table."""
    lines = ["| claim | variant | ours [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for claim in file["verdicts"].claims:
        for label, judged in [("", claim), *((variant.label, variant) for variant in claim.also)]:
            ours = estimate(judged.estimate, judged.interval)
            if judged.verdict != "not run":
                lines.append(f"| {claim.claim} | {label} | {ours} | {judged.n} | {judged.verdict} |")
    return "\n".join(lines)


def replications(root: Path) -> str:
    """All replications with their question, references and verdicts, as a Markdown table."""
    lines = ["| name | the question | published in | verdicts on file |", "|---|---|---|---|"]
    for rep in select(root, "all"):
        question = " ".join(rep.question.split())
        name = f"[`{rep.name}`](replications/{rep.name})"
        lines.append(f"| {name} | {question} | {'; '.join(_cite(rep))} | {_verdicts(root, rep)} |")
    return "\n".join(lines) + "\n"


def _verdicts(root: Path, rep: Replication) -> str:
    """`4 reproduced, 2 inconclusive`: the claims of a replication, each from the best evidence it has."""
    evidence = read_evidence(root, rep.name)
    best = [judged_in(evidence, claim.id)[:1] for claim in rep.claims]
    counts = Counter(judged.verdict for found in best for _, judged in found)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]) or "none yet"


def _cite(rep: Replication) -> list[str]:
    """`D'Angelo et al. 2024`, linked, for each reference of a replication."""
    return [f"[{citation(reference)}]({reference.url})" for reference in rep.references]


GENERATED: tuple[tuple[str, str, Callable[[Path], str]], ...] = (
    ("README.md", "headline", headline),
    ("README.md", "replications", replications),
    ("docs/ledger.md", "ledger", ledger_markdown),
    ("docs/decay-strategies.md", "strategies", strategies),
    ("docs/real-data-on-a-laptop.md", "own-data", own_data),
)
"""document, name of its markers, and what generates the text between them"""


def split(path: Path, name: str) -> tuple[str, str, str]:
    """A document before, between and after its markers. Raises InputError if they are missing."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}:", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise InputError(f"{path}: expected the markers {begin} ... and {end}")
    first = text.index("\n", text.index(begin)) + 1
    return text[:first], text[first : text.index(end)], text[text.index(end) :]


def write(root: Path) -> None:
    """Write the generated parts of all documents, and the figure. Raises InputError if a document lost its markers."""
    for document, name, generate in GENERATED:
        before, _, after = split(root / document, name)
        with atomic_path(root / document) as temporary:
            temporary.write_text(before + generate(root) + after, encoding="utf-8")
    chart = claims_forest(decided(root))
    if chart is not None:
        with atomic_path(root / FIGURE) as temporary:
            temporary.write_bytes(png(chart.figure))


if __name__ == "__main__":
    write(find_root())
