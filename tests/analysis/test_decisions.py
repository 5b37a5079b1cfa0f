"""The rule that turns an interval into an outcome, as properties that hold for all intervals."""

from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.looks import Test, decide
from decaylab.analysis.statistics import rate_interval

numbers = st.floats(-100, 100)
widths = st.floats(0, 100)
effects = st.floats(0.01, 50)
directions = st.sampled_from(["above", "below", "within"])
kinds = st.sampled_from(["mean", "proportion"])


def outcome(interval, direction, effect, kind="mean"):
    return decide(interval, Test(direction, effect, kind), 6)


def test_six_seeds_are_needed_to_show_that_a_majority_diverges():
    assert outcome(rate_interval(5, 5)[1], "above", 0.5, "proportion") == "inconclusive"
    assert outcome(rate_interval(6, 6)[1], "above", 0.5, "proportion") == "reproduced"


@given(numbers, widths, directions, effects, kinds, st.floats(0.01, 100))
def test_units_do_not_matter(low, width, direction, effect, kind, scale):
    interval = (low, low + width)
    verdict = outcome(interval, direction, effect, kind)
    if all(abs(abs(end) - effect) > 1e-9 * effect and abs(end) > 1e-9 for end in interval):
        assert outcome(tuple(end * scale for end in interval), direction, effect * scale, kind) == verdict


@given(numbers, widths, widths, widths, directions, effects, kinds)
def test_a_wider_interval_says_the_same_or_nothing(low, width, left, right, direction, effect, kind):
    narrow = outcome((low, low + width), direction, effect, kind)
    wide = outcome((low - left, low + width + right), direction, effect, kind)
    # an effect on the wrong side of 0 may also be shown to be too small to matter
    assert wide in (narrow, "inconclusive") or (narrow, wide) == ("contradicted", "negligible")


@given(numbers, widths, effects)
def test_opposite_claims_never_both_hold(low, width, effect):
    interval = (low, low + width)
    above, below = (outcome(interval, direction, effect) for direction in ("above", "below"))
    assert (above, below) != ("reproduced", "reproduced")
    assert (above == "reproduced") <= (below == "contradicted")
    within = outcome(interval, "within", effect)
    assert (above == "reproduced" or below == "reproduced") == (within == "contradicted")
    mirrored = outcome((-interval[1], -interval[0]), "below", effect)
    assert mirrored == above


@given(numbers, widths, directions, effects, effects)
def test_asking_for_more_never_reproduces_more(low, width, direction, effect, more):
    if direction == "within":
        return
    interval = (low, low + width)
    if outcome(interval, direction, effect + more) == "reproduced":
        assert outcome(interval, direction, effect) == "reproduced"
