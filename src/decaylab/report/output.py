"""What a notebook's cell shows: on our pages with everything that belongs to it, elsewhere as a picture or as text."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from decaylab.files import atomic_path
from decaylab.report.html import Html, link, note

if TYPE_CHECKING:
    from decaylab.report.figures import Chart
    from decaylab.report.load import Report

PAGE = "application/vnd.decaylab.page"
"""MIME type of HTML for our own pages. JupyterLab and GitHub ignore it, and take the PNG."""


class Figure:
    """One figure with its caption, the experiment behind it and a link to its data."""

    def __init__(self, html: Html, chart: Chart, caption: str) -> None:
        self.html = html
        self.chart = chart
        self.caption = caption

    def bundles(self) -> list[dict[str, str]]:
        """What a cell shows: on our page the first, elsewhere a picture and its caption."""
        from decaylab.report.figures import describe, png

        figure = self.chart.figure
        picture = base64.b64encode(png(figure)).decode()
        return [
            {PAGE: self.html, "image/png": picture, "text/plain": describe(figure)},
            {PAGE: "", "text/markdown": self.caption, "text/plain": self.caption},
        ]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for bundle in self.bundles():
            display(bundle, raw=True)


def show(report: Report, chart: Chart | None, caption: str) -> Figure | Html:
    """The figure with its caption and where it comes from, or a line that says what is missing (chart is None).

    The data go to reports/<scale>/data/<replication>-<kind of figure>.csv, numbered where a notebook has several of
    a kind.
    """
    if chart is None:
        return note(f"No run at this scale has what this figure needs: {caption}")
    from decaylab.report.figures import svg

    name, caption = report.figure_name(chart.kind, caption), caption.replace(" x ", " \u00d7 ")
    path = report.workspace.layout.report(report.scale, report.name).parent / "data" / f"{report.name}-{name}.csv"
    with atomic_path(path) as temporary:
        texts = chart.data.select_dtypes(exclude=["number", "bool"])
        safe = chart.data.assign(**{column: texts[column].map(_no_formula) for column in texts})
        safe.to_csv(temporary, index=False, float_format="%.7g")
    html = (
        f'<figure id="figure-{name}"><div class="scroll" tabindex="0">{svg(chart.figure)}</div>'
        f"<figcaption>{escape(caption)}{_origin(report, chart, path.name)}</figcaption></figure>"
    )
    return Figure(Html(html), chart, caption)


def _no_formula(value: Any) -> Any:
    """A cell that a spreadsheet takes for text: it would run one that begins with = or the like as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _origin(report: Report, chart: Chart, data: str) -> Html:
    """The line below a figure: grids or claims with their lines in replication.yaml, the data, the runs."""
    if "claim" in chart.data:
        what, named = "Claims", {claim: claim for claim in chart.data["claim"]}
        lines = report.claim_lines
        runs = [run_id for claim in report.claims for run_id in claim["run_ids"]]
    else:
        what, runs = "Runs of", chart.run_ids
        grids = chart.data["grid"].unique() if "grid" in chart.data else report.grids_of(runs)
        named, lines = {name: report.grids[name] for name in grids}, report.grid_lines
    runs = [run_id for run_id in dict.fromkeys(runs) if run_id in report.results.runs]
    places = "; ".join(
        f"{escape(text)}, {link(f'line {lines[name]}', f'{report.yaml_page}#L{lines[name]}')}"
        for name, text in named.items()
    )
    of = f"{what} {places} of replication.yaml. " if places else ""
    return Html(f'<span class="origin">{of}{link("Data (CSV)", f"data/{data}")}</span>{_runs(runs)}')


def _runs(run_ids: Iterable[str]) -> str:
    items = "".join(f"<li>{link(run_id, f'runs/{run_id}.html')}</li>" for run_id in run_ids)
    count = items.count("<li>")
    if not count:
        return ""
    return f'<details class="runs"><summary>{count} run{"s" if count != 1 else ""}</summary><ul>{items}</ul></details>'
