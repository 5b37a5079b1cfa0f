import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.report import colours, figures


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
        "training_curves": figures.training_curves(curves, dash="learning_rate", drop=5, averaged=True),
        "difference_curves": figures.difference_curves(curves[curves["learning_rate"] == "large"], zero=0.01),
        "norm_curves": figures.norm_curves(curves[curves["metric"] == "weight_norm"]),
        "lost_updates_curves": figures.lost_updates_curves(
            curves[curves["metric"] == "weight_norm"].assign(metric="lost_updates", precision="float32")
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
            assert axes.get_xlabel() or axes.get_title(loc="left"), name
            assert axes.get_ylabel() or name in ("claims_forest", "seed_noise"), name
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
    assert ">mean and 95 % interval (3 seeds)</text>" in figures.svg(figures.final_values(finals, "test_error").figure)


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
        figures.norm_curves(frame),
        figures.lost_updates_curves(frame),
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
    assert texts[:3] == ["weight decay 0 (3 seeds)", "weight decay 0.1 (3 seeds)", "weight decay 0.3 (3 seeds)"]
    assert figure.axes[0].get_ylabel() == "test error (fraction)"
    uneven = finals[(finals["weight_decay"] > 0) | (finals["seed"] == 0)]
    texts = [t.get_text() for t in figures.final_values(uneven, "test_error").figure.legends[0].get_texts()]
    assert texts == ["mean and 95 % interval (1 to 3 seeds)"]


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
    assert [(patch.get_x(), patch.get_y()) for patch in framed] == [(2 - 0.48, 0 - 0.48)]
    assert any("1 diverged" in text.get_text() for text in figure.axes[0].texts)


def test_differences_are_paired_by_seed(finals):
    part = finals[(finals["grid"] == "net") & (finals["learning_rate"] == "large")]
    paired = figures.differences(part, "test_error", arm="weight_decay", reference=0)
    third = paired[(paired["weight_decay"] == 0.3) & (paired["seed"] == 2)]["difference"].item()
    assert third == pytest.approx(-0.03 + 0.001 * 2 * 0.3)
    missing = figures.differences(part[part["seed"] > 0], "test_error", arm="weight_decay", reference=0)
    assert set(missing["seed"]) == {1, 2}


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
