"""What claims could decide, before anything runs."""

from __future__ import annotations

import pytest

from decaylab.analysis import power
from decaylab.analysis.judge import judge
from decaylab.analysis.prospects import prospects
from decaylab.replication import expand

LOOKS = {"looks": {"laptop": [6, 10, 16]}}


def prices(rep):
    return {spec.run_id: 30.0 for spec, _, _ in expand(rep, "laptop")}


def test_without_runs_nothing_is_known_but_the_number_of_seeds(lab):
    rep = lab.replication(LOOKS)
    (found,) = prospects(rep, lab.workspace(), prices(rep))
    assert (found.claim, found.seeds, found.deviation, found.detectable) == ("tiny/decay-helps", 16, None, None)
    assert found.source == -0.04


def test_the_deviation_on_file_gives_the_detectable_effect_and_the_price_of_the_source_value(lab):
    rep = lab.replication(LOOKS)
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.5 + (0.01 * p["seed"] if p.get("decay") == "on" else 0.0)})
    judge(rep, lab.workspace()).write(lab.layout)
    (found,) = prospects(rep, lab.workspace(), prices(rep))
    assert found.deviation == pytest.approx(0.0187, abs=1e-4)
    assert found.known_from == 6
    upper = power.upper_deviation(found.deviation, 6)
    assert found.detectable == pytest.approx(0.01 + power.margin(16) * upper)
    assert found.source_seeds in (10, 16, None)
    if found.source_seeds:
        assert found.source_minutes == pytest.approx(found.source_seeds)  # two runs of half a minute for each


def test_a_scale_with_a_fixed_number_of_seeds_has_one_look(lab):
    rep = lab.replication()
    (found,) = prospects(rep, lab.workspace(), prices(rep))
    assert found.seeds == 6
