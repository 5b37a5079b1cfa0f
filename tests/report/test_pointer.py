"""Curves say which arm each of their lines belongs to, and answer the pointer."""

import html
import json
import re

import pandas as pd
import pytest

from decaylab.report import figures
from decaylab.report.html import TEMPLATES, style
from decaylab.report.run_pages import line_chart

STEPS = range(0, 101, 10)


def value(metric, rate, decay, seed, step):
    base = 0.2 if metric == "test_error" else 100 / (1 + step) ** 2
    return base + (0.1 if rate == "large" else 0) + decay + 0.01 * (seed - 1)


@pytest.fixture
def curves():
    rows = [
        {"run_id": f"{rate}-{decay}-{seed}", "seed": seed, "learning_rate": rate, "weight_decay": decay, "step": step,
         "fraction": step / 100, "metric": metric, "value": value(metric, rate, decay, seed, step)}
        for metric in ("test_error", "train_loss")
        for rate in ("large", "small")
        for decay in (0, 0.1)
        for seed in (0, 1, 2)
        for step in STEPS
        if (rate, decay) != ("small", 0)  # an arm that does not exist
    ]  # fmt: skip
    return pd.DataFrame(rows)


def attribute(svg, name):
    return json.loads(html.unescape(re.search(rf'{name}="([^"]*)"', svg)[1]))


def test_an_svg_says_where_its_panels_and_arms_are(curves):
    svg = figures.svg(figures.training_curves(curves, dash="learning_rate").figure)
    error, loss = attribute(svg, "data-panels")
    assert (error["label"], error["unit"], error["axis"]) == ("test error", " %", "step")
    assert (loss["label"], loss["unit"], loss["y"][2]) == ("training loss (nats)", "", 1)  # a log axis
    left, top, right, bottom = error["box"]
    assert 0 < left < right < loss["box"][0]
    assert 0 < top < bottom
    assert attribute(svg, "data-arms") == [
        "large learning rate, no decay (3 seeds)",
        "large learning rate, decay 0.1 (3 seeds)",
        "small learning rate, decay 0.1 (3 seeds)",
    ]
    panels = svg.split("<g data-panel=")[1:]
    assert len(panels) == 2
    for text in panels:
        assert sorted(re.findall(r'<g data-arm="(\d)" data-mean>', text)) == ["0", "1", "2"]
    # each arm: a mean and a band in each panel, a line and a text in the legend
    assert [len(re.findall(rf'data-arm="{rank}"', svg)) for rank in range(3)] == [6, 6, 6]


def height(svg, panel, arm):
    """y of the right end of a mean, as a value of its axis."""
    text = svg.split("<g data-panel=")[1 + panel].split(f'data-arm="{arm}" data-mean>')[1]
    end = float(re.findall(r"[\d.]+", re.search(r' d="([^"]*)"', text)[1])[-1])
    place = attribute(svg, "data-panels")[panel]
    (_, top, _, bottom), (low, high, log) = place["box"], place["y"]
    part = (bottom - end) / (bottom - top)
    return low * (high / low) ** part if log else low + (high - low) * part


def test_lines_belong_to_the_arms_they_are_marked_with(curves):
    svg = figures.svg(figures.training_curves(curves, dash="learning_rate").figure)
    for arm, (rate, decay) in enumerate([("large", 0), ("large", 0.1), ("small", 0.1)]):
        for panel, metric in enumerate(("test_error", "train_loss")):
            assert height(svg, panel, arm) == pytest.approx(value(metric, rate, decay, 1, 100), rel=0.01)


def test_other_curves_are_marked_and_other_figures_are_not(curves):
    large = curves[curves["learning_rate"] == "large"]
    difference = figures.svg(figures.difference_curves(large).figure)
    assert attribute(difference, "data-arms") == ["decay 0.1 (3 seeds)"]
    assert attribute(difference, "data-panels")[0]["unit"] == " points"
    loss = large[large["metric"] == "train_loss"]
    tuned = loss[loss["step"] == 100].assign(start_at=0.5).rename(columns={"value": "train_loss"})
    snapshots = figures.svg(figures.loss_vs_snapshot(loss, tuned).figure)
    assert len(attribute(snapshots, "data-arms")) == 2
    assert attribute(snapshots, "data-panels")[0]["axis"] == "fraction of the run"
    runs = pd.DataFrame({"seconds": [1.0, 2.0], "predicted_seconds": [1.5, 2.0], "run_id": ["a", "b"], "grid": "g"})
    assert "data-panels" not in figures.svg(figures.cost_scatter(runs).figure)


def test_the_running_loss_lies_behind_the_loss_that_it_belongs_to(curves):
    running = curves[curves["metric"] == "train_loss"].assign(metric="batch_loss")
    running = pd.concat([running, running.assign(step=running["step"] + 5)])
    chart = figures.training_curves(pd.concat([curves, running]), dash="learning_rate")
    assert len(chart.figure.axes) == 2  # no panel of its own
    thin = [len([line for line in axes.lines if line.get_linewidth() < 1]) for axes in chart.figure.axes]
    assert thin == [0, 3]
    assert "running loss of one seed" in [text.get_text() for text in chart.figure.legends[0].get_texts()]
    assert set(chart.data["metric"]) == {"test_error", "train_loss", "batch_loss"}
    alone = figures.training_curves(running)  # nothing to lie behind
    assert [axes.get_ylabel() for axes in alone.figure.axes] == ["running training loss (nats)"]


def test_a_runs_page_draws_its_running_loss():
    metrics = pd.DataFrame(
        {"step": [0, 1, 2, 3, 4], "train_loss": [2, None, 1, None, 0.5], "batch_loss": [3, 2, 1, 1, 1]}
    )
    text = line_chart(metrics, "train_loss", "batch_loss")
    assert text.count("<polyline") == 2
    assert 'data-x="0 4" data-y="0.5 3"' in text
    assert "training loss (nats), and the running training loss (thin)</figcaption>" in text
    assert line_chart(metrics, "train_loss", "absent").count("<polyline") == 1
    assert line_chart(metrics[:1], "train_loss") is None
    long = pd.DataFrame({"step": range(1000), "train_loss": range(1000)})
    assert re.search(r'points="([^"]+)"', line_chart(long, "train_loss"))[1].count(" ") == 149


@pytest.mark.slow
def test_curves_answer_the_pointer(curves, tmp_path, browse):
    svg = figures.svg(figures.training_curves(curves, dash="learning_rate").figure)
    script = (TEMPLATES / "curves.js").read_text(encoding="utf-8")
    page = tmp_path / "curves.html"
    page.write_text(
        f"<!DOCTYPE html><title>curves</title><style>{style()}</style><main><figure><div class=scroll tabindex=0>{svg}"
        f"</div><figcaption>Curves</figcaption></figure></main><script>{script}</script>",
        encoding="utf-8",
    )
    act = """
      const svg = view.querySelector("svg");
      const { box } = JSON.parse(svg.dataset.panels)[0];
      const place = svg.getBoundingClientRect();
      const zoom = place.width / svg.viewBox.baseVal.width;
      const move = (part, height) => svg.dispatchEvent(new PointerEvent("pointermove", {
        clientX: place.left + zoom * (box[0] + part * (box[2] - box[0])),
        clientY: place.top + zoom * (box[1] + height * (box[3] - box[1])),
      }));
      const reading = view.querySelector(".reading");
      const rows = () => [...reading.children].map((row) => row.textContent);
      move(0.5, 0.5);
      const found = { all: rows() };
      const pick = view.querySelector(".pick");
      found.choices = pick.options.length;
      pick.value = "2";
      pick.dispatchEvent(new Event("change"));
      move(0.5, 0.5);
      found.one = rows();
      found.faint = [...svg.querySelectorAll("[data-arm]")].filter((mark) => mark.style.opacity).length;
      svg.querySelector("[data-arm='2']:not([data-panel] *)").dispatchEvent(new MouseEvent("click", { bubbles: true }));
      found.back = pick.value;
      move(0.5, -5);
      found.hidden = reading.hidden;
      return found;
    """
    found = browse([page], {page.name: act})[page.name]["act"]
    assert found["all"][:2] == ["test error", "step 50"]
    numbers = [float(re.search(r": ([\d.]+) %$", text)[1]) for text in found["all"][2:]]
    assert numbers == pytest.approx([30, 40, 30], abs=0.1)
    assert found["all"][3].startswith("large learning rate, decay 0.1: ")
    assert found["one"][2:] == [found["all"][4]]
    assert (found["choices"], found["faint"], found["back"], found["hidden"]) == (4, 12, "", True)
