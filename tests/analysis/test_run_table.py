import io

import numpy as np
import pandas as pd
import pytest

from decaylab.analysis.results import load_run
from decaylab.analysis.run_table import restore_table, thin, to_table, write_table
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import expand


def rows(steps: int) -> list[dict[str, float]]:
    """A loss each step, an error each tenth, something that only the last row has."""
    made = [{"step": step, "loss": 1 / 3 / (step + 1)} for step in range(steps + 1)]
    for row in made[::10]:
        row["error"] = row["loss"] / 7
    return [*made[:-1], made[-1] | {"late": 0.1}]


@pytest.fixture
def runs(lab):
    specs = [spec for spec, _, _ in expand(lab.replication(), "gpu")][:3]
    for spec in specs:
        lab.run(spec, {"loss": 1 / 303, "odd": None}, rows(100), texts={"completion": "Every effort\n\u2212"})
    return [load_run(lab.layout, spec.run_id) for spec in specs]


def test_what_is_restored_is_what_was_there(runs, tmp_path):
    layout = Layout(tmp_path / "other")
    assert restore_table(write_table(to_table(runs)), layout, "x") == [run.run_id for run in runs]
    for run in runs:
        again = load_run(layout, run.run_id)
        assert again.summary == run.summary
        pd.testing.assert_frame_equal(again.metrics, run.metrics)


def test_a_column_that_one_run_lacks_is_not_invented_for_it(lab, runs, tmp_path):
    spec = expand(lab.replication(), "gpu")[3][0]
    lab.run(spec, {"other": 1.0})
    layout = Layout(tmp_path / "other")
    restore_table(write_table(to_table([*runs, load_run(lab.layout, spec.run_id)])), layout, "x")
    assert list(load_run(layout, spec.run_id).metrics) == ["step", "other"]
    assert "other" not in load_run(layout, runs[0].run_id).metrics


def test_thinning_keeps_the_last_values_and_what_claims_read(runs, tmp_path):
    table = thin(to_table(runs), 4, whole={"error"})
    layout = Layout(tmp_path / "other")
    restore_table(write_table(table), layout, "x")
    for run in runs:
        frame = load_run(layout, run.run_id).metrics.set_index("step")
        assert list(frame["loss"].dropna().index) == list(range(0, 101, 4))
        assert list(frame["error"].dropna().index) == list(range(0, 101, 10))
        assert frame["late"].dropna().to_dict() == {100: 0.1}
        assert frame.loc[100, "loss"] == pytest.approx(1 / 303)


def test_many_runs_take_a_fraction_of_their_files(lab, runs):
    generator = np.random.default_rng(0)
    specs = [spec for spec, _, _ in expand(lab.replication(), "gpu")]
    for spec in specs:
        # what torch measures has float32 precision
        noise = generator.normal(size=(100, 20)).astype(np.float32).astype(float)
        frame = pd.DataFrame(noise, columns=[f"norm.{i}" for i in range(20)]).assign(step=np.arange(1, 101))
        lab.run(spec, {}, frame.to_dict("records"))
    found = [load_run(lab.layout, spec.run_id) for spec in specs]
    size = sum(path.stat().st_size for run in found for path in run.folder.iterdir())
    assert len(write_table(to_table(found))) < size / 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda table: table.assign(run_id="../../climbing"),
            r"run_id: expected the id of a run, got '\.\./\.\./climb",
        ),
        (lambda table: table.assign(run_id=None), "run_id: expected the id of a run"),
        (lambda table: table.assign(summary=None), "expected one summary, got 0"),
        (lambda table: table.drop(columns="summary"), "expected columns run_id, step, summary"),
        (lambda table: table.assign(loss="high"), "loss: expected a column of numbers"),
    ],
)
def test_a_wrong_table_is_one_line_and_nothing_is_written(runs, tmp_path, change, words):
    layout = Layout(tmp_path / "deep" / "other")
    table = change(to_table(runs[:1]))
    content = io.BytesIO()
    table.to_parquet(content)
    with pytest.raises(InputError, match=words):
        restore_table(content.getvalue(), layout, "x")
    assert not list(tmp_path.glob("**/climbing*"))


def test_bytes_that_are_no_table_are_one_line(tmp_path):
    with pytest.raises(InputError, match="x: cannot be read as parquet"):
        restore_table(b"PAR1 not really", Layout(tmp_path), "x")
