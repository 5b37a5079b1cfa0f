import json

import numpy as np
import pytest
from scipy import stats

from decaylab.analysis import simulation
from decaylab.analysis.looks import LOOKS, Test
from decaylab.analysis.statistics import mean_interval
from decaylab.errors import InputError


@pytest.mark.parametrize(
    ("sample", "skewness"),
    [
        (simulation.gaussian, 0),
        (simulation.skewed(1.6), 1.6),
        (simulation.skewed(-1), -1),
        (simulation.jumping(0.1, 8), None),
        (simulation.resampled([1, 2, 3, 10]), stats.skew([1, 2, 3, 10])),
    ],
)
def test_samples_have_mean_0_deviation_1_and_the_skewness_asked_for(sample, skewness):
    values = sample(np.random.default_rng(0), (400, 500))
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.02)
    if skewness is not None:
        assert stats.skew(values, axis=None) == pytest.approx(skewness, abs=0.1)


def test_the_looks_hold_their_error_on_gaussian_and_moderately_skewed_differences():
    """Short form of docs/statistics.md: 600 sequences, so with three standard errors of 0.7 % to spare."""
    for sample in (simulation.gaussian, simulation.skewed(0.5), simulation.skewed(1)):
        wrong = simulation.wrong_sides(sample, 600, seed=1)
        assert (np.diff(wrong, axis=0) >= 0).all(), "an interval once wrong stays so"
        assert wrong[-1].max() < 0.05
    assert simulation.wrong_sides(simulation.skewed(1.6), 600, seed=1)[-1].max() < 0.07


def test_looking_at_an_ordinary_interval_after_each_seed_does_not():
    naive = simulation.wrong_sides(
        simulation.gaussian, 300, interval=lambda values: mean_interval(values)[1], looks=range(3, 33)
    )
    assert naive[-1].max() > 0.08


@pytest.mark.parametrize("sample", [simulation.gaussian, simulation.skewed(0.5)])
@pytest.mark.parametrize(
    ("test", "truth"),
    [
        (Test("above", 0.25), 0.0),
        (Test("below", 0.25), 0.0),
        (Test("above", 0.0), 0.0),
        (Test("above", 0.25), 0.25),
        (Test("below", 0.25), -0.25),
        (Test("within", 0.5), 0.0),
        (Test("within", 0.5), -0.5),
    ],
)
def test_claims_without_effect_get_few_false_verdicts(sample, test, truth):
    """5 % at most, plus two standard errors of 1,000 claims."""
    assert simulation.false_verdicts(sample, test, truth, claims=1000) <= 0.064


def test_a_true_verdict_is_not_counted_as_false():
    assert simulation.false_verdicts(simulation.gaussian, Test("above", 0.1), 5.0, claims=20) == 0
    assert simulation.false_verdicts(simulation.gaussian, Test("below", 0.1), 5.0, claims=20) == 0
    assert simulation.false_verdicts(simulation.gaussian, Test("within", 5.0), 0.1, claims=20) == 0


def test_larger_effects_need_fewer_seeds():
    small, large = (simulation.decided_by(effect, Test("above", 0.0), 100) for effect in (0.5, 3))
    assert len(small) == len(LOOKS)
    assert small == sorted(small)
    assert all(a <= b for a, b in zip(small, large, strict=True))


def filed(tmp_path, count):
    folder = tmp_path / "some" / "evidence"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).normal(size=count)
    part = {"name": "test", "seeds": [{"seed": seed, "value": value} for seed, value in enumerate(values.tolist())]}
    equal = {"name": "equal", "seeds": [{"seed": seed, "value": 0.0} for seed in range(count)]}
    verdicts = {"claims": [{"claim": "claim", "parts": [part, equal], "also": [{"label": "variant", "parts": [part]}]}]}
    (folder / "laptop-x.json").write_text(json.dumps({"verdicts": verdicts}))
    return values


def test_differences_come_from_filed_verdicts_with_enough_seeds(tmp_path):
    values = filed(tmp_path, 21)
    found = simulation.filed_differences(tmp_path)
    assert set(found) == {"laptop-x: claim: test", "laptop-x: claim: variant: test"}
    assert found["laptop-x: claim: test"] == values.tolist()
    (tmp_path / "some" / "evidence" / "broken.json").write_text("{")
    with pytest.raises(InputError, match="expected an evidence file"):
        simulation.filed_differences(tmp_path)


def test_few_seeds_are_no_distribution(tmp_path):
    filed(tmp_path, 6)
    assert simulation.filed_differences(tmp_path) == {}


def test_the_command_fills_the_page_between_its_markers(tmp_path):
    filed(tmp_path, 21)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{simulation.BEGIN}\nold\n{simulation.END}\nafter\n")
    simulation.main(["--docs", str(page), "--evidence", str(tmp_path), "--repetitions", "8"], claims=20)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert text.count("**") == 2 * 5
    assert "2 tests of filed evidence" in text
    page.write_text("no markers")
    with pytest.raises(InputError, match="markers"):
        simulation.main(["--docs", str(page), "--repetitions", "1", "--evidence", str(tmp_path)])
