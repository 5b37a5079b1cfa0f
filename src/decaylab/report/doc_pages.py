"""docs/*.md as pages of the site, so that a folder of reports explains itself wherever it is taken."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from decaylab.report.html import Html
from decaylab.workspace import Workspace


def documents(root: Path) -> dict[str, Path]:
    """Title of each document: its file, by file name."""
    found = {}
    for path in sorted((root / "docs").glob("*.md")):
        heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
        found[heading[1] if heading else path.stem] = path
    return found


def links(workspace: Workspace) -> list[tuple[str, str]]:
    """(title, address from the index) of every document."""
    return [(title, f"docs/{path.stem}.html") for title, path in documents(workspace.root).items()]


def body(path: Path) -> Html:
    """A document as HTML without its title. Links to other documents lead to their pages; links elsewhere in the clone,
    which a folder of reports does not contain, become plain text."""
    from nbconvert.filters import markdown2html

    text = re.sub(r"^# .+\n", "", path.read_text(encoding="utf-8"), count=1, flags=re.M)
    html = markdown2html(text)

    def link(match: re.Match[str]) -> str:
        target, words = match[1], match[2]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        name, _, anchor = target.partition("#")
        if (path.parent / name).parent == path.parent and name.endswith(".md") and (path.parent / name).exists():
            return f'<a href="{name.removesuffix(".md")}.html{f"#{anchor}" if anchor else ""}">{words}</a>'
        return words

    html = re.sub(r'<a class="anchor-link".*?</a>', "", html, flags=re.S)
    html = re.sub(r'<(h[2-6]) id="[^"]*">(.*?)</\1>', _heading, html, flags=re.S)
    html = re.sub(r'<a href="([^"]+)"[^>]*>(.*?)</a>', link, html, flags=re.S)
    html = re.sub(r"<table>.*?</table>", r'<div class="scroll" tabindex="0">\g<0></div>', html, flags=re.S)
    return Html(html)


def _heading(match: re.Match[str]) -> str:
    """A heading with the anchor that GitHub gives it, so that links between documents work in both places."""
    level, text = match[1], match[2]
    plain = unescape(re.sub(r"<[^>]+>", "", text)).strip().lower()
    anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
    return f'<{level} id="{anchor}">{text}</{level}>'
