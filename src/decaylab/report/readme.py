"""The headline of README.md: a table and a figure, generated from committed evidence and never typed.

`make readme` runs this module; a test checks that README.md says what the evidence says.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

from decaylab.errors import InputError
from decaylab.files import atomic_path
from decaylab.replication import find_root, select
from decaylab.report.figures import claims_forest
from decaylab.report.html import estimate, number, scale_text
from decaylab.report.load import judged_in, read_evidence

BEGIN, END = "<!-- headline:", "<!-- /headline -->"
FIGURE = Path("docs/images/headline.png")


def headline_claims(root: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(evidence file, claim) of every headline claim that evidence judges, from the best evidence it has."""
    found = []
    for rep in select(root, "headline"):
        evidence = read_evidence(root, rep.name)
        for claim in rep.claims:
            for file, judged in judged_in(evidence, claim.id)[:1]:
                found.append((file, judged | {"replication": rep.name}))
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


def block(root: Path) -> str:
    """What stands between the two marks of README.md."""
    rows = headline_claims(root)
    if not rows:
        return ""
    files = {file["file"]: file for file, _ in rows}
    data = sorted({item["source"] for file in files.values() for item in file["data"]})
    commits = sorted({commit for _, claim in rows for commit in claim["commits"]})
    places = "; ".join(sorted({f"scale {scale_text(file['scale'])} on {file['hardware']}" for file in files.values()}))
    return (
        f'<img src="{FIGURE.as_posix()}" width="600" alt="Every claim with its interval, the side it claims, and the '
        "source's number\">\n\n<details><summary>The same as a table</summary>\n\n"
        f"{table(rows)}\n\n</details>\n\n"
        f"Measured at {places}, with data {', '.join(data)}, at commit {', '.join(commits)}.\n"
        "The source's number belongs to the paper's own scale. Each estimate is that of the claim's first test; the\n"
        "reports show all tests and variants; `snakemake --cores all evidence` makes them from the filed runs.\n"
    )


def write(root: Path) -> None:
    """Replace the block of README.md and its figure. Raises InputError if the marks are gone."""
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise InputError(f"{path}: expected the marks {BEGIN} ... and {END}")
    first = text.index("\n", text.index(BEGIN)) + 1
    with atomic_path(path) as temporary:
        temporary.write_text(text[:first] + block(root) + text[text.index(END) :], encoding="utf-8")
    figure = claims_forest([claim for _, claim in headline_claims(root)])
    if figure is not None:
        with atomic_path(root / FIGURE) as temporary, matplotlib.rc_context({"savefig.facecolor": "white"}):
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    write(find_root())
