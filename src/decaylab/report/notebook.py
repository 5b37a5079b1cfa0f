"""Execute a replication's notebook and turn it into a page."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from decaylab.analysis.archive import read_origin
from decaylab.analysis.verdict import VerdictFile
from decaylab.errors import InputError
from decaylab.files import atomic_path
from decaylab.replication import Replication, list_replications, load_replication, replication_file
from decaylab.report.claims import claim_views
from decaylab.report.findings import findings, open_claims
from decaylab.report.html import TEMPLATES, environment, link, scale_text, style
from decaylab.report.output import PAGE
from decaylab.report.provenance import evidence_note
from decaylab.report.references import citation, reference_list
from decaylab.report.sections import GENERATED, compose
from decaylab.report.site import write_yaml_page
from decaylab.workspace import Scale, Workspace

KERNEL = "python3"
"""the kernel of the environment itself; it needs no installation of its own"""
PARAMETER = "workspace"
"""the only parameter of a notebook: text that Workspace.to_json writes"""
KERNEL_ARGUMENTS = ["--IPKernelApp.exec_lines=import gc; gc.set_threshold(100_000)"]
"""A figure is thousands of objects in cycles: looking for those that are garbage would take a fifth of a notebook."""
CONTENTS = "<!-- contents -->"
"""where the template leaves room for links to the sections"""
START_TIMEOUT = 120
"""seconds; a kernel on a loaded machine is slow to come up"""


def render(name: str, workspace: Workspace, notebook: Path | None = None) -> Path:
    """Run notebooks/<name>.ipynb on the results of a workspace and write reports/<scale>/<name>.html.

    The sections that all reports share are added to the notebook before it runs (`sections.compose`). The executed
    notebook is kept in logs/notebooks/<scale>/<name>.ipynb (below the evidence's name if the results were restored
    from evidence), also where a cell failed.

    Args:
        notebook: another notebook with the same parameter.

    Returns:
        the page's path.

    Raises:
        InputError: there is no such notebook, it lacks the parameter `workspace`, or it opens no report.
        papermill.PapermillExecutionError: a cell failed.
    """
    root, scale, layout = workspace.root.resolve(), workspace.scale, workspace.layout
    source = notebook or root / "notebooks" / f"{name}.ipynb"
    rep = load_replication(replication_file(root, name))
    origin = read_origin(layout)
    executed = root / "logs" / "notebooks" / (origin.name if origin else "") / scale / f"{name}.ipynb"
    execute(source, executed, {PARAMETER: workspace.to_json()}, cwd=root, change=compose)
    verdicts = VerdictFile.read(layout.verdicts(scale, name))
    page = {
        "name": name,
        "title": rep.title,
        "question": rep.question,
        "scale": scale,
        "facts": _facts(scale, verdicts),
        "style": style("claims"),
        "published": "; ".join(link(citation(reference), reference.url) for reference in rep.references),
        "references": reference_list(rep.references),
        "findings": _findings(claim_views(rep, workspace), scale),
        "next": _next(rep, root, list(origin.filed) if origin else list_replications(root)),
        "script": "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "curves.js")),
    }
    path = layout.report(scale, name)
    page["evidence_note"] = evidence_note(origin, [name], workspace, path.parent) if origin else ""
    write_yaml_page(rep, workspace)
    with atomic_path(path) as temporary:
        temporary.write_text(_navigable(to_html(nbformat.read(executed, as_version=4), page)), encoding="utf-8")
    return path


def execute(
    source: Path,
    executed: Path,
    parameters: dict[str, Any],
    cwd: Path,
    change: Callable[[nbformat.NotebookNode, str], Any] | None = None,
) -> None:
    """Run a notebook with parameters and keep it as `executed`.

    Args:
        change: changes the notebook in place before it runs; gets its path for messages.

    Raises:
        InputError: the notebook does not exist, is damaged, or lacks one of the parameters.
        papermill.PapermillExecutionError: a cell failed.
    """
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class LocalKernelManager(AsyncKernelManager):
        """Talks to the kernel through sockets in a folder of its own.

        Two notebooks could race for ports, and for the names that sockets have in the working directory by default:
        one of them then waits for a kernel that answers the other.
        """

        transport = "ipc"

        @default("ip")
        def _ip_default(self) -> str:
            return f"{sockets}/kernel"

    if not source.exists():
        raise InputError(f"{source}: no such notebook")
    notebook = _read(source)
    with tempfile.TemporaryDirectory(prefix="decaylab-") as sockets:
        nbformat.write(notebook, Path(sockets) / "source.ipynb")
        known = papermill.inspect_notebook(f"{sockets}/source.ipynb")
        for key in parameters:
            if key not in known:
                raise InputError(
                    f"{source}: parameter {key}: unknown; its parameters cell has {', '.join(known) or 'none'}"
                )
        if change is not None:
            change(notebook, str(source))
        executed.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, executed)
        papermill.execute_notebook(
            str(executed),
            str(executed),
            parameters=parameters,
            kernel_name=KERNEL,
            cwd=str(cwd),
            start_timeout=START_TIMEOUT,
            progress_bar=False,
            log_output=False,
            kernel_manager_class=LocalKernelManager,
            extra_arguments=KERNEL_ARGUMENTS,
            shutdown_kernel="immediate",  # it has nothing to save, and would take its time
        )


def _read(source: Path) -> nbformat.NotebookNode:
    """A notebook that names a kernel. Raises InputError if the file is none, or a damaged one."""
    try:
        notebook = nbformat.read(source, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.reader.NotJSONError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: expected a notebook ({str(error).splitlines()[0]:.80})") from None
    except Exception as error:  # whatever nbformat stumbles over
        raise InputError(
            f"{source}: expected a notebook; its JSON is none ({str(error).splitlines()[0]:.80})"
        ) from None
    notebook.metadata.setdefault("kernelspec", {"name": KERNEL, "display_name": "Python 3", "language": "python"})
    return notebook


def to_html(notebook: nbformat.NotebookNode, page: dict[str, Any]) -> str:
    """An executed notebook as one HTML page that loads nothing. `page` is what the template's header shows."""
    from nbconvert import HTMLExporter
    from nbconvert.filters import Highlight2HTML

    exporter = HTMLExporter(
        template_name="decaylab",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
        embed_images=True,
        config={
            "NbConvertBase": {"display_data_priority": [PAGE, "text/html", "text/markdown", "image/png", "text/plain"]}
        },
    )
    exporter.register_filter("highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=exporter))
    # the exporter's own method would then parse the page and write it anew, for the sake of another template
    html, _ = super(HTMLExporter, exporter).from_notebook_node(_clean(notebook), resources={"decaylab": page})
    return html


def _clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without what papermill notes (times, absolute paths) and the cells it adds: the same results, the same page."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("papermill", None)
    hidden = {"parameters", "injected-parameters"}
    notebook.cells = [cell for cell in notebook.cells if not hidden & set(cell.metadata.get("tags", []))]
    for cell in notebook.cells:
        if GENERATED in cell.metadata.get("tags", []):
            cell.source = ""  # the same on every page
    first = notebook.cells[0] if notebook.cells else None
    if first is not None and first.cell_type == "markdown" and first.source.startswith("# "):
        first.source = first.source.partition("\n")[2].strip()  # the page's header has the title
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    return notebook


def _findings(views: list[dict[str, Any]], scale: Scale) -> str:
    """The box at the top of a report."""
    said = {"scale": scale, "findings": findings(views), "open_claims": open_claims(views)}
    return environment().get_template("findings.html.j2").render(said)


def _next(rep: Replication, root: Path, shown: list[str]) -> Replication | None:
    """The replication after this one in the list, of those that the index shows, or None."""
    names = [name for name in list_replications(root) if name in shown]
    after = names[names.index(rep.name) + 1 :]
    return load_replication(replication_file(root, after[0])) if after else None


def _navigable(html: str) -> str:
    """A page whose sections have anchors, with links to all of them near its top, and whose tables scroll."""

    def anchor(match: re.Match[str]) -> str:
        words = re.findall(r"[a-z0-9]+", re.sub(r"<[^>]+>|&[a-z]+;", "", match[1]).lower())
        return f'<h2 id="{"-".join(words)}">{match[1]}</h2>'

    html = re.sub(r"<h2>(.*?)</h2>", anchor, html, flags=re.S)
    # tables of markdown cells; all others lie in such a box already
    box = r'<div class="scroll" tabindex="0">\g<0></div>'
    html = re.sub(r'(?<!tabindex="0">)<table>.*?</table>', box, html, flags=re.S)
    found = re.findall(r'<h2 id="([^"]+)"[^>]*>(.*?)</h2>', html, re.S)
    items = "".join(f'<li><a href="#{name}">{re.sub("<[^>]+>", "", text).strip()}</a></li>' for name, text in found)
    return html.replace(CONTENTS, f'<nav class="contents" aria-label="Contents"><ul>{items}</ul></nav>', 1)


def _facts(scale: Scale, verdicts: VerdictFile | None) -> list[tuple[str, str]]:
    facts = [("Scale", scale_text(scale))]
    if verdicts:
        claims = verdicts.claims
        facts.append(("Commit", (verdicts.commit or "unknown").removesuffix("+dirty")[:12]))
        hardware = sorted({name for claim in claims for name in claim.hardware})
        facts.append(("Hardware", ", ".join(hardware) or "nothing has run"))
        counts = verdicts.counts
        facts.append(("Claims", ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"))
    return facts
