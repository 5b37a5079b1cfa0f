"""One function for each kind of figure that a reader of the papers recognises.

All take tidy frames, as `Report` gives them, and return a `Chart` (the figure and its data), or None where the frame
has nothing to draw; `Report.show` puts either on a page. Arms are shown as their seeds: mean and range, or dots.
Differences are seed-paired and have 95 % Student intervals. Nothing is random: no bootstrap, no jitter.
"""

from decaylab.report.figures.chart import Chart
from decaylab.report.figures.cost import cost_scatter
from decaylab.report.figures.curves import (
    difference_curves,
    loss_vs_snapshot,
    training_curves,
)
from decaylab.report.figures.finals import best_trials, differences, final_values, paired_differences, seed_noise
from decaylab.report.figures.forest import claims_forest
from decaylab.report.figures.heatmap import grid_heatmap
from decaylab.report.figures.labels import levels
from decaylab.report.figures.lines import MOST_POINTS
from decaylab.report.figures.style import interval
from decaylab.report.figures.svg import describe, png, svg
from decaylab.report.metric_names import label

__all__ = [
    "MOST_POINTS",
    "Chart",
    "best_trials",
    "claims_forest",
    "cost_scatter",
    "describe",
    "difference_curves",
    "differences",
    "final_values",
    "grid_heatmap",
    "interval",
    "label",
    "levels",
    "loss_vs_snapshot",
    "paired_differences",
    "png",
    "seed_noise",
    "svg",
    "training_curves",
]
