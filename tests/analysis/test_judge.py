import json
import math
import subprocess
from pathlib import Path

import pytest
from scipy import stats

from decaylab.analysis.arms import check_claims
from decaylab.analysis.judge import combine, judge
from decaylab.analysis.looks import LOOKS, value_interval
from decaylab.analysis.power import margin, upper_deviation
from decaylab.analysis.summary import summarise
from decaylab.analysis.verdict import VERDICTS
from decaylab.errors import InputError
from decaylab.replication import arm_key, expand, load_replication, replication_file
from decaylab.seeds import changing_seeds
from decaylab.workspace import SCALES

NOISE = [0.0, 0.004, -0.001, 0.002, -0.003, 0.001]
"""what a seed adds to every arm"""
GAIN = [0.03, 0.05, 0.04, 0.05, 0.03, 0.04]
"""what decay takes from the error, by seed"""


def errors(p):
    """Final metrics: decay helps at learning rate 0.3 by GAIN; width 1000 wants less decay than width 10."""
    if p["grid"] == "wide":
        best = {10: 0.01, 100: 0.01, 1000: 0.001}[p["width"]]
        error = 0.2 if p["weight_decay"] == best else 0.3
        return {"test_error": error, "weight_decay": p["weight_decay"]}
    gain = GAIN[p["seed"]] if (p["decay"], p["learning_rate"]) == ("on", 0.3) else 0.0
    return {"test_error": 0.3 - gain + 10 * NOISE[p["seed"]], "train_error": 0.3 + 10 * NOISE[p["seed"]]}


def judged(lab, rep, scale="laptop"):
    return judge(rep, lab.workspace(scale)).claims


def claim_of(lab, *claims, final=errors, scale="laptop", only=lambda p: True, **summary):
    """The first claim's verdict over results written by hand."""
    rep = lab.replication(*claims)
    lab.fill(rep, scale, final, only, **summary)
    return judged(lab, rep, scale)[0]


def test_a_difference_is_paired_by_seed(lab):
    claim = claim_of(lab, {})
    contrasts = [-gain for gain in GAIN]
    interval = stats.ttest_1samp(contrasts, 0).confidence_interval(0.95)
    assert claim.verdict == "reproduced"
    assert claim.estimate == pytest.approx(-0.04)
    assert claim.interval == pytest.approx((interval.low, interval.high))
    assert (claim.n, claim.unit, claim.direction) == (6, "test error (fraction)", "below")
    assert claim.difference_from_source == pytest.approx(0.0)
    (part,) = claim.parts
    assert [entry.value for entry in part.seeds] == pytest.approx(contrasts)
    assert [len(entry.runs) for entry in part.seeds] == [2] * 6
    assert {run for entry in part.seeds for run in entry.runs} == set(claim.run_ids)
    assert claim.seconds == 24
    assert (claim.commits, claim.hardware, claim.reason) == (["abc123"], ["NVIDIA H200"], "")
    assert claim.registered_before_runs is True


def test_the_file_says_what_was_judged_and_does_not_change(lab):
    rep = lab.replication({}, {"id": "elsewhere", "scales": ["paper"]})
    lab.fill(rep, "laptop", errors)
    verdict = judge(rep, lab.workspace())
    path = verdict.write(lab.layout)
    assert path == lab.root / "results" / "verdicts" / "laptop" / "tiny.json"
    assert verdict.counts == dict.fromkeys(VERDICTS, 0) | {"reproduced": 1, "not run": 1}
    assert verdict.to_json()["false_verdicts_bound"] == pytest.approx(0.05)
    text = path.read_text()
    lines = (lab.root / "replications" / "tiny" / "replication.yaml").read_text().splitlines()
    for claim in json.loads(text)["claims"]:
        # a JSON file has the claim's brace on that line
        assert f'"id": "{claim["claim"]}"' in lines[claim["line"]]
    judge(rep, lab.workspace()).write(lab.layout)
    assert path.read_text() == text


def test_the_commit_is_the_clones(lab):
    rep = lab.replication()
    assert judge(rep, lab.workspace()).commit is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "replications"], ["commit", "-qm", "claims"]):
        subprocess.run([*git, *words], cwd=lab.root, check=True)
    assert len(judge(rep, lab.workspace()).commit) == 12
    lab.replication({"note": "changed"})
    assert judge(rep, lab.workspace()).commit.endswith("+dirty")


def test_the_other_side_of_zero_contradicts(lab):
    claim = claim_of(lab, lab.test(direction="above"))
    assert claim.verdict == "contradicted"


def test_an_interval_across_the_smallest_effect_is_inconclusive_and_says_why_and_what_would_decide_it(lab):
    claim = claim_of(lab, lab.test(smallest_effect=0.035))
    low, high = claim.interval
    assert claim.verdict == "inconclusive"
    assert claim.reason.startswith(
        f"the interval {low:.3g} to {high:.3g} is neither wholly below -0.035, nor on the other side of 0, "
        "nor negligible; "
    )
    # each seed has two runs of two seconds
    assert claim.outlook.seeds == 18
    assert claim.outlook.minutes == pytest.approx(18 * 4 / 60)
    assert claim.reason.endswith("18 more seeds (about 1.2 minutes) would probably decide it")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"direction": "within", "smallest_effect": 0.04}, "is neither inside nor outside -0.04 to 0.04"),
        ({"direction": "above", "minus": None, "reference": 0.265, "smallest_effect": 0}, "contains 0"),
    ],
)
def test_reasons_are_plain_words(lab, changes, reason):
    claim = claim_of(lab, lab.test(**changes))
    assert claim.verdict == "inconclusive"
    assert claim.reason.split("; ")[0].endswith(reason)


def test_an_effect_too_small_to_matter_is_negligible(lab):
    claim = claim_of(lab, lab.test(smallest_effect=0.06))
    assert (claim.verdict, claim.reason) == ("negligible", "")


def test_an_equivalence(lab):
    off = {"grid": "mlp", "decay": "off"}
    claim = claim_of(
        lab,
        lab.test(arm=off | {"learning_rate": 0.1}, minus=off | {"learning_rate": 0.3}, direction="within"),
    )
    assert (claim.verdict, claim.interval) == ("reproduced", (0.0, 0.0))


def test_terms_are_weighted_sums_of_metrics_of_their_own(lab):
    arm = {"grid": "mlp", "decay": "on", "learning_rate": 0.3}
    terms = [{"arm": arm}, {"arm": arm, "metric": "train_error", "weight": -2}]
    claim = claim_of(lab, lab.test(arm=None, minus=None, terms=terms, reference=1.0))
    for entry, gain, noise in zip(claim.parts[0].seeds, GAIN, NOISE, strict=True):
        assert entry.value == pytest.approx((0.3 - gain + 10 * noise) - 2 * (0.3 + 10 * noise) - 1.0)
        assert len(entry.runs) == 1, "two metrics of one run"


def test_a_rate(lab):
    def diverged(p):
        return p.get("decay") == "off" and p["learning_rate"] == 0.3

    rep = lab.replication(
        lab.test(
            kind="proportion", metric="diverged", minus=None, direction="above", smallest_effect=0.2,
            arm={"grid": "mlp", "decay": "off", "learning_rate": 0.3},
        )
    )  # fmt: skip
    for spec, p, _ in expand(rep, "laptop"):
        lab.run(spec, {"test_error": 0.1}, diverged_at_step=50 if diverged(p) else None)
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.estimate, claim.interval[1]) == ("reproduced", 1.0, 1.0)
    assert claim.interval[0] == pytest.approx(0.025 ** (1 / 6))


def test_a_rate_needs_zeros_and_ones(lab):
    with pytest.raises(
        InputError, match=r"claim decay-helps: a proportion needs a metric that is 0 or 1, test_error is"
    ):
        claim_of(lab, lab.test(kind="proportion", minus=None))


def test_diverged_runs_count_as_chance(lab):
    rep = lab.replication()
    for spec, p, _ in expand(rep, "laptop"):
        lost = p.get("decay") == "off"
        lab.run(spec, {"test_error": None if lost else 0.3}, diverged_at_step=3 if lost else None)
    claim = judged(lab, rep)[0]
    assert claim.estimate == pytest.approx(0.3 - 0.9)
    assert claim.verdict == "reproduced"


def test_a_run_without_a_number_decides_nothing(lab):
    """Judging the other seeds alone could flatter the claim."""
    rep = lab.replication(lab.test(metric="weight_norm"))
    for spec, p, _ in expand(rep, "laptop"):
        gone = p["seed"] == 2 and p.get("decay") == "off"
        lab.run(spec, {"weight_norm": None if gone else 3.0 - 2 * (p.get("decay") == "on")})
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.n, claim.estimate) == ("inconclusive", 2, -2)
    assert claim.reason == (
        "2 of 6 seeds are complete; weight_norm has no value for seed 2, and leaving it out could flatter the claim"
    )


def test_a_scale_that_is_too_small_shows_its_estimate_only(lab):
    claim = claim_of(lab, {}, scale="smoke")
    assert claim.verdict == claim.parts[0].verdict == "not run"
    assert claim.reason == "smoke scale is too small to judge this claim"
    assert claim.estimate == pytest.approx(-0.04)
    assert claim.difference_from_source is None, "smoke is not the source's setting"
    claim = claim_of(lab, {}, scale="paper")
    assert claim.reason == "this claim is judged at laptop, gpu, not at paper"


def test_a_claim_of_another_scale_may_lack_its_runs_and_metrics(lab):
    other = lab.test(metric="hessian_trace") | {"scales": ["gpu"]}
    claim = claim_of(lab, other)
    assert (claim.verdict, claim.estimate) == ("not run", None)


def test_missing_runs(lab):
    rep = lab.replication()
    assert (judged(lab, rep)[0].verdict, judged(lab, rep)[0].reason) == ("not run", "0 of 6 seeds are complete")
    lab.fill(rep, "laptop", errors, lambda p: p["seed"] == 0 or (p["seed"] == 1 and p.get("decay") == "on"))
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.n, claim.interval) == ("inconclusive", 1, None)
    assert claim.reason == (
        "1 of 6 seeds are complete; 1 seed cannot decide a mean, which takes at least 5 more seeds (about 0.3 minutes)"
    )
    # seeds count in planned order, not in the order in which they finish
    lab.fill(rep, "laptop", errors, lambda p: p["seed"] in (2, 3, 4, 5))
    assert judged(lab, rep)[0].n == 1
    lab.fill(rep, "laptop", errors, lambda p: p["seed"] == 1)
    assert (judged(lab, rep)[0].n, judged(lab, rep)[0].verdict) == (6, "reproduced")


def test_all_tests_must_hold(lab):
    good = lab.test()["tests"][0] | {"name": "error"}
    bad = good | {"name": "the other way", "direction": "above"}
    open_ = good | {"name": "by far", "smallest_effect": 0.035}
    claim = claim_of(lab, {"tests": [good, good]})
    assert claim.verdict == "reproduced"
    claim = claim_of(lab, {"tests": [good, open_]})
    assert claim.verdict == "inconclusive"
    assert claim.reason.startswith("by far: the interval")
    claim = claim_of(lab, {"tests": [good, open_, bad]})
    assert claim.verdict == "contradicted"
    assert [part.verdict for part in claim.parts] == ["reproduced", "inconclusive", "contradicted"]


def test_variants_stand_beside_the_claim(lab):
    variants = [
        {"label": "small learning rate", "arm": {"learning_rate": 0.1}},
        {"label": "width"} | lab.test(arm={"grid": "wide", "weight_decay": 0.01, "width": 10}, minus=None),
    ]
    rep = lab.replication({"also": variants})
    for scale in ("laptop", "gpu"):
        check_claims(rep, scale)
        lab.fill(rep, scale, errors)
    small, width = judged(lab, rep)[0].also
    assert (small.label, small.verdict, small.estimate) == ("small learning rate", "negligible", 0)
    assert (width.verdict, width.n) == ("contradicted", 6)
    claim = judged(lab, rep, "gpu")[0]
    assert claim.verdict == "reproduced"
    assert (claim.also[1].verdict, claim.also[1].reason) == ("not run", "gpu scale has no such runs")


NINE = {
    "wide": {
        "label": "MLP of several widths",
        "axes": {"width": [10, 100, 1000], "weight_decay": [0.001, 0.01], "seed": list(range(9))},
    }
}


def test_the_best_setting_is_chosen_on_seeds_that_are_not_judged(lab):
    best = {"grid": "wide", "width": 10, "weight_decay": "best"}
    # weight decay 0.01 wins on the three tuning seeds, and would lose on all others
    table = {0.001: [0.3] * 3 + [0.20] * 6, 0.01: [0.2] * 3 + [0.30] * 6}
    rep = lab.replication(lab.test(arm=best, minus=None, reference=1.0), grids=NINE, scales={})
    lab.fill(rep, "laptop", lambda p: {"test_error": table[p["weight_decay"]][p["seed"]]})
    (claim,) = judged(lab, rep)
    (part,) = claim.parts
    assert [(item.values, item.tuned_on) for item in part.chosen] == [({"weight_decay": 0.01}, [0, 1, 2])]
    assert [(entry.seed, entry.value) for entry in part.seeds] == [(seed, pytest.approx(-0.7)) for seed in range(3, 9)]
    assert len(claim.run_ids) == 6 + 6, "the runs that were compared count too"


def test_an_arm_whose_best_setting_is_the_other_arm_compares_nothing(lab):
    def final(p):
        return {"test_error": (0.2 if p["weight_decay"] == 0.01 else 0.3) + p["seed"] / 1000}

    wide = {"grid": "wide", "width": 10}
    same = ("not testable here", 0, "both arms do best at one and the same setting")
    for value, expected in {0.01: same, 0.001: ("reproduced", 6, "")}.items():
        test = lab.test(arm=wide | {"weight_decay": "best"}, minus=wide | {"weight_decay": value})
        rep = lab.replication(test, grids=NINE, scales={})
        lab.fill(rep, "laptop", final)
        (claim,) = judged(lab, rep)
        assert (claim.verdict, claim.n, claim.reason) == expected


def test_best_of_two_axes_and_by_another_metric(lab):
    best = {"grid": "mlp", "learning_rate": "best", "decay": "best"}
    claim = claim_of(lab, lab.test(arm=best, minus=None, metric="train_error", best_by="test_error", reference=0.3))
    assert claim.parts[0].chosen[0].values == {"learning_rate": 0.3, "decay": "on"}
    assert claim.estimate == pytest.approx(10 * sum(NOISE[3:]) / 3)


def test_best_needs_its_tuning_seeds_and_others(lab):
    best = lab.test(arm={"grid": "wide", "width": 10, "weight_decay": "best"}, minus=None)
    claim = claim_of(lab, best, only=lambda p: p["seed"] in (0, 1))
    assert (claim.verdict, claim.estimate) == ("not run", None)
    assert claim.reason == "2 of 6 runs that choose the best settings are missing"
    grids = {"wide": NINE["wide"] | {"axes": NINE["wide"]["axes"] | {"seed": [0, 1, 2]}}}
    rep = lab.replication(best, grids=grids, scales={})
    lab.fill(rep, "laptop", errors)
    assert judged(lab, rep)[0].reason == "there are no seeds beside the 3 that choose the best settings"


def test_a_slope_over_widths(lab):
    arm = {"grid": "wide", "weight_decay": 0.01}
    claim = claim_of(
        lab, lab.test(arm=arm, minus=None, slope_over="width", direction="above", smallest_effect=0.01)
    )  # fmt: skip
    # errors .2, .2, .3 at log10 width 1, 2, 3
    assert claim.estimate == pytest.approx(0.05)
    assert claim.verdict == "reproduced"
    claim = claim_of(lab, lab.test(arm=arm, minus=None, slope_over="width", slope_scale="linear", direction="above"))
    assert claim.estimate == pytest.approx(stats.linregress([10, 100, 1000], [0.2, 0.2, 0.3]).slope)


def test_the_slope_of_the_best_decay(lab):
    test = lab.test(
        arm={"grid": "wide", "weight_decay": "best"}, minus=None, slope_over="width",
        metric={"name": "weight_decay", "log": True}, best_by="test_error",
    )  # fmt: skip
    rep = lab.replication(test, grids=NINE, scales={})
    lab.fill(rep, "laptop", errors)
    (claim,) = judged(lab, rep)
    logs = [math.log(0.01), math.log(0.01), math.log(0.001)]
    assert claim.estimate == pytest.approx(stats.linregress([1, 2, 3], logs).slope)
    assert claim.verdict == "reproduced"
    first = claim.parts[0].chosen[0].model_dump(exclude_none=True)
    assert first == {
        "arm": {"grid": "wide", "weight_decay": "best", "width": 10},
        "values": {"weight_decay": 0.01},
        "tuned_on": [0, 1, 2],
    }


def test_the_optimum_of_one_arm_against_that_of_another(lab):
    """Errors are lowest at a decay of 10^-2.2 where the width is 100, and of 10^-1.8 where it is 10."""
    axes = {"width": [10, 100], "weight_decay": [0, 0.001, 0.01, 0.1], "seed": [0, 1]}
    grids = {"wide": {"label": "w", "axes": axes}}

    def parabola(p):
        away = math.log10(p["weight_decay"] or 1e-9) + {10: 1.8, 100: 2.2}[p["width"]]
        return {"test_error": 0.2 + 0.1 * away**2}

    wide, narrow = ({"grid": "wide", "width": width} for width in (100, 10))
    along = {"optimum_over": "weight_decay", "optimum_among": [0.001, 0.01, 0.1]}
    rep = lab.replication(lab.test(arm=wide, minus=narrow, **along), grids=grids, scales={})
    lab.fill(rep, "laptop", parabola)
    assert judged(lab, rep)[0].estimate == pytest.approx(-0.4)
    rep = lab.replication(lab.test(arm=wide, minus=None, reference=-2.0, **along), grids=grids, scales={})
    lab.fill(rep, "laptop", parabola)
    assert judged(lab, rep)[0].estimate == pytest.approx(-0.2)


def test_an_axis_in_terms_of_the_regime(lab):
    """The best decay as learning rate x decay x steps: the same however long the run is."""
    length = {"short": {"steps": 10}, "long": {"steps": 1000}}
    axes = {"length": length, "weight_decay": [0.001, 0.01, 0.1], "seed": [0, 1]}
    grids = {"g": {"label": "g", "base": {"schedule": {"kind": "constant"}}, "axes": axes}}
    along = {"optimum_over": "weight_decay", "in_terms_of": "regime.decay_exponent"}
    arms = {"arm": {"grid": "g", "length": "long"}, "minus": {"grid": "g", "length": "short"}}
    rep = lab.replication(lab.test(**arms, **along), grids=grids, scales={})
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.2 + 0.1 * (math.log10(p["weight_decay"]) + 2) ** 2})
    assert judged(lab, rep)[0].estimate == pytest.approx(2)  # the same decay over a hundred times the steps
    along["in_terms_of"] = "regime.size"
    with pytest.raises(InputError, match=r"in_terms_of regime\.size: expected one of regime\.decay_exponent"):
        check_claims(lab.replication(lab.test(**arms, **along), grids=grids, scales={}), "laptop")


def test_a_slope_reads_numbers_behind_labels(lab):
    grids = {
        "sizes": {"label": "s", "axes": {"width": {"narrow": 10, "broad": 1000}, "seed": [0, 1]}},
        "forms": {"label": "f", "axes": {"form": {"a": {"steps": 10}, "b": {"steps": 20}}, "seed": [0, 1]}},
    }
    slope = {"minus": None, "slope_over": "width", "direction": "above"}
    rep = lab.replication(lab.test(arm={"grid": "sizes"}, **slope), grids=grids, scales={})
    lab.fill(rep, "laptop", lambda p: {"test_error": 0.4 if p.get("width") == "broad" else 0.2})
    assert judged(lab, rep)[0].estimate == pytest.approx(0.1)
    rep = lab.replication(lab.test(arm={"grid": "forms"}, **slope | {"slope_over": "form"}), grids=grids, scales={})
    with pytest.raises(InputError, match="slope_over form: 'a' is no number, nor is it in the spec"):
        check_claims(rep, "laptop")


MLP = {"grid": "mlp", "decay": "on", "learning_rate": 0.3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arm": MLP | {"learning_rate": 0.2}}, "no run at laptop scale; learning_rate is one of 0.1, 0.3"),
        ({"arm": MLP | {"decay": True}}, "no run at laptop scale; decay is one of 'off', 'on'"),
        ({"arm": MLP | {"dropout": 0.1}}, "no run at laptop scale; there is no parameter dropout"),
        ({"arm": MLP | {"grid": "vgg"}}, "no run at laptop scale; grid is one of 'mlp', 'wide'"),
        (
            {"arm": {"grid": "mlp", "decay": "on"}},
            "several runs of seed 0 at laptop scale; they differ in learning_",
        ),
        ({"arm": {"seed": 0}}, "they differ in decay, so select one"),
        ({"arm": MLP | {"width": "best"}}, "no run at laptop scale has a parameter width"),
        ({"minus": MLP | {"seed": 0}, "arm": MLP | {"seed": 1}}, "its arms share no seed at laptop scale"),
        ({"minus": None, "slope_over": "width"}, "no run at laptop scale has a parameter width"),
        (
            {"minus": None, "slope_over": "width", "arm": {"grid": "wide", "width": 10, "weight_decay": 0.01}},
            "slope_over width: expected at least two different values",
        ),
        (
            {"minus": None, "optimum_over": "weight_decay", "arm": {"grid": "wide", "width": 10}},
            "optimum_over weight_decay: expected at least three different values",
        ),
    ],
)
def test_arms_that_cannot_be_found_are_one_line_without_any_result(lab, changes, words):
    rep = lab.replication(lab.test(**changes))
    with pytest.raises(InputError) as error:
        check_claims(rep, "laptop")
    message = str(error.value)
    assert message.startswith("replications/tiny/replication.yaml: claim decay-helps: ")
    assert words in message
    assert "\n" not in message
    with pytest.raises(InputError):
        judge(rep, lab.workspace())
    check_claims(rep, "paper")


def test_no_logarithm_of_zero_on_an_axis(lab):
    grids = {"g": {"label": "g", "axes": {"weight_decay": [0.0, 0.1], "seed": [0, 1]}}}
    test = lab.test(arm={"grid": "g"}, minus=None, slope_over="weight_decay")
    with pytest.raises(InputError, match="slope_over weight_decay: 0 has no log10; use slope_scale: linear"):
        check_claims(lab.replication(test, grids=grids, scales={}), "laptop")


def test_a_grid_that_a_scale_leaves_out_stops_a_claim_but_not_a_variant(lab):
    wide = lab.test(arm={"grid": "wide", "width": 10, "weight_decay": 0.01}, minus=None)
    with pytest.raises(InputError, match="there is no grid wide at gpu scale"):
        check_claims(lab.replication(wide), "gpu")
    check_claims(lab.replication({"also": [{"label": "wide", **wide}]}), "gpu")
    typo = {"label": "typo", "arm": {"decay": "onn"}}
    with pytest.raises(InputError, match=r"claim decay-helps: also 'typo': arm .*decay is one of"):
        check_claims(lab.replication({"also": [typo]}), "gpu")


def test_equal_runs_of_two_grids_are_one(lab):
    same = {
        "label": "again",
        "axes": {"learning_rate": [0.3], "decay": {"on": {"decay": {"weight_decay": 0.01}}}, "seed": list(range(6))},
    }
    grids = {"mlp": lab.replication().grids["mlp"].model_dump(exclude_none=True), "again": same}
    rep = lab.replication(lab.test(arm={"decay": "on", "learning_rate": 0.3}), grids=grids, scales={})
    lab.fill(rep, "laptop", errors)
    assert judged(lab, rep)[0].n == 6


def test_a_missing_metric_names_the_claim(lab):
    with pytest.raises(InputError) as error:
        claim_of(lab, lab.test(metric="tset_error", name="typo"), rows=[{"step": 100, "train_error": 0.1}])
    assert "replication.yaml: claim decay-helps: test 'typo': metric tset_error: not in run mlp-" in str(error.value)
    assert "which has test_error, train_error" in str(error.value)


def test_runs_older_than_the_claims_text_are_named(lab):
    rep = lab.replication()
    lab.fill(rep, "laptop", errors, started_at="2020-01-01T00:00:00+00:00")
    assert judged(lab, rep)[0].registered_before_runs is False
    assert judged(lab, lab.replication())[0].registered_before_runs is False, "judging again mends nothing"


LONG = {
    "mlp": {
        "label": "MLP",
        "axes": {
            "decay": {"off": {"decay": {"weight_decay": 0.0}}, "on": {"decay": {"weight_decay": 0.01}}},
            "seed": [3, 1],
        },
    }
}
TWELVE = {"mlp": LONG["mlp"] | {"axes": LONG["mlp"]["axes"] | {"seed": list(range(12))}}}
ARMS = {"arm": {"grid": "mlp", "decay": "on"}, "minus": {"grid": "mlp", "decay": "off"}}


def added(lab, rep, count):
    """(spec, parameters) of `count` seeds of each arm, which are recorded as added."""
    arms = {arm_key({"grid": "mlp", "decay": decay}): count for decay in ("on", "off")}
    with changing_seeds(lab.workspace()) as record:
        record.seeds["tiny"] = arms
    return [(spec, p) for spec, p, _ in expand(rep, "laptop", seeds=arms)]


def seeds_of(lab, count, gain, **claim):
    """A claim that is judged at looks, with `count` seeds in planned order: 3, 1, then 4, 5, 6 ..."""
    rep = lab.replication({"looks": {"laptop": list(LOOKS)}} | lab.test(**ARMS) | claim, grids=LONG, scales={})
    order = [3, 1, *range(4, 40)]
    for spec, p in added(lab, rep, count):
        lab.run(spec, {"test_error": 0.5 - (p["decay"] == "on") * gain[order.index(p["seed"])]})
    return judged(lab, rep)[0]


def test_a_claim_is_judged_at_looks_and_in_between_its_verdict_stands(lab):
    gain = [0.04 + 0.01 * (-1) ** seed for seed in range(40)]
    before = seeds_of(lab, 5, gain)
    assert (before.verdict, before.n, before.interval) == ("inconclusive", 5, None)
    assert before.reason == "5 of 6 seeds are complete; it is first judged after 1 more seed (about 0.1 minutes)"
    first = seeds_of(lab, 6, gain)
    assert (first.verdict, first.n) == ("reproduced", 6)
    assert [(look.n, look.interval) for look in first.parts[0].looks] == [(6, first.interval)]
    assert first.interval == pytest.approx(value_interval([-item for item in gain[:6]], "continuous")[1])
    between = seeds_of(lab, 9, gain)
    assert between.to_json() == first.to_json()
    later = seeds_of(lab, 10, gain)
    assert [look.n for look in later.parts[0].looks] == [6, 10]
    assert (later.verdict, later.parts[0].decided_at) == ("reproduced", 6)
    assert [entry.seed for entry in later.parts[0].seeds] == [3, 1, 4, 5, 6, 7, 8, 9, 10, 11]
    assert later.planned_looks == list(LOOKS)


def test_an_effect_as_large_as_the_smallest_that_matters_is_named(lab):
    gain = [0.04 + 0.01 * (-1) ** seed for seed in range(40)]
    claim = seeds_of(lab, 32, gain, **lab.test(**ARMS, smallest_effect=0.04))
    assert (claim.verdict, claim.outlook.seeds) == ("inconclusive", None)
    assert "the estimate -0.04 lies too close to the smallest effect that matters (-0.04)" in claim.reason


def test_looks_that_contradict_each_other_leave_a_claim_open(lab):
    gain = [0.5 + 0.001 * (-1) ** seed for seed in range(6)] + [-2.0, -2.001] * 17
    claim = seeds_of(lab, 32, gain)
    assert (claim.verdict, claim.interval) == ("inconclusive", None)
    assert "the looks' intervals have no point in common" in claim.reason


def test_a_seed_that_is_missing_holds_up_those_behind_it(lab):
    gain = [0.04 + 0.02 * (-1) ** seed for seed in range(40)]
    rep = lab.replication({"looks": {"laptop": [6, 10]}} | lab.test(**ARMS), grids=LONG, scales={})
    for spec, p in added(lab, rep, 10):
        if p["seed"] != 8:
            lab.run(spec, {"test_error": 0.5 - (p["decay"] == "on") * gain[p["seed"]]})
    assert [look.n for look in judged(lab, rep)[0].parts[0].looks] == [6]


def test_a_seed_without_a_number_keeps_what_was_decided_before_it(lab):
    rep = lab.replication(
        {"looks": {"laptop": [6, 10]}} | lab.test(**ARMS, metric="weight_norm"), grids=LONG, scales={}
    )
    for spec, p in added(lab, rep, 10):
        norm = 3.0 - (p["decay"] == "on") * (1 + 0.1 * p["seed"])
        lab.run(spec, {"weight_norm": None if p["seed"] == 9 else norm})
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.n) == ("reproduced", 6)


def test_equal_differences_of_a_metric_of_0_and_1_have_an_exact_interval(lab):
    """Two seeds of -1 were once reproduced; six that rescue nothing prove nothing."""
    diverged = lab.test(**ARMS, metric="diverged", smallest_effect=0.25)
    rep = lab.replication(diverged, grids=TWELVE, scales={})
    for spec, _, _ in expand(rep, "laptop"):
        lab.run(spec, {"test_error": 0.1}, diverged_at_step=None)
    (claim,) = judged(lab, rep)
    low, high = claim.interval
    assert (claim.verdict, claim.estimate) == ("inconclusive", 0.0)
    assert low == pytest.approx(-high)
    assert high > 0.3
    for spec, p, _ in expand(rep, "laptop"):
        lab.run(spec, {"test_error": 0.1}, diverged_at_step=50 if p.get("decay") == "off" else None)
    (claim,) = judged(lab, rep)
    assert (claim.verdict, claim.estimate) == ("reproduced", -1.0)
    assert claim.interval[1] < -0.25
    assert claim.interval[0] == -1


CONDITION = {
    "name": "no run without decay diverges",
    "metric": "diverged",
    "among": {"grid": "mlp", "decay": "off", "learning_rate": 0.3},
    "expect": "above 0.2",
}


def test_a_failed_precondition_makes_a_claim_untestable_whichever_way_it_comes_out(lab):
    for direction in ("below", "above"):
        claim = claim_of(lab, {"preconditions": [CONDITION]} | lab.test(direction=direction))
        assert (claim.verdict, claim.reason) == ("not testable here", "no run without decay diverges")
        assert claim.parts[0].verdict == "not testable here"
        assert claim.estimate == pytest.approx(-0.04), "it is shown all the same"
        assert [(item.value, item.fails) for item in claim.preconditions] == [(0.0, True)]
        assert (claim.p_value, claim.tests_judged) == (None, 0)
    rep = lab.replication({"preconditions": [CONDITION | {"expect": "below 0.2"}]})
    assert judged(lab, rep)[0].verdict == "reproduced"


def test_a_precondition_is_not_known_before_it_can_be_judged(lab):
    rep = lab.replication({"preconditions": [CONDITION]})
    assert (judged(lab, rep)[0].verdict, judged(lab, rep)[0].preconditions[0].value) == ("not run", None)


def test_a_precondition_of_the_regime_needs_no_run(lab):
    condition = CONDITION | {"name": "the norm cannot settle", "metric": "regime.decay_exponent", "expect": "above 1"}
    on = condition | {"among": CONDITION["among"] | {"decay": "on"}}
    rep = lab.replication({"preconditions": [on]})
    claim = judged(lab, rep)[0]
    # learning rate 0.3 x decay 0.01 x 100 steps
    assert claim.preconditions[0].value == pytest.approx(0.3)
    assert (claim.verdict, claim.reason) == ("not testable here", "the norm cannot settle")
    typo = on | {"metric": "regime.exponent"}
    with pytest.raises(
        InputError, match=r"precondition 'the norm cannot settle': metric: expected regime.NAME with one"
    ):
        judged(lab, lab.replication({"preconditions": [typo]}))
    with pytest.raises(InputError, match="decay is one of 'off', 'on'"):
        check_claims(lab.replication({"preconditions": [on | {"among": {"grid": "mlp", "decay": "no"}}]}), "laptop")


def test_a_precondition_keeps_its_own_value_where_a_variant_takes_the_best(lab):
    best = {"label": "each at its best learning rate", "arm": {"learning_rate": "best"}}
    other = {"label": "small learning rate", "arm": {"learning_rate": 0.1}}
    claim = claim_of(lab, {"preconditions": [CONDITION], "also": [best, other]})
    assert [item.verdict for item in claim.also] == ["not testable here", "not testable here"]
    assert [item.preconditions[0].value for item in claim.also] == [0.0, 0.0]


def test_networks_that_disagree_are_named(lab):
    small = {"label": "small learning rate", "arm": {"learning_rate": 0.1}}
    other = {"label": "another question"} | lab.test(
        arm={"grid": "wide", "weight_decay": 0.01, "width": 10}, minus=None
    )
    claim = claim_of(lab, {"also": [small, other]})
    assert claim.verdict == "reproduced"
    assert claim.disagrees == ["negligible for small learning rate"]
    assert claim.reason == "elsewhere: negligible for small learning rate"


def test_the_smallest_effect_that_the_seeds_could_show(lab):
    claim = claim_of(lab, {})
    part = claim.parts[0]
    deviation = upper_deviation(stats.tstd(GAIN), 6)
    assert part.detectable == pytest.approx(0.01 + margin(6, 0.95) * deviation)


def test_all_verdicts_of_a_scale_together(lab):
    rep = lab.replication(
        {}, {"id": "open"} | lab.test(smallest_effect=0.035), {"id": "elsewhere", "scales": ["paper"]}
    )
    lab.fill(rep, "laptop", errors)
    claims = judged(lab, rep)
    summary = summarise((claim.claim, claim) for claim in claims)
    assert (summary.claims, summary.tests, summary.decided) == (2, 2, 1)
    assert summary.false_verdicts == pytest.approx(0.1)
    assert summary.false_share == pytest.approx(0.1)
    assert summary.surviving == {"decay-helps"}
    assert claims[0].p_value < 0.01 < claims[1].p_value


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "contradicted"], "contradicted"),
        (["not run", "contradicted"], "contradicted"),
        (["not run", "negligible"], "negligible"),
        (["reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "not run"], "not run"),
        (["inconclusive", "not run"], "not run"),
        (["not run"], "not run"),
    ],
)
def test_several_tests(parts, verdict):
    assert combine(parts) == verdict


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("replications/*/replication.yaml")))
def test_every_claim_of_the_project_finds_its_arms(name):
    rep = load_replication(replication_file(ROOT, name))
    for scale in SCALES:
        check_claims(rep, scale)
