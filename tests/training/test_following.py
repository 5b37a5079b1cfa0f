"""A run follows the recorded norms of another."""

import numpy as np
import pandas as pd
import pytest
import torch

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.replication import PlannedRun
from decaylab.training.following import Follower
from decaylab.training.learner import Learner
from decaylab.training.loop import Options
from decaylab.training.metric_buffer import MetricBuffer
from decaylab.training.runner import in_groups, in_order, train_all
from decaylab.workflow.jobs import partition, priorities
from tests.training.cases import TEXT, spec

PROBED = {"evaluation": {"probes": [{"matrix_norms": {"every": 1}}]}}


def leader(**changes):
    return spec(TEXT, **PROBED | {"decay": {"weight_decay": 5.0}} | changes)


def follower(run, per="matrix", match="effective_learning_rate", **changes):
    follow = {"run": run.model_dump(mode="json", exclude={"snapshots"}), "per": per, "match": match}
    return spec(TEXT, **PROBED | {"decay": {"weight_decay": 0}, "follow": follow, "seed": run.seed} | changes)


def test_its_place_in_the_order_of_runs():
    run = leader()
    child = follower(run)
    assert (child.depth, child.parents) == (1, (run,))
    assert child.arm_id() == follower(leader(seed=3)).arm_id() != follower(run, per="all").arm_id()
    assert len({child.run_id, follower(run, match="norm").run_id, spec(TEXT, **PROBED).run_id}) == 3
    assert [found.run_id for found in in_order([child], {})] == [run.run_id, child.run_id]
    assert [len(group) for group in in_groups([run, child], lambda _: 2)] == [1, 1]
    jobs = partition([PlannedRun(item, {"any": [{}]}) for item in (run, child)], 5)
    assert [job.followed for job in jobs] == [job.parents for job in jobs] == [[], [run.run_id]]
    ranks = priorities(jobs)
    assert ranks[jobs[0].name] > ranks[jobs[1].name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decay": {"weight_decay": 0.1}}, "weight_decay 0"),
        ({"steps": 13}, "13 steps, the followed run only 12"),
        ({"optimizer": {"learning_rate": 0.1}}, "same model, optimizer and schedule"),
    ],
)
def test_impossible_specs_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        follower(leader(), **changes)
    with pytest.raises(InputError, match="needs the probe matrix_norms"):
        follower(spec(TEXT))


def test_the_followed_run_must_be_there(tmp_path):
    child = follower(leader())
    with pytest.raises(InputError, match=r"metrics\.parquet: no such file; train the run that is followed first"):
        Follower(child, Layout(tmp_path), Learner(child, 256, torch.device("cpu")).flat)


@pytest.mark.parametrize("per", ["all", "group", "matrix"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_updates_are_scaled_as_a_slow_reference_says(per, optimizer, tmp_path):
    chosen = {"optimizer": {"name": optimizer, "learning_rate": 0.01}} | {"decay": {"weight_decay": 0}}
    run = spec(TEXT, **PROBED | chosen)
    child = follower(run, per, **chosen)
    flat = Learner(child, 256, torch.device("cpu")).flat
    # recorded after 2 and 6 updates only: in between, logarithms lie on a line
    names = ["matrix_norm", *(f"matrix_norm.{name}" for name in [*flat.groups, *flat.names])]
    first, last = (np.random.default_rng(seed).uniform(1, 4, len(names)) for seed in (0, 1))
    rows = [{"step": 2} | dict(zip(names, first, strict=True)), {"step": 6} | dict(zip(names, last, strict=True))]
    MetricBuffer(rows).write(Layout(tmp_path).metrics(run.run_id))
    follows = Follower(child, Layout(tmp_path), flat)
    move = 0.01 * torch.randn(flat.weights.shape, generator=torch.Generator().manual_seed(0))
    before = {name: weight.detach().double().clone() for name, weight in zip(flat.names, flat.parameters, strict=True)}
    expected, moves = {}, {name: flat.places[name].view(move).double() for name in flat.names}
    groups = {name: next(g for g, w in flat.groups.items() if _inside(flat, name, w)) for name in flat.names}
    for name, weight in before.items():
        unit = {"all": "", "group": f".{groups[name]}", "matrix": f".{name}"}[per]
        members = [n for n in before if per == "all" or (per == "group" and groups[n] == groups[name]) or n == name]
        norm = torch.cat([before[n].flatten() for n in members]).norm().item()
        at = names.index(f"matrix_norm{unit}")
        factor = (norm / np.exp(0.75 * np.log(first[at]) + 0.25 * np.log(last[at]))) ** (2 if optimizer == "sgd" else 1)
        expected[name] = weight + moves[name] * (factor if per != "matrix" or weight.ndim > 1 else 1)
    follows.before(3)
    flat.weights.add_(move)
    follows.after(3)
    for name, weight in zip(flat.names, flat.parameters, strict=True):
        torch.testing.assert_close(weight.detach().double(), expected[name], rtol=2e-5, atol=1e-7)


def _inside(flat, name, group):
    start = group.storage_offset() - flat.weights.storage_offset()
    return start <= flat.places[name].offset < start + group.numel()


def test_a_trained_run_has_the_step_sizes_or_norms_of_the_one_it_follows(tmp_path):
    run = leader()
    runs = {"rate": follower(run, "all"), "matrix": follower(run, "matrix"), "norm": follower(run, match="norm")}
    layout = Layout(tmp_path)
    assert train_all(in_order(list(runs.values()), {}), layout, Options(), 3) == 4
    found = {
        name: pd.read_parquet(layout.metrics(item.run_id)).set_index("step")
        for name, item in {"followed": run, **runs}.items()
    }
    followed = found["followed"]
    matrices = [name for name in followed if name.startswith("matrix_norm") and name.endswith("weight")]
    assert len(matrices) == 6
    pd.testing.assert_frame_equal(found["norm"][matrices], followed[matrices], rtol=1e-5)
    assert not np.allclose(found["rate"][matrices].iloc[-1], followed[matrices].iloc[-1], rtol=0.02)
    rates = [table["effective_learning_rate"].dropna() for table in (found["rate"], followed)]
    np.testing.assert_allclose(*rates, rtol=0.02)
    assert found["rate"]["learning_rate"].dropna().iloc[-1] > followed["learning_rate"].dropna().iloc[-1]
    losses = [table["train_loss"].dropna().to_numpy() for table in (found["matrix"], found["rate"], followed)]
    assert len({tuple(values) for values in losses}) == 3
