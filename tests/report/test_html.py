import pandas as pd
import pytest

from decaylab.report import html


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001234, "0.00123"), (-0.5, "\u22120.5"), (12345.6, "12346"), (3.2e9, "3.2e9"), (None, "\u2013"),
        (float("nan"), "\u2013"), (float("inf"), "\u221e"), (7, "7"), (1e-9, "1e-9".replace("-", "\u2212")), (0.0, "0"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert html.number(value) == text


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (-0.0421, [-0.0613, -0.0229], "\u22120.042 [\u22120.061, \u22120.023]"),
        (0.5, None, "0.500"),
        (0.00001, [-0.003, 0.003], "0.0000 [\u22120.0030, 0.0030]"),
        (123.4, [100, 140], "123 [100, 140]"),
        (0.0, [0.0, 0.0], "0.000 [0.000, 0.000]"),
        (-0.00001, [-0.02, 0.02], "0.000 [\u22120.020, 0.020]"),
        (None, None, "\u2013"),
    ],
)
def test_estimate_has_the_digits_its_interval_supports(value, interval, text):
    assert html.estimate(value, interval) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (42, "42 s"), (210, "3.5 min"), (3000, "50 min"), (9000, "2.5 h"), (None, "\u2013")],
)
def test_duration(seconds, text):
    assert html.duration(seconds).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("test error (fraction)", "\u221220 points"),
        ("share of updates, mean over the run", "\u221220 points"),
        ("test loss (nats), decay minus none", "\u22120.2 nats"),
        ("shift at four times the rate, plus log10(4) (decades)", "\u22120.2 decades"),
        ("test error at (2, 1/2) minus that at the other corners", "\u22120.2"),
        ("cosine of two matrices", "\u22120.2"),
    ],
)
def test_a_measured_value_has_its_unit(unit, text):
    assert html.measured(-0.2, None, unit) == text


def test_numbers_of_a_column_have_the_same_decimals():
    assert html.aligned([2.08, -0.02, None], 2.08) == ["2.080", "\u22120.020", "\u2013"]
    assert html.aligned([12.3456], 12.3456, " %") == ["12.35 %"]
    assert html.aligned([0.0], 0.0) == ["0.00"]


def test_a_precondition_is_named_in_words():
    assert html.precondition_metric("regime.decay_exponent") == "learning rate \u00d7 decay \u00d7 steps"
    assert html.precondition_metric("train_loss") == "train loss"


def test_size():
    assert html.size(1.2e9) == "1.2 GB"
    assert html.size(0, "FLOP") == "0 FLOP"


def test_table_escapes_and_aligns():
    text = html.table(pd.DataFrame({"net_name": ["<b>"], "loss": [0.5], "on": [True]}), "What & why")
    assert "<caption>What &amp; why</caption>" in text
    assert '<th scope="col">net name</th><th scope="col" class="n">loss</th><th scope="col">on</th>' in text
    assert '<td>&lt;b&gt;</td><td class="n">0.5</td><td>yes</td>' in text
    assert "Nothing to list" in html.table(pd.DataFrame(), "x")
