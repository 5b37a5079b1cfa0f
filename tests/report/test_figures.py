import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.report import colours, figures
from decaylab.report.figures import labels


@pytest.fixture
def curves():
    rows = [
        {
            "run_id": f"{rate}-{decay}-{seed}",
            "seed": seed,
            "learning_rate": rate,
            "weight_decay": decay,
            "step": step,
            "fraction": step / 10,
            "metric": metric,
            "value": 1 / (1 + step) + 0.1 * decay + 0.01 * seed,
        }
        for metric in ("test_error", "ema_test_error", "weight_norm")
        for rate in ("large", "small")
        for decay in (0, 0.1, 0.3)
        for seed in (0, 1, 2)
        for step in range(11)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def finals():
    rows = [
        {
            "run_id": f"{grid}-{rate}-{decay}-{seed}",
            "grid": grid,
            "learning_rate": rate,
            "weight_decay": decay,
            "seed": seed,
            "test_error": 0.2 - 0.1 * decay + 0.001 * seed * (1 + decay),
            "diverged": int(rate == "small" and seed == 2),
            "predicted_seconds": 10.0,
            "seconds": 12.0 + seed,
            "start_at": 0.5,
        }
        for grid in ("net", "other_net")
        for rate in ("large", "small")
        for decay in (0, 0.1, 0.3)
        for seed in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


CLAIM = {
    "claim": "decay-helps",
    "verdict": "reproduced",
    "estimate": -0.03,
    "interval": [-0.04, -0.02],
    "n": 3,
    "unit": "test error (fraction)",
    "direction": "below",
    "smallest_effect": 0.005,
    "source_value": {"value": -0.042, "text": "14.6 -> 10.4 %"},
}


def drawn(curves, finals) -> dict[str, figures.Chart]:
    gains = figures.differences(finals, "test_error", arm="weight_decay", reference=0, by=["grid", "learning_rate"])
    return {
        "training_curves": figures.training_curves(curves, dash="learning_rate", drop=5),
        "difference_curves": figures.difference_curves(
            curves[curves["learning_rate"] == "large"], smallest_effect=0.01
        ),
        "final_values": figures.final_values(finals, "test_error", hue="learning_rate", panel="grid", chance=0.9),
        "grid_heatmap": figures.grid_heatmap(finals, "test_error", rows="learning_rate", panel="grid"),
        "paired_differences": figures.paired_differences(
            finals[finals["learning_rate"] == "large"], "test_error", smallest_effect=0.005, panel="grid"
        ),
        "claims_forest": figures.claims_forest([CLAIM, CLAIM | {"direction": "within", "verdict": "inconclusive"}]),
        "loss_vs_snapshot": figures.loss_vs_snapshot(
            curves[(curves["metric"] == "test_error") & (curves["learning_rate"] == "large")], finals, "test_error"
        ),
        "seed_noise": figures.seed_noise(gains, finals, arm="weight_decay", kind="grid", value="test_error"),
        "cost_scatter": figures.cost_scatter(finals),
    }


def test_every_figure_has_labelled_axes_and_a_legend(curves, finals):
    for name, chart in drawn(curves, finals).items():
        figure = chart.figure
        assert figure.axes, name
        for axes in figure.axes:
            assert axes.get_xlabel() or axes.get_title(loc="left") or axes.get_label() == "<colorbar>", name
            assert axes.get_ylabel() or name in ("claims_forest", "seed_noise", "paired_differences"), name
        assert [text.get_text() for legend in figure.legends for text in legend.get_texts()], name


def test_every_figure_says_what_it_shows_without_being_seen(curves, finals):
    for name, chart in drawn(curves, finals).items():
        text = figures.svg(chart.figure)
        assert text.count('role="img"') == 1, name
        assert 'aria-label="Chart. ' in text, name
        assert "http" not in text, name
        assert figures.png(chart.figure).startswith(b"\x89PNG"), name


def test_every_figure_keeps_its_data_and_knows_its_runs(curves, finals):
    for name, chart in drawn(curves, finals).items():
        assert len(chart.data), name
        if name == "claims_forest":
            assert list(chart.data["claim"]) == ["decay-helps"] * 2
            assert list(chart.data["low"]) == [-0.04, -0.04]
        else:
            assert set(chart.data["run_id"]) <= set(chart.run_ids), name
            assert chart.run_ids, name
    # both runs of a pair are behind its difference
    chart = figures.paired_differences(finals[finals["grid"] == "net"], "test_error", panel="learning_rate")
    assert len(chart.run_ids) == 18
    assert not chart.data["difference"].isna().any()


def test_the_texts_of_a_figure_stay_texts(finals):
    assert ">mean over seeds (3 seeds)</text>" in figures.svg(figures.final_values(finals, "test_error").figure)


def test_a_figure_is_deterministic_and_has_the_colours_of_its_page(finals):
    text, again = (
        figures.svg(figures.final_values(finals, "test_error", hue="learning_rate").figure) for _ in range(2)
    )
    assert text == again
    assert "var(--ink,#1c2128)" in text
    assert f": {colours.LIGHT['ink']}" not in text


@pytest.mark.parametrize("frame", [None, pd.DataFrame(), pd.DataFrame({"weight_decay": [0], "seed": [0]})])
def test_what_cannot_be_drawn_is_said(frame):
    results = [
        figures.training_curves(frame),
        figures.difference_curves(frame),
        figures.final_values(frame, "test_error"),
        figures.grid_heatmap(frame, "test_error", rows="learning_rate"),
        figures.paired_differences(frame, "test_error"),
        figures.loss_vs_snapshot(frame, frame),
        figures.seed_noise(frame, frame),
        figures.cost_scatter(frame),
        figures.claims_forest([CLAIM | {"estimate": None, "interval": None}]),
    ]
    assert results == [None] * len(results)


def test_legends_count_seeds_and_name_units(curves, finals):
    figure = figures.training_curves(curves, dash="learning_rate").figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["large learning rate, no decay (3 seeds)", "large learning rate, decay 0.1 (3 seeds)"]
    assert len(set(texts)) == len(texts)
    assert figure.axes[0].get_ylabel() == "test error"
    assert figure.axes[0].yaxis.get_major_formatter()(0.125) == "12.5 %"
    numbered = curves.assign(peak_learning_rate=curves["learning_rate"].map({"large": 0.3, "small": 0.01}))
    figure = figures.training_curves(numbered, dash="learning_rate").figure
    assert figure.legends[0].get_texts()[1].get_text() == "learning rate 0.3, decay 0.1 (3 seeds)"
    uneven = finals[(finals["weight_decay"] > 0) | (finals["seed"] == 0)]
    texts = [t.get_text() for t in figures.final_values(uneven, "test_error").figure.legends[0].get_texts()]
    assert texts == ["mean over seeds (1 to 3 seeds)"]


def test_a_diverged_run_ends_with_a_cross_and_leaves_the_mean(curves):
    short = curves[(curves["run_id"] != "large-0-2") | (curves["step"] <= 4)]
    part = short[(short["learning_rate"] == "large") & (short["metric"] == "test_error")]
    figure = figures.training_curves(part).figure
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert [list(line.get_xdata()) for line in crosses] == [[4]]
    mean = next(
        line for line in figure.axes[0].lines if line.get_color() == colours.LIGHT["none"] and len(line.get_xdata()) > 1
    )
    assert max(mean.get_xdata()) == 4


def test_the_best_cell_is_framed(finals):
    figure = figures.grid_heatmap(finals[finals["grid"] == "net"], "test_error", rows="learning_rate").figure
    framed = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert [(patch.get_x(), patch.get_y()) for patch in framed] == [(2 + 0.03, 0 + 0.03)]
    assert any("1 diverged" in text.get_text() for text in figure.axes[0].texts)


def test_differences_are_paired_by_seed(finals):
    part = finals[(finals["grid"] == "net") & (finals["learning_rate"] == "large")]
    paired = figures.differences(part, "test_error", arm="weight_decay", reference=0)
    third = paired[(paired["weight_decay"] == 0.3) & (paired["seed"] == 2)]["difference"].item()
    assert third == pytest.approx(-0.03 + 0.001 * 2 * 0.3)
    missing = figures.differences(part[part["seed"] > 0], "test_error", arm="weight_decay", reference=0)
    assert set(missing["seed"]) == {1, 2}


def test_best_trials_are_chosen_on_seeds_that_are_not_shown():
    losses = {("a", "low"): [1, 1, 1, 9], ("a", "high"): [2, 2, 2, 0], ("b", "low"): [3, 3, 3, 5]}
    rows = [
        {"run_id": f"{arm}{trial}{seed}", "strategy": arm, "trial": trial, "seed": 7 - seed, "validation_loss": loss}
        for (arm, trial), values in losses.items()
        for seed, loss in enumerate(values)
    ]
    best = figures.best_trials(pd.DataFrame(rows), "validation_loss", by="strategy")
    assert best["run_id"].to_list() == ["alow3", "blow3"]
    assert figures.best_trials(pd.DataFrame(rows), "test_loss", by="strategy").empty


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=6, unique=True))
def test_decay_colours_deepen_and_none_is_grey(levels):
    tints = colours.palette([*levels, 0])
    brightness = [sum(int(tints[level][i : i + 2], 16) for i in (1, 3, 5)) for level in sorted(levels)]
    assert brightness == sorted(brightness, reverse=True)
    assert len(set(brightness)) == len(levels)
    assert tints[0] == colours.LIGHT["none"]


def test_labels_of_decay_are_understood():
    assert colours.palette(["decay", "none"])["none"] == colours.LIGHT["none"]
    assert colours.ordered(["decay", "none"]) == ["none", "decay"]


def test_the_band_of_a_curve_spans_the_seeds_and_never_leaves_the_values(curves):
    chart = figures.training_curves(curves[(curves["metric"] == "test_error") & (curves["learning_rate"] == "large")])
    band = chart.figure.axes[0].collections[0].get_paths()[0].vertices
    drawn = chart.data[chart.data["weight_decay"] == 0]
    at_end = band[band[:, 0] == 10][:, 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((1 / 11, 1 / 11 + 0.02))
    assert band[:, 1].min() >= drawn["value"].min()


def test_a_loss_over_decades_has_a_log_axis_with_plain_numbers(curves):
    falling = curves.assign(metric="train_loss", value=10.0 ** -curves["step"])
    axes = figures.training_curves(falling, late=0.1).figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.yaxis.get_major_formatter()(0.001) == "0.001"
    assert figures.training_curves(curves, late=0.1).figure.axes[0].get_yscale() == "linear"


def test_differences_say_which_side_is_better(finals):
    part = finals[finals["learning_rate"] == "large"]
    axes = figures.paired_differences(part, "test_error", panel="grid").figure.axes[0]
    assert "\u2190 better" in axes.get_xlabel()
    assert "percentage points" in axes.get_xlabel()
    rows = figures.paired_differences(part[part["weight_decay"] < 0.3], "test_error", panel="grid").figure.axes
    assert [text.get_text() for text in rows[0].get_yticklabels()] == ["net", "other net"]
    norms = finals.rename(columns={"test_error": "weight_norm"})
    assert "better" not in figures.paired_differences(norms, "weight_norm").figure.axes[0].get_xlabel()


def test_a_scale_that_multiplies_the_sources_decay_says_what_it_ran(finals):
    """An axis keeps the source's numbers as labels where a scale multiplies them."""
    part = finals[finals["learning_rate"] == "large"].assign(decay_coefficient=lambda frame: 10 * frame["weight_decay"])
    assert labels.level_text("weight_decay", 0.1, part) == "decay 1 (source 0.1)"
    assert labels.level_text("weight_decay", 0, part) == "no decay"
    figure = figures.final_values(part, "test_error", panel="grid").figure
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["0", "1\n(source\n0.1)", "3\n(source\n0.3)"]
    rows = figures.paired_differences(part[part["grid"] == "net"], "test_error").figure.axes[0].get_yticklabels()
    assert [text.get_text() for text in rows] == ["decay 1 (source 0.1)", "decay 3 (source 0.3)"]


def test_words_of_a_label_stay_whole():
    assert labels.tick("initialisation_only", 10) == "initialisation\nonly"


def test_verdicts_are_told_apart_with_any_colour_vision():
    """CIE76 differences after the simulation of Machado et al. 2009 (severity 1), in both modes."""
    seen = {
        "normal": np.eye(3),
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
    }

    def lab(colour, matrix):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.clip(np.array(matrix) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
        to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
        xyz = np.array(to_xyz) @ linear / [0.95047, 1, 1.08883]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    for name, matrix in seen.items():
        for side in (0, 1):
            tints = [lab(colours.COLOURS[verdict][side], matrix) for verdict in
                     ("reproduced", "contradicted", "negligible", "inconclusive")]  # fmt: skip
            closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(tints, 2))
            assert closest > 20, (name, side, closest)


def test_of_axes_that_share_a_scale_the_lowest_have_the_numbers(finals):
    frames = [finals[finals["grid"] == "net"].assign(panel=rank) for rank in range(5)]
    for count, lowest in ((4, [2, 3]), (5, [2, 3, 4])):
        frame = pd.concat(frames[:count])
        chart = figures.paired_differences(frame, "test_error", panel="panel", reference=0)
        shown = [axes.xaxis.get_tick_params()["labelbottom"] for axes in chart.figure.axes]
        assert [rank for rank, visible in enumerate(shown) if visible] == lowest
        assert [rank for rank, axes in enumerate(chart.figure.axes) if axes.xaxis.label.get_visible()] == lowest


def test_copies_with_one_learning_rate_are_told_apart_by_that_of_their_path():
    copies = pd.DataFrame({"learning_rate": ["high", "low"], "peak_learning_rate": [0.03, 0.03]})
    assert labels.level_text("learning_rate", "high", copies) == "high learning rate"


@pytest.mark.parametrize(
    ("name", "level", "text"),
    [("epochs", 1, "1 epoch"), ("epochs", 16, "16 epochs"), ("dropout", "without", "without dropout"),
     ("run", "linear", "linear"), ("size", "one_pass", "size: one pass")],
)  # fmt: skip
def test_levels_read_as_words(name, level, text):
    assert labels.level_text(name, level) == text


def test_more_arms_than_colours_have_one_colour(finals):
    frame = pd.concat(finals.assign(rank=rank) for rank in range(9))
    axes = figures.final_values(frame, "test_error", x="rank").figure.axes[0]
    assert len({tuple(dots.get_facecolor()[0]) for dots in axes.collections if len(dots.get_offsets())}) == 1


def test_a_wide_row_of_heat_maps_is_broken(finals):
    frame = pd.concat(finals.assign(columns=rank, panel=rank % 2) for rank in range(14))
    figure = figures.grid_heatmap(frame, "test_error", rows="learning_rate", columns="columns", panel="panel").figure
    assert figure.get_size_inches()[0] <= 13


def test_a_cell_that_diverged_is_not_the_best(finals):
    finals.loc[finals["weight_decay"] == 0.3, ["test_error", "diverged"]] = 0.0, 1
    finals.loc[finals["weight_decay"] != 0.3, "diverged"] = 0
    axes = figures.grid_heatmap(finals, "test_error", rows="learning_rate").figure.axes[0]
    (frame,) = axes.patches
    assert round(frame.get_x() - 0.03) == 1  # 0, 0.1, 0.3


def test_labels_of_decay_follow_their_numbers():
    frame = pd.DataFrame({"weight_decay": ["1/8", "1", "1/16", "0"], "decay_coefficient": [0.125, 1, 0.0625, 0]})
    assert labels.levels(frame, "weight_decay") == ["0", "1/16", "1/8", "1"]
    assert colours.palette(["0", "1/16"])["0"] == colours.LIGHT["none"]


def test_a_long_legend_leaves_the_panels_their_height(finals):
    short = figures.final_values(finals, "test_error", x="grid", hue="weight_decay").figure
    frame = pd.concat(finals.assign(weight_decay=finals["weight_decay"] + rank) for rank in range(4))
    long = figures.final_values(frame, "test_error", x="grid", hue="weight_decay").figure
    heights = []
    for figure in (short, long):
        figures.svg(figure)
        heights.append(figure.axes[0].get_position().height * figure.get_size_inches()[1])
    assert heights[1] > 0.9 * heights[0]


def test_interval_is_students():
    mean, low, high = figures.interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == pytest.approx((2, 4.302653 / math.sqrt(3)))
    assert low == pytest.approx(2 * mean - high)
    assert figures.interval([5.0]) == (5, 5, 5)


def test_long_curves_are_thinned(curves):
    long = pd.DataFrame({"run_id": "a", "seed": 0, "weight_decay": 0, "metric": "train_loss", "step": np.arange(5000)})
    figure = figures.training_curves(long.assign(value=1.0, fraction=long["step"] / 5000)).figure
    steps = figure.axes[0].lines[0].get_xdata()
    assert len(steps) <= figures.MOST_POINTS
    assert (steps[0], steps[-1]) == (0, 4999)


def test_several_metrics_in_one_panel_are_told_apart():
    """One metric of several matrices is named by the matrix, two metrics of one group by what they are."""
    matrices = pd.DataFrame({"metric": ["lost_updates.mlp", "lost_updates.attention"]})
    assert labels.level_text("metric", "lost_updates.mlp", matrices) == "mlp"
    metrics = pd.DataFrame({"metric": ["lost_updates.mlp", "weight_norm.mlp"]})
    assert labels.level_text("metric", "lost_updates.mlp", metrics) == "share of updates lost to rounding, mlp"
