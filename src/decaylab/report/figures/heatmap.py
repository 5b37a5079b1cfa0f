"""Heat maps of two swept parameters."""

from __future__ import annotations

import math

import matplotlib
import pandas as pd
from matplotlib.patches import Patch, Rectangle

from decaylab.report.colours import LIGHT
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.style import (
    label,
    legend,
    levels,
    panel_title,
    panels,
    select_columns,
    theme,
    tick,
    usable,
)
from decaylab.report.html import number


def grid_heatmap(
    frame: pd.DataFrame | None,
    y: str,
    *,
    rows: str,
    columns: str = "weight_decay",
    panel: str | None = None,
    best: str = "min",
) -> Chart | None:
    """Mean over seeds in each cell of two parameters, with n; the best cell is framed.

    `best` is `min` or `max`. A cell where a seed diverged says so. Colours are ranks of the cells, so that one
    bad cell does not hide the differences between the others.
    """
    frame = usable(frame, y, rows, columns, *([panel] if panel else []))
    if frame is None:
        return None
    keys = levels(frame, panel) if panel else [None]
    row_keys, column_keys = levels(frame, rows), levels(frame, columns)
    height = 0.62 * len(row_keys) + 0.9
    figure, grid = panels(len(keys), most=2)
    figure.set_size_inches(
        (0.95 * len(column_keys) + 1.3) * min(len(keys), 2), (height + 0.2) * math.ceil(len(keys) / 2)
    )
    # fixed colours, the same in both modes, with their own text colours
    import seaborn as sns  # takes long to import, and most notebooks have no heat map

    shades = sns.color_palette("crest_r" if best == "min" else "crest", as_cmap=True)
    with matplotlib.rc_context(theme()):
        for axes, key in zip(grid, keys, strict=True):
            part = frame if key is None else frame[frame[panel] == key]
            cells = part.groupby([rows, columns])[y].agg(["mean", "count"])
            diverged = part.groupby([rows, columns])["diverged"].sum() if "diverged" in part else None
            order = cells["mean"].rank(method="average") - 1
            scale = max(1, len(cells) - 1)
            winner = cells["mean"].idxmin() if best == "min" else cells["mean"].idxmax()
            for (row, column), cell in cells.iterrows():
                place = (column_keys.index(column), row_keys.index(row))
                colour = shades(float(order[row, column]) / scale)
                axes.add_patch(Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, facecolor=colour, edgecolor="none"))
                dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 0.55
                ink = "#fffffd" if dark else "#10151b"
                bad = int(diverged[row, column]) if diverged is not None else 0
                lines = f"n = {cell['count']:.0f}" + (f"\n{bad} diverged" if bad else "")
                axes.text(*place, number(cell["mean"], 4), ha="center", va="bottom", color=ink, fontsize=9.5)
                axes.text(*place, lines, ha="center", va="top", color=ink, fontsize=7)
            frame_at = (column_keys.index(winner[1]) - 0.48, row_keys.index(winner[0]) - 0.48)
            axes.add_patch(Rectangle(frame_at, 0.96, 0.96, fill=False, edgecolor=LIGHT["other1"], linewidth=2.6))
            axes.set_xlim(-0.5, len(column_keys) - 0.5)
            axes.set_ylim(len(row_keys) - 0.5, -0.5)
            axes.set_xticks(range(len(column_keys)), [tick(item) for item in column_keys])
            axes.set_yticks(range(len(row_keys)), [tick(item) for item in row_keys])
            axes.grid(visible=False)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set_xlabel(label(columns))
            axes.set_ylabel(label(rows))
            if key is None:
                axes.set_title(label(y))
            else:
                panel_title(axes, panel, key, width=24)
    box = Patch(fill=False, edgecolor=LIGHT["other1"], linewidth=2, label=f"best cell ({label(y)}, mean over seeds)")
    legend(figure, [box])
    return Chart("heat-map", figure, select_columns(frame, panel, rows, columns, y, "diverged"))
