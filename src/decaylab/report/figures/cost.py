"""Predicted against measured time."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.labels import levels, value_axis
from decaylab.report.figures.style import legend, line, panels, select_columns, theme, usable
from decaylab.report.html import words
from decaylab.report.metric_names import label


def cost_scatter(runs: pd.DataFrame | None, *, hue: str = "grid") -> Chart | None:
    """Predicted against measured seconds of each run; the band holds predictions right within a factor of two."""
    runs = usable(runs, "predicted_seconds", "seconds", hue)
    if runs is None:
        return None
    import seaborn as sns

    runs = runs.drop_duplicates("run_id")
    tints = palette(levels(runs, hue), hue)
    both = pd.concat([runs["predicted_seconds"], runs["seconds"]])
    ends = np.array([both.min() / 2, both.max() * 2])
    with matplotlib.rc_context(theme()):
        figure, (axes,) = panels(1, 5.2, 4.0)
        axes.fill_between(ends, ends / 2, ends * 2, color=LIGHT["line"], alpha=0.6, linewidth=0)
        axes.plot(ends, ends, color=LIGHT["muted"], linewidth=1)
        sns.scatterplot(
            runs, x="predicted_seconds", y="seconds", hue=hue, palette=tints, alpha=0.75, legend=False, ax=axes
        )
        for which in ("x", "y"):
            value_axis(axes, "seconds", which, pd.Series([ends[0], max(ends[1], 11 * ends[0])]))
        axes.set(xlim=ends, ylim=ends, xlabel=label("predicted_seconds"), ylabel=label("seconds"))
    handles = [
        line(f"{words(name)} ({(runs[hue] == name).sum()} runs)", tints[name], marker="o", linestyle="none")
        for name in tints
    ]
    legend(figure, [*handles, Patch(color=LIGHT["line"], label="within a factor of two")])
    return Chart("cost", figure, select_columns(runs, hue, "predicted_seconds", "seconds"))
