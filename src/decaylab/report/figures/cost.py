"""Predicted against measured time."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from decaylab.report.colours import LIGHT, palette
from decaylab.report.figures.chart import Chart
from decaylab.report.figures.style import label, legend, levels, line, panels, theme, usable
from decaylab.report.html import words


def cost_scatter(runs: pd.DataFrame | None, *, hue: str = "grid") -> Chart | None:
    """Predicted against measured seconds of each run; the band holds predictions right within a factor of two."""
    runs = usable(runs, "predicted_seconds", "seconds", hue)
    if runs is None:
        return None
    runs = runs.drop_duplicates("run_id")
    tints = palette(levels(runs, hue), hue)
    figure, (axes,) = panels(1)
    figure.set_size_inches(5.2, 4.4)
    with matplotlib.rc_context(theme()):
        both = pd.concat([runs["predicted_seconds"], runs["seconds"]])
        ends = np.array([both.min() / 2, both.max() * 2])
        axes.fill_between(ends, ends / 2, ends * 2, color=LIGHT["line"], alpha=0.6, linewidth=0)
        axes.plot(ends, ends, color=LIGHT["muted"], linewidth=1)
        for name, part in runs.groupby(hue, sort=False):
            axes.plot(part["predicted_seconds"], part["seconds"], "o", color=tints[name], markersize=5, alpha=0.75)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_xlabel(label("predicted_seconds"))
        axes.set_ylabel(label("seconds"))
    handles = [
        line(f"{words(name)} ({(runs[hue] == name).sum()} runs)", tints[name], marker="o", linestyle="none")
        for name in tints
    ]
    legend(figure, [*handles, Patch(color=LIGHT["line"], label="within a factor of two")])
    return Chart("cost", figure, runs[["run_id", hue, "seed", "predicted_seconds", "seconds"]])
