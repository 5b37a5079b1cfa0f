"""Heat maps of two swept parameters."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from decaylab.report.colours import LIGHT
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.labels import fixed, level_tick, levels, percent, wrap
from decaylab.report.figures.style import legend, panel_title, panels, select_columns, theme, usable
from decaylab.report.metric_names import is_share, label, lower_is_better

WIDEST = 13.0
"""inches of a figure whose numbers can still be read on a page"""


def grid_heatmap(
    frame: pd.DataFrame | None,
    y: str,
    *,
    rows: str,
    columns: str = "weight_decay",
    panel: str | None = None,
    best: str = "min",
) -> Chart | None:
    """Mean over seeds in each cell of two parameters, with n; the best cell of each panel is framed.

    Args:
        best: `min` or `max`. A cell in which a seed diverged says so. The scale of colours ends at three times the
            distance between the best cell and the median one, so that a bad cell does not hide the other differences.
    """
    frame = usable(frame, y, rows, columns, *([panel] if panel else []))
    if frame is None:
        return None
    keys = levels(frame, panel) if panel else [None]
    parts = [frame if key is None else frame[frame[panel] == key] for key in keys]
    most_rows = max(part[rows].nunique() for part in parts)
    most_columns = max(part[columns].nunique() for part in parts)
    with matplotlib.rc_context(theme()):
        width = 0.85 * most_columns + 2.0
        figure, grid = panels(len(keys), width, 0.62 * most_rows + 1.1, most=max(1, min(3, int(WIDEST / width))))
        for axes, key, part in zip(grid, keys, parts, strict=True):
            _cells(axes, part, y, rows, columns, best)
            if key is not None:
                panel_title(axes, panel, key, width=round(10 * (0.85 * most_columns + 1.2)))
    name = "best cell" if lower_is_better(y) or best == "max" else "lowest cell"
    box = Patch(fill=False, edgecolor=LIGHT["other1"], linewidth=2, label=name)
    legend(figure, [box])
    return Chart("heat-map", figure, select_columns(frame, panel, rows, columns, y, "diverged"))


def _cells(axes: Axes, part: pd.DataFrame, y: str, rows: str, columns: str, best: str) -> None:
    import seaborn as sns  # a second to import, which most processes need not wait for

    row_keys, column_keys = levels(part, rows), levels(part, columns)
    groups = part.groupby([rows, columns])
    cells = groups[y].agg(["mean", "count"])
    cells["text"] = fixed(cells["mean"], y)
    cells["text"] += "\nn = " + cells["count"].astype(str)
    if "diverged" in part:
        diverged = groups["diverged"].sum().astype(int)
        cells["text"] += diverged.map(lambda count: f"\n{count} diverged" if count else "")

    def pivot(name: str) -> pd.DataFrame:
        return cells[name].unstack(columns).reindex(index=row_keys, columns=column_keys)

    lowest, highest = _limits(cells["mean"], best)
    sns.heatmap(
        pivot("mean").astype(float), annot=pivot("text").fillna(""), fmt="", annot_kws={"fontsize": 8}, ax=axes,
        cmap="crest_r" if best == "min" else "crest", vmin=lowest, vmax=highest, linewidths=1, linecolor="white",
        cbar_kws={"extend": _extend(cells["mean"], lowest, highest), "aspect": 12,
                  "format": percent if is_share(y) else None},
    )  # fmt: skip
    bar = axes.collections[0].colorbar
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_label(wrap(label(y), 6 + 8 * len(row_keys)))
    trained = cells.index  # a cell that diverged is not the best, whatever its number
    if "diverged" in part and not (groups["diverged"].sum() > 0).all():
        trained = cells.index[groups["diverged"].sum() == 0]
    means = cells.loc[trained, "mean"]
    winner = means.idxmin() if best == "min" else means.idxmax()
    place = (column_keys.index(winner[1]) + 0.03, row_keys.index(winner[0]) + 0.03)
    axes.add_patch(Rectangle(place, 0.94, 0.94, fill=False, edgecolor=LIGHT["other1"], linewidth=2.6))
    axes.set_xticks(
        [index + 0.5 for index in range(len(column_keys))], [level_tick(columns, item, part) for item in column_keys]
    )
    axes.set_yticks(
        [index + 0.5 for index in range(len(row_keys))], [level_tick(rows, item, part) for item in row_keys], rotation=0
    )
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set(xlabel=label(columns), ylabel=label(rows))


def _limits(means: pd.Series, best: str) -> tuple[float, float]:
    """Ends of the colour scale."""
    sign = 1 if best == "min" else -1
    values = sign * means
    end = min(values.max(), values.min() + 3 * (values.median() - values.min()))
    if math.isclose(end, values.min()):
        end = values.max()
    return tuple(sorted((float(sign * values.min()), float(sign * end))))


def _extend(means: pd.Series, lowest: float, highest: float) -> Any:
    """Which end of the colour bar has cells beyond it."""
    return "max" if means.max() > highest else "min" if means.min() < lowest else "neither"
