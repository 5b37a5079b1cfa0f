"""Publications: citations, locators with names instead of short ids, and BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from decaylab.replication import Reference
from decaylab.report.html import Html, link

_ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/([0-9]{4}\.[0-9]{4,5}(?:v[0-9]+)?)")


def authors(reference: Reference) -> list[str]:
    """Names of the authors, in the order of the file."""
    return [name.strip() for name in reference.authors.replace(" and ", ", ").split(",") if name.strip()]


def citation(reference: Reference) -> str:
    """`Bergsma et al. 2025`; the title of a publication without authors."""
    names = authors(reference)
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{who} {reference.year}" if who and reference.year else who or reference.title


def located(locator: str, references: Iterable[Reference]) -> Html:
    """A claim's locator with linked citations in place of short ids, as E1 or T."""
    known = {reference.id: link(citation(reference), reference.url) for reference in references}
    # in one pass, so that no id is found within a link that stands for another
    parts = re.split(rf"\b({'|'.join(map(re.escape, known))})\b", locator) if known else [locator]
    return Html("".join(known[part] if index % 2 else escape(part) for index, part in enumerate(parts)))


def cited(locator: str, references: Sequence[Reference]) -> list[str]:
    """Citations of the publications that a claim's locator names; of all where it names none, as `Figure 1`."""
    if locator.startswith("ours"):
        return []
    named = [item for item in references if re.search(rf"\b{re.escape(item.id)}\b", locator)]
    return [citation(item) for item in named or references]


def bibtex(reference: Reference) -> str:
    """A BibTeX entry, with the arXiv number where the address has one."""
    names = authors(reference)
    first = re.sub(r"\W", "", (names or [reference.title])[0].split()[-1]).lower()
    fields = {"author": " and ".join(names), "title": f"{{{reference.title}}}", "year": reference.year}
    if arxiv := _ARXIV.search(reference.url):
        fields |= {"eprint": arxiv[1], "archivePrefix": "arXiv"}
    fields["url"] = reference.url
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{first}{reference.year or ''},", *lines, "}"])


def reference_list(references: Sequence[Reference]) -> Html:
    """All references of a replication, each with its BibTeX entry."""
    items = []
    for reference in references:
        names = authors(reference)
        who = f"{', '.join(names)} ({reference.year}). " if names and reference.year else ""
        items.append(
            f"<li>{escape(who)}{link(reference.title, reference.url)}. {escape(reference.locator)}."
            f"<details><summary>BibTeX</summary><pre>{escape(bibtex(reference))}</pre></details></li>"
        )
    return Html(f'<ul class="references">{"".join(items)}</ul>')
