"""`decaylab advise`: rules beside archived verdicts."""

from typer.testing import CliRunner

from decaylab.cli import app
from decaylab.errors import InputError

BLOG = ["--parameters", "163009536", "--data", "3260252160", "--batch", "98304", "--learning-rate", "4e-4"]


def test_the_rules_of_a_published_run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["advise", *BLOG])
    assert result.exit_code == 0, result.output
    assert "0.337" in result.output
    assert "gpt2-decay-beats-gpt3-decay" in result.output
    assert "nanochat" not in result.output
    assert "nanochat" in CliRunner().invoke(app, ["advise", *BLOG, "--width", "768"]).output


def test_an_impossible_setting_is_one_line():
    result = CliRunner().invoke(app, ["advise", *BLOG[:-1], "0"])
    assert isinstance(result.exception, InputError)
    assert "advise: learning_rate: expected a number above 0, got 0" in str(result.exception)
