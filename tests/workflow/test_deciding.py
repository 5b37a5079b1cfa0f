"""Seeds in time: what is trained first, in which order more follows, and when it ends."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from decaylab.analysis.arms import most_seeds
from decaylab.analysis.judge import judge
from decaylab.cli.decide import chosen
from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.replication import expand
from decaylab.seeds import Round, added_seeds, changing_seeds
from decaylab.training.pool import Trained
from decaylab.workflow.deciding import Decider
from decaylab.workflow.first_look import adds_seeds, first_look
from decaylab.workflow.rounds import Rounds
from decaylab.workflow.verifying import verify
from tests.analysis.conftest import Lab

LOOKS = {"looks": {"laptop": [6, 10, 16]}}
ALSO = {"also": [{"label": "elsewhere", "arm": {"learning_rate": 0.1}}]}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, Layout(tmp_path / "results", tmp_path / "reports"))


@dataclass
class FakePool:
    """Writes results in place of training them; the effect of decay is that of the seed."""

    lab: Lab
    effects: list[float]
    workers: int = 2
    order: list[str] = field(default_factory=list)
    _running: list = field(default_factory=list)

    @property
    def running(self) -> set[str]:
        return {spec.run_id for spec in self._running}

    @property
    def idle(self) -> int:
        return self.workers - len(self._running)

    def train(self, spec) -> None:
        self._running.append(spec)

    def finished(self) -> list[Trained]:
        spec = self._running.pop(0)
        gain = self.effects[spec.seed % len(self.effects)] if spec.decay.weight_decay else 0.0
        self.lab.run(spec, {"test_error": 0.5 - gain})
        self.order.append(spec.run_id)
        return [Trained(spec.run_id, 1.0)]


def decide(lab: Lab, rep, effects, wanted=None, seconds=600.0) -> tuple[Decider, FakePool]:
    decider, pool = Decider([rep], lab.workspace(), wanted), FakePool(lab, effects)
    decider.run(pool, time.time() + seconds)
    return decider, pool


def test_verdicts_come_before_variants_and_those_before_figures(lab):
    rep = lab.replication(LOOKS | ALSO)
    decider, pool = decide(lab, rep, [0.20, 0.21, 0.19])
    kind = {
        spec.run_id: 2 if p["grid"] != "mlp" else int(p["learning_rate"] != 0.3) for spec, p, _ in expand(rep, "laptop")
    }
    order = [kind[run_id] for run_id in pool.order]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}
    assert decider.outcome.complete
    assert (decider.outcome.closed, decider.outcome.total) == (1, 1)


def test_an_undecided_claim_gets_seeds_up_to_its_last_look(lab):
    rep = lab.replication(LOOKS)
    decider, _ = decide(lab, rep, [0.06, -0.03, 0.05, -0.02, 0.07, -0.01])
    counts = added_seeds(lab.workspace())["tiny"].values()
    assert max(counts) in (10, 16)
    assert len(counts) == 2, "only the arms of the claim"
    assert decider.outcome.complete


def test_chosen_claims_alone_leave_the_rest_untrained(lab):
    rep = lab.replication(
        LOOKS, {"id": "other"} | LOOKS | lab.test(arm={"grid": "mlp", "decay": "on", "learning_rate": 0.1})
    )
    decider, pool = decide(lab, rep, [0.20, 0.21, 0.19], {"tiny": {"decay-helps"}})
    assert len(pool.order) == 12
    assert decider.outcome.total == 1
    assert decider.outcome.complete


def test_without_time_nothing_is_trained(lab):
    decider, pool = decide(lab, lab.replication(LOOKS), [0.2, 0.21], seconds=-1)
    assert pool.order == []
    assert not decider.outcome.complete


def test_a_decided_replication_needs_nothing_more(lab):
    rep = lab.replication(LOOKS)
    decide(lab, rep, [0.20, 0.21, 0.19])
    _, pool = decide(lab, rep, [0.20, 0.21, 0.19])
    assert pool.order == []


def test_the_first_look_is_what_verdicts_read(lab):
    rep = lab.replication(LOOKS | ALSO)
    first = first_look(rep, "laptop", {})
    assert {(p["learning_rate"], p["decay"]) for _, p, _ in first} == {(0.3, "on"), (0.3, "off")}
    assert len(first) == 12
    assert adds_seeds(rep, "laptop")


def test_where_no_claim_adds_seeds_everything_comes_first(lab):
    rep = lab.replication(LOOKS)
    assert first_look(rep, "gpu", {}) == expand(rep, "gpu")
    assert not adds_seeds(rep, "gpu")
    assert first_look(lab.replication(), "laptop", {}) == expand(lab.replication(), "laptop")


def test_the_first_look_may_need_more_seeds_than_are_listed(lab):
    rep = lab.replication({"looks": {"laptop": [8, 16]}})
    assert len({p["seed"] for _, p, _ in first_look(rep, "laptop", {})}) == 8


def test_the_next_round_begins_only_if_something_is_left(lab):
    rep, space = lab.replication(LOOKS), lab.workspace()

    def number(minutes: float) -> int | None:
        found = Rounds({"tiny": rep}, space, minutes).round_of(("tiny",))
        return found.number if found else None

    assert number(15) == 1
    assert number(0) is None
    key = Rounds({"tiny": rep}, space, 15).round_of(("tiny",)).key
    done = space.layout.decided("laptop", key, 1)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    for complete, expected in ((False, 2), (True, 1)):
        with changing_seeds(space) as record:
            record.rounds[key] = Round(1, complete)
        assert number(15) == expected
        assert number(0) == 1
    # another text of a claim is another question
    changed = lab.replication(LOOKS | {"statement": "Decay raises the test error."})
    assert Rounds({"tiny": changed}, space, 15).round_of(("tiny",)).key != key


def test_targets_share_the_time(lab):
    rep = lab.replication(LOOKS)
    rounds = Rounds({"one": rep, "two": rep, "three": rep}, lab.workspace(), 15)
    assert rounds.scope("one", ["all"], ["one", "two"]) == ("one", "two")
    assert rounds.scope("one", ["three", "one"], ["two"]) == ("one", "three")
    assert rounds.scope("one", ["all"], ["two"]) == ("one",)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["nothing"], "no claim or replication"), (["tiny/nothing"], "no claim or replication")],
)
def test_unknown_names_are_one_line(lab, names, message):
    with pytest.raises(InputError, match=message):
        chosen([lab.replication(LOOKS)], names)


def test_claims_and_replications_are_found_by_name(lab):
    rep = lab.replication(LOOKS, {"id": "other"} | LOOKS)
    assert chosen([rep], ["tiny"]) == ([rep], None)
    assert chosen([rep], ["other"]) == ([rep], {"tiny": {"other"}})
    assert chosen([rep], ["tiny/other", "decay-helps"]) == ([rep], {"tiny": {"other", "decay-helps"}})


@pytest.mark.parametrize(("fresh", "moved"), [([0.2, 0.21], False), ([-0.2, -0.21], True)])
def test_decided_claims_are_judged_again_on_other_runs(lab, fresh, moved):
    rep = lab.replication(LOOKS | ALSO)
    decide(lab, rep, [0.20, 0.21, 0.19])
    pools = []

    @contextmanager
    def pool(layout, mode, until):
        pools.append((mode, FakePool(Lab(lab.root, layout), [0.2, 0.21] if mode == "rounding" else fresh)))
        yield pools[-1][1]

    found = verify([rep], lab.workspace(), None, 1.0, pool)

    assert [(item.mode, item.moved) for item in found] == [("rounding", False), ("fresh", moved)]
    (_, same), (_, other) = pools
    assert len(same.order) == len(other.order) == 12, "two arms of six seeds, without the variant"
    assert set(same.order) <= {spec.run_id for spec, _, _ in expand(rep, "laptop")}
    # fresh seeds are none that any look could use
    assert not set(other.order) & {spec.run_id for spec, _, _ in expand(rep, "laptop", seeds=most_seeds(rep, "laptop"))}
    assert [item["moved"] for item in read_json(lab.layout.results / "verify" / "laptop.json")] == [False, moved]
    # nothing of this reaches the results themselves
    assert {path.name for path in (lab.layout.results / "runs").iterdir()}.isdisjoint(other.order)


def test_only_the_chosen_setting_of_a_best_arm_gets_seeds(lab):
    best = lab.test(
        arm={"grid": "mlp", "decay": "on", "learning_rate": "best"},
        minus={"grid": "mlp", "decay": "off", "learning_rate": 0.3},
    )
    rep = lab.replication(best | LOOKS)
    decider, _ = decide(lab, rep, [0.20, 0.21, 0.19], {"tiny": {"decay-helps"}})
    assert decider.outcome.complete
    (claim,) = judge(rep, lab.workspace()).claims
    assert (claim.verdict, claim.n) == ("reproduced", 6)
    # three seeds choose, six others are judged
    assert sorted(added_seeds(lab.workspace())["tiny"].values()) == [9, 9]
