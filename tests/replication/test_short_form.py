"""The short form of claims means what the long form says, and every mistake in it is one line."""

import hashlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decaylab.errors import InputError
from decaylab.replication import Claim, Metric, Test, load_replication, short_form
from decaylab.replication.short_form import expand_claim

CLAIM = {
    "id": "decay-helps",
    "statement": "Decay helps.",
    "locator": "X",
    "unit": "test error (fraction)",
    "source_value": {"text": "none"},
    "scales": ["laptop"],
}
FILE = {
    "title": "Tiny",
    "question": "Does decay help?",
    "row": 1,
    "references": [{"id": "X", "title": "x", "url": "https://example.org", "locator": "1"}],
    "base": {},
    "grids": {},
}

NUMBERS = st.integers(1, 99).map(lambda number: number / 100)
NAMES = st.sampled_from(["test_error", "train_loss", "lost_updates.mlp", "weight_norm"])
AXES = ("grid", "schedule", "weight_decay", "learning_rate")
SCALARS = st.sampled_from([0, 0.1, "large", "none", 1.0])
SELECTIONS = st.dictionaries(st.sampled_from(AXES), SCALARS)
DIRECTIONS = st.sampled_from(["above", "below", "within"])


@st.composite
def metrics(draw) -> tuple[str, dict]:
    """A metric as people write it, and its fields."""
    name, log = draw(NAMES), draw(st.booleans())
    text, fields = ("log " if log else "") + name, {"name": name} | ({"log": True} if log else {})
    kind = draw(st.sampled_from(["end", "at", "over", "when"]))
    if kind == "at":
        at = draw(NUMBERS)
        return f"{text} at {at}", fields | {"at": at}
    if kind == "when":
        other, level = draw(NAMES), draw(NUMBERS)
        return f"{text} when {other} = {level}", fields | {"when": (other, level)}
    if kind == "over":
        low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True)))
        reduce = draw(st.sampled_from(["mean", "min", "max", "slope", None]))
        prefix = ("log " if log else "") + (f"{reduce} " if reduce else "")
        return f"{prefix}{name} over {low} to {high}", fields | {"over": (low, high)} | (
            {"reduce": reduce} if reduce else {}
        )
    return text, fields


@st.composite
def contrasts(draw, axes: int) -> dict:
    names = draw(st.lists(st.sampled_from(AXES), min_size=axes, max_size=axes, unique=True))
    return {name: draw(st.lists(SCALARS, min_size=2, max_size=2)) for name in names}


def expanded(claim: dict) -> list[Test]:
    return Claim.model_validate(expand_claim(CLAIM | claim, {}, {})).tests


def reading(arm: dict, metric: Metric) -> float:
    """A number that is different for every arm and metric."""
    text = json.dumps([sorted(arm.items()), metric.model_dump()])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


def value(test: Test) -> float:
    """What the long form says: the number of one seed."""
    if test.terms is not None:
        return sum(term.weight * reading(term.arm, term.metric or test.metric) for term in test.terms)
    return reading(test.arm, test.metric) - (reading(test.minus, test.metric) if test.minus is not None else 0)


@given(metrics(), SELECTIONS, NUMBERS)
def test_one_arm(metric, among, effect):
    (test,) = expanded({"metric": metric[0], "among": among, "expect": f"below {effect}"})
    assert test == Test(metric=metric[1], arm=among, direction="below", smallest_effect=effect)


@given(metrics(), SELECTIONS, contrasts(1), NUMBERS, DIRECTIONS)
def test_a_contrast_is_the_first_value_minus_the_second(metric, among, contrast, effect, direction):
    (test,) = expanded({"metric": metric[0], "among": among, "contrast": contrast, "expect": f"{direction} {effect}"})
    ((axis, (first, second)),) = contrast.items()
    assert test == Test(
        metric=metric[1],
        arm=among | {axis: first},
        minus=among | {axis: second},
        direction=direction,
        smallest_effect=effect,
    )


@given(metrics(), SELECTIONS, SELECTIONS, SELECTIONS)
def test_compare_and_against_are_two_selections(metric, among, compare, against):
    (test,) = expanded(
        {"metric": metric[0], "among": among, "compare": compare, "against": against, "expect": "above 0.1"}
    )
    assert (test.arm, test.minus) == (among | compare, among | against)


@given(metrics(), metrics(), SELECTIONS)
def test_a_difference_of_metrics(first, second, among):
    (test,) = expanded({"metric": f"{first[0]} - {second[0]}", "among": among, "expect": "below 0.1"})
    expected = reading(among, Metric(**first[1])) - reading(among, Metric(**second[1]))
    assert value(test) == pytest.approx(expected)


@given(metrics(), metrics(), SELECTIONS, contrasts(1))
def test_a_contrast_of_a_difference_of_metrics(first, second, among, contrast):
    (test,) = expanded(
        {"metric": f"{first[0]} - {second[0]}", "among": among, "contrast": contrast, "expect": "within 0.1"}
    )
    ((axis, (left, right)),) = contrast.items()
    one, other = Metric(**first[1]), Metric(**second[1])

    def gap(label):
        return reading(among | {axis: label}, one) - reading(among | {axis: label}, other)

    assert value(test) == pytest.approx(gap(left) - gap(right))


@given(metrics(), SELECTIONS, contrasts(2))
def test_two_axes_are_a_difference_of_differences(metric, among, contrast):
    (test,) = expanded({"metric": metric[0], "among": among, "contrast": contrast, "expect": "below 0.1"})
    (one, (a, b)), (other, (c, d)) = contrast.items()

    def read(left, right):
        return reading(among | {one: left, other: right}, Metric(**metric[1]))

    assert value(test) == pytest.approx((read(a, c) - read(b, c)) - (read(a, d) - read(b, d)))


@given(DIRECTIONS, NUMBERS, st.booleans())
def test_expect(direction, effect, seeds):
    (test,) = expanded({"metric": "diverged", "expect": f"{direction} {effect}" + (" of seeds" if seeds else "")})
    assert (test.direction, test.smallest_effect) == (direction, effect)
    assert test.kind == ("proportion" if seeds else "mean")


@given(metrics(), SELECTIONS, SELECTIONS, NUMBERS)
def test_a_test_takes_from_its_claim_what_it_does_not_say(metric, among, own, effect):
    shared = {"metric": metric[0], "among": among, "expect": f"below {effect}", "reference": 0.5}
    first, second, third = expanded(
        shared | {"tests": [{"among": own}, {"metric": "max_weight", "reference": None}, {"expect": "above 0"}]}
    )
    assert (first.metric, first.arm, first.reference) == (Metric(**metric[1]), among | own, 0.5)
    assert (second.metric, second.arm, second.reference) == (Metric(name="max_weight"), among, 0.0)
    assert (third.direction, third.smallest_effect) == ("above", 0)


@given(SELECTIONS, SELECTIONS)
def test_variants(among, arm):
    def also(*variants, **named):
        claim = CLAIM | {
            "metric": "test_error",
            "among": among,
            "tests": [{"name": "a", "expect": "below 0.1"}, {"name": "b", "metric": "train_loss", "expect": "above 1"}],
            "also": list(variants),
        }
        return Claim.model_validate(expand_claim(claim, {}, named)).also

    (elsewhere,) = also("vgg", vgg={"label": "VGG", "arm": arm})
    assert (elsewhere.label, elsewhere.arm, elsewhere.tests) == ("VGG", arm, None)
    (changed,) = also({"label": "L", "among": arm})
    assert [(test.name, test.metric.name, test.arm) for test in changed.tests] == [
        ("a", "test_error", among | arm),
        ("b", "train_loss", among | arm),
    ]
    (own,) = also({"label": "L", "metric": "weight_norm", "expect": "within 0.2"})
    assert own.tests == [Test(metric={"name": "weight_norm"}, arm=among, direction="within", smallest_effect=0.2)]


@given(SELECTIONS)
def test_the_long_form_stays_as_it_is(arm):
    test = {"metric": {"name": "test_error", "at": 0.5}, "arm": arm, "direction": "within", "smallest_effect": 0.5}
    claim = expand_claim(CLAIM | {"tests": [test]}, {"metric": "train_loss", "among": {"grid": "main"}}, {})
    assert claim["tests"] == [test]


GOOD = CLAIM | {"metric": "test_error", "among": {"grid": "main"}, "expect": "below 0.1"}


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"metric": None}, "metric", "this key is required"),
        ({"expect": None}, "expect", "this key is required"),
        ({"metric": "train_loss at noon"}, "metric", "expected a metric such as `train_loss at 0.5`"),
        ({"metric": "mean train_loss"}, "metric", "mean needs `over`"),
        ({"metric": {"name": "train_loss"}}, "metric", "expected a metric such as"),
        ({"expect": "less than 0.1"}, "expect", "expected above, below or within and a number"),
        ({"expect": 0.1}, "expect", "expected above, below or within and a number"),
        ({"among": ["main"]}, "among", "expected a mapping of parameters, got ['main']"),
        ({"contrast": "decay"}, "contrast", "expected {axis: [value, other]}, got 'decay'"),
        ({"contrast": {"decay": [0, 1, 2]}}, "contrast.decay", "expected two values, got [0, 1, 2]"),
        ({"contrast": {"a": [0, 1], "b": [0, 1], "c": [0, 1]}}, "contrast", "expected at most two axes"),
        ({"compare": {"a": 0}}, "compare", "compare and against go together"),
        ({"against": {"a": 0}}, "against", "compare and against go together"),
        ({"compare": {"a": 0}, "against": 1}, "against", "expected a mapping of parameters, got 1"),
        ({"terms": {"weight": 1}}, "terms", "expected a list"),
        ({"terms": [{"arm": {}}]}, "terms.0", "expected among, weight and metric"),
        ({"terms": [{"metric": "a b c"}]}, "terms.0.metric", "expected a metric such as"),
        ({"terms": [{}], "contrast": {"a": [0, 1]}}, "terms", "not beside a contrast"),
        ({"best_by": "mean a"}, "best_by", "mean needs `over`"),
        ({"tests": {"name": "n"}}, "tests", "expected a list"),
        ({"tests": ["n"]}, "tests.0", "expected a mapping of keys, got 'n'"),
        ({"tests": [{}, {"expct": "below 1"}]}, "tests.1.expct", "unknown key, expected one of against, among"),
        ({"also": ["vgg"]}, "also.0", "expected one of no variants, got 'vgg'"),
        ({"also": [{"label": "L", "arm": {}, "expect": "below 1"}]}, "also.0", "expect: not beside `arm`"),
        ({"also": [{"label": "L", "contrast": {"a": [0]}}]}, "also.0.contrast.a", "expected two values"),
    ],
)
def test_a_wrong_short_form_is_one_line(tmp_path, changes, key, words):
    claim = {name: item for name, item in (GOOD | changes).items() if item is not None}
    path = tmp_path / "replications" / "tiny" / "replication.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(FILE | {"claims": [GOOD | {"id": "good"}, claim]}, sort_keys=False))
    with pytest.raises(InputError) as error:
        load_replication(path)
    message = str(error.value)
    assert "\n" not in message
    place, _, rest = message.partition(": claim decay-helps: ")
    assert rest.startswith(f"{key}: ")
    assert words in rest
    file, _, number = place.rpartition(":")
    assert file == str(path)
    lines = path.read_text().splitlines()
    assert int(number) > lines.index("- id: decay-helps"), "the line is in the claim that is wrong"
    leaf = key.rpartition(".")[2]
    if not leaf.isdecimal() and any(f"{leaf}:" in line for line in lines[lines.index("- id: decay-helps") :]):
        assert f"{leaf}:" in lines[int(number) - 1]


def test_the_settings_among_which_the_best_is_chosen_reach_the_test():
    """They were dropped, so a claim about the best decay above zero could choose zero."""
    among = {"weight_decay": [0.1, 0.3]}
    (test,) = expanded(
        {
            "metric": "test_error",
            "contrast": {"weight_decay": ["best", 0]},
            "best_by": "validation_loss",
            "best_among": among,
            "expect": "below 0.005",
        }
    )
    assert test.best_among == among


@pytest.mark.parametrize("key", sorted(short_form._KEPT))
def test_every_key_that_both_forms_have_is_a_field_of_the_test(key):
    assert key in Test.model_fields
