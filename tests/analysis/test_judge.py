import json
import math
import subprocess
from pathlib import Path

import pytest
from scipy import stats

from decaylab.analysis.arms import check_claims
from decaylab.analysis.judge import judge
from decaylab.errors import InputError
from decaylab.replication import expand, load_replication, replication_file
from decaylab.workspace import SCALES

NOISE = [0.0, 0.004, -0.001]
"""what a seed adds to every arm"""
GAIN = [0.03, 0.04, 0.05]
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
    assert (claim.n, claim.unit, claim.direction) == (3, "test error (fraction)", "below")
    assert claim.difference_from_source == pytest.approx(0.0)
    (part,) = claim.parts
    assert [entry.value for entry in part.seeds] == pytest.approx(contrasts)
    assert [len(entry.runs) for entry in part.seeds] == [2, 2, 2]
    assert {run for entry in part.seeds for run in entry.runs} == set(claim.run_ids)
    assert claim.seconds == 12
    assert (claim.commits, claim.hardware, claim.reason) == (["abc123"], ["NVIDIA H200"], "")
    assert claim.registered_before_runs is True


def test_the_file_says_what_was_judged_and_does_not_change(lab):
    rep = lab.replication({}, {"id": "elsewhere", "scales": ["paper"]})
    lab.fill(rep, "laptop", errors)
    verdict = judge(rep, lab.workspace())
    path = verdict.write(lab.layout)
    assert path == lab.root / "results" / "verdicts" / "laptop" / "tiny.json"
    assert verdict.counts == {"reproduced": 1, "contradicted": 0, "inconclusive": 0, "not run": 1}
    assert verdict.expected_false_verdicts == pytest.approx(0.025)
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


def test_an_interval_across_the_smallest_effect_is_inconclusive_and_says_why(lab):
    claim = claim_of(lab, lab.test(smallest_effect=0.03))
    assert claim.verdict == "inconclusive"
    assert claim.reason == (
        "the interval -0.0648 to -0.0152 is neither wholly below -0.03 nor wholly on the other side of 0"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"direction": "within", "smallest_effect": 0.05}, "is neither inside nor outside -0.05 to 0.05"),
        ({"direction": "above", "minus": None, "reference": 0.3, "smallest_effect": 0}, "contains 0"),
    ],
)
def test_reasons_are_plain_words(lab, changes, reason):
    claim = claim_of(lab, lab.test(**changes))
    assert claim.verdict == "inconclusive"
    assert claim.reason.endswith(reason)


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
    assert claim.interval[0] == pytest.approx(0.025 ** (1 / 3))


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
        gone = p["seed"] == 1 and p.get("decay") == "off"
        lab.run(spec, {"weight_norm": None if gone else 3.0 - 2 * (p.get("decay") == "on")})
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.n, claim.estimate) == ("inconclusive", 2, -2)
    assert claim.reason == "weight_norm has no value for seed 1"


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
    assert judged(lab, rep)[0].verdict == "not run"
    assert judged(lab, rep)[0].reason == "6 of 6 runs are missing"
    lab.fill(rep, "laptop", errors, lambda p: p["seed"] == 0 or (p["seed"] == 1 and p.get("decay") == "on"))
    claim = judged(lab, rep)[0]
    assert (claim.verdict, claim.n, claim.interval) == ("inconclusive", 1, None)
    assert claim.reason == (
        "3 of 6 runs are missing; judged on the 1 of 3 seeds that are complete; one seed has no interval"
    )
    lab.fill(rep, "laptop", errors, lambda p: p["seed"] == 1)
    claim = judged(lab, rep)[0]
    assert claim.n == 2
    assert "judged on the 2 of 3 seeds" in claim.reason


def test_all_tests_must_hold(lab):
    good = lab.test()["tests"][0] | {"name": "error"}
    bad = good | {"name": "the other way", "direction": "above"}
    open_ = good | {"name": "by far", "smallest_effect": 0.04}
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
    assert (small.label, small.verdict, small.estimate) == ("small learning rate", "inconclusive", 0)
    assert (width.verdict, width.n) == ("contradicted", 3)
    claim = judged(lab, rep, "gpu")[0]
    assert claim.verdict == "reproduced"
    assert (claim.also[1].verdict, claim.also[1].reason) == ("not run", "gpu scale has no such runs")


def test_the_best_setting_is_chosen_without_the_seed_that_is_judged(lab):
    best = {"grid": "wide", "width": 10, "weight_decay": "best"}
    # weight decay 0.001 wins on seeds 0 and 1, but by a little; on seed 2 it loses by a lot
    table = {0.001: [0.20, 0.20, 0.50], 0.01: [0.21, 0.22, 0.23]}

    def final(p):
        return {"test_error": table[p["weight_decay"]][p["seed"]] if p["grid"] == "wide" else 0.3}

    claim = claim_of(lab, lab.test(arm=best, minus=None, reference=1.0), final=final)
    (part,) = claim.parts
    assert [item.values["weight_decay"] for item in part.chosen] == [0.01, 0.01, 0.001]
    assert [entry.value for entry in part.seeds] == pytest.approx([0.21 - 1, 0.22 - 1, 0.50 - 1])
    assert len(claim.run_ids) == 6, "the runs that were compared count too"


def test_best_of_two_axes_and_by_another_metric(lab):
    best = {"grid": "mlp", "learning_rate": "best", "decay": "best"}
    claim = claim_of(lab, lab.test(arm=best, minus=None, metric="train_error", best_by="test_error", reference=0.3))
    assert claim.parts[0].chosen[0].values == {"learning_rate": 0.3, "decay": "on"}
    assert claim.estimate == pytest.approx(10 * sum(NOISE) / 3)


def test_best_cannot_be_chosen_with_one_seed(lab):
    best = lab.test(arm={"grid": "wide", "width": 10, "weight_decay": "best"}, minus=None)
    claim = claim_of(lab, best, only=lambda p: p["seed"] == 0)
    assert (claim.verdict, claim.estimate) == ("inconclusive", None)
    assert "the best setting cannot be chosen with one seed" in claim.reason


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
    claim = claim_of(lab, test)
    logs = [math.log(0.01), math.log(0.01), math.log(0.001)]
    assert claim.estimate == pytest.approx(stats.linregress([1, 2, 3], logs).slope)
    assert claim.verdict == "reproduced"
    first = claim.parts[0].chosen[0]
    assert first.model_dump() == {
        "arm": {"grid": "wide", "weight_decay": "best", "width": 10},
        "seed": 0,
        "values": {"weight_decay": 0.01},
    }


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
        "axes": {"learning_rate": [0.3], "decay": {"on": {"decay": {"weight_decay": 0.01}}}, "seed": [0, 1, 2]},
    }
    grids = {"mlp": lab.replication().grids["mlp"].model_dump(exclude_none=True), "again": same}
    rep = lab.replication(lab.test(arm={"decay": "on", "learning_rate": 0.3}), grids=grids, scales={})
    lab.fill(rep, "laptop", errors)
    assert judged(lab, rep)[0].n == 3


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


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("replications/*/replication.yaml")))
def test_every_claim_of_the_project_finds_its_arms(name):
    rep = load_replication(replication_file(ROOT, name))
    for scale in SCALES:
        check_claims(rep, scale)
