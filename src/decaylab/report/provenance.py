"""Where archived runs come from, in words for a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from decaylab.analysis.archive import Origin
from decaylab.files import read_json
from decaylab.report.html import Html, link, relative, scale_text
from decaylab.sources import about, found_lines, is_named
from decaylab.workspace import Workspace


def sources_text(data: Iterable[Mapping[str, Any]]) -> str:
    """Titles of the data of some archived runs, each once."""
    return ", ".join(dict.fromkeys(data_title(item["source"]) for item in data))


def data_title(source: str) -> str:
    """What people call a data source: the start of a plug-in's title, or the user's file without its endings."""
    if is_named(source):
        return re.split(r"[:,]", about(source).title)[0]
    return "+".join(re.sub(r"(\.(tar|gz|xz|bz2|zip|tgz|txt))+$", "", part) for part in source.split("+"))


def data_list(sources: Iterable[str], results: Path | None = None) -> Html:
    """What each data source is, its size and its licence, as a list.

    A user's own files have no licence to state; of those that are prepared in `results`, what was found in them.
    """
    items = []
    for source in dict.fromkeys(sources):
        if not is_named(source):
            found = "".join(f"; {escape(line)}" for line in (_found(source, results) if results else ()))
            items.append(f"<li>{escape(data_title(source))}: files that the user brought, licence unknown{found}</li>")
            continue
        facts = about(source)
        title = link(facts.title, facts.url) if facts.url else escape(facts.title)
        counts = [f"{count:,} {split} images" for split, count in (facts.examples or {}).items()]
        counts += [f"about {facts.tokens / 1e6:.0f} million bytes"] if facts.tokens else []
        size = f" ({', '.join(counts)})" if counts else ""
        items.append(f"<li>{title}{size}. Licence: {escape(facts.licence or 'not stated')}.</li>")
    return Html(f'<ul class="data">{"".join(items)}</ul>') if items else Html("")


def _found(source: str, results: Path) -> list[str]:
    metas = (read_json(path) for path in sorted((results / "data").glob("*/meta.json")))
    return next((found_lines(meta["found"]) for meta in metas if meta["source"] == source and "found" in meta), [])


def evidence_facts(origin: Origin, names: Iterable[str]) -> Html:
    """Scale, hardware, data, runs, commit, day and files of archived runs."""
    heads = {name: origin.filed[name] for name in names}
    commits = sorted({commit for head in heads.values() for commit in head["commits"]})
    runs, planned = (sum(head[key] for head in heads.values()) for key in ("runs", "runs_planned"))
    facts = [
        f"scale {scale_text(origin.scale)}",
        *dict.fromkeys(head["hardware"] for head in heads.values()),
        f"data {sources_text(item for head in heads.values() for item in head['data'])}",
        f"{runs} of {planned} planned runs",
        f"code of commit {', '.join(commits)}",
        f"archived on {', '.join(sorted({head['made_at'][:10] for head in heads.values()}))}",
        *(["curves that no claim reads are thinned"] if any(head["thinned"] for head in heads.values()) else []),
    ]
    files = ", ".join(f"<code>{escape(head['file'])}</code>" for head in heads.values())
    return Html(f"{escape('; '.join(facts))}; archived as {files}.")


def evidence_note(origin: Origin, names: Iterable[str], workspace: Workspace, folder: Path) -> Html:
    """The line that says of a page in `folder` that it shows archived runs."""
    facts = evidence_facts(origin, names)
    index = link("All archived runs", relative(workspace.layout.reports.parent / "index.html", folder))
    return Html(f'<p class="note">Shown from archived runs; nothing was trained here: {facts} {index}.</p>')
