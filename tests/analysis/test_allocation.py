import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.analysis.allocation import OpenClaim, Run, next_step, with_parents

LOOKS = (6, 10, 16)


def arm(name, look):
    return frozenset(f"{name}-{seed}" for seed in range(look))


def claim(name, arms, chances=(0.5, 0.6, 0.7), variant=False, looks=LOOKS):
    needed = {look: frozenset().union(*(arm(each, look) for each in arms)) for look in looks}
    return OpenClaim(name, needed, dict(zip(looks, chances, strict=True)), variant)


def runs(seconds, parents=None):
    return {
        f"{name}-{seed}": Run(cost, (f"{parents[name]}-{seed}",) if parents and name in parents else ())
        for name, cost in seconds.items()
        for seed in range(16)
    }


def test_the_cheapest_decision_comes_first():
    claims = [claim("dear", ["slow"]), claim("cheap", ["fast"])]
    step = next_step(claims, runs({"slow": 10, "fast": 1}), ())
    assert (step.claim, step.look, step.seconds) == ("cheap", 6, 6)
    assert step.runs == tuple(f"fast-{seed}" for seed in range(6))


def test_runs_that_claims_share_count_once_and_for_all_of_them():
    claims = [claim("one", ["a", "b"]), claim("two", ["a", "b"]), claim("alone", ["c"])]
    step = next_step(claims, runs({"a": 1, "b": 1, "c": 1.5}), ())
    assert step.seconds == 12
    assert step.reaches == {"one": 6, "two": 6}
    assert step.gain == pytest.approx(1.0)


def test_parents_are_paid_for_and_come_before_their_children():
    table = runs({"child": 1, "parent": 5}, {"child": "parent"})
    step = next_step([claim("c", ["child"])], table, ())
    assert step.seconds == 36
    assert all(step.runs.index(f"parent-{seed}") < step.runs.index(f"child-{seed}") for seed in range(6))
    later = next_step([claim("c", ["child"])], table, arm("parent", 16))
    assert later.seconds == 6


def test_a_finished_run_needs_no_parent():
    table = runs({"child": 1, "parent": 5}, {"child": "parent"})
    step = next_step([claim("c", ["child"])], table, arm("child", 5))
    assert set(step.runs) == {"child-5", "parent-5"}


def test_a_look_further_off_is_taken_where_the_next_one_decides_nothing():
    step = next_step([claim("c", ["a"], chances=(0.0, 0.9, 0.9))], runs({"a": 1}), ())
    assert step.look == 10


def advanced(claim: OpenClaim, reached: int | None) -> OpenClaim:
    if reached is None:
        return claim
    looks = {look: needed for look, needed in claim.looks.items() if look > reached}
    chances = {look: chance for look, chance in claim.chances.items() if look > reached}
    return OpenClaim(claim.name, looks, chances, claim.variant)


def all_steps(claims, table, done):
    """The steps that follow each other if no claim is ever decided."""
    left, there, steps = list(claims), set(done), []
    while (step := next_step(left, table, there)) is not None:
        steps.append(step)
        there.update(step.runs)
        left = [advanced(claim, step.reaches.get(claim.name)) for claim in left]
    return steps


def test_hopeless_claims_get_no_seeds():
    assert next_step([claim("c", ["a"], chances=(0.01, 0.02, 0.02))], runs({"a": 1}), ()) is None


def test_a_step_that_does_not_fit_the_time_is_not_begun():
    claims = [claim("dear", ["slow"], chances=(1, 1, 1)), claim("cheap", ["fast"], chances=(0.04, 0.04, 0.04))]
    table = runs({"slow": 10, "fast": 1})
    assert next_step(claims, table, ()).claim == "dear"
    assert next_step(claims, table, (), seconds=20).claim == "cheap"
    assert next_step(claims, table, (), seconds=5) is None


def test_variants_wait_until_no_claim_can_advance():
    claims = [claim("variant", ["fast"], variant=True), claim("claim", ["slow"])]
    table = runs({"slow": 10, "fast": 1})
    steps = all_steps(claims, table, ())
    kinds = [step.claim for step in steps]
    assert kinds == sorted(kinds), "all steps of `claim` before those of `variant`"
    assert kinds[-1] == "variant"


def test_a_look_that_is_reached_already_is_no_gain():
    there = claim("there", ["a"], chances=(1.0, 0.0, 0.0))
    step = next_step([there, claim("other", ["b"])], runs({"a": 1, "b": 1}), arm("a", 6))
    assert step.claim == "other"
    assert step.reaches == {"other": 6}


def test_a_run_without_a_price_is_an_error():
    with pytest.raises(KeyError):
        next_step([claim("c", ["a"])], {}, ())


costs = st.dictionaries(st.sampled_from("abcd"), st.floats(0.1, 20), min_size=4, max_size=4)
claims_of = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
        st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(lambda found: [claim(f"claim {i}", arms, chances, variant) for i, (arms, chances, variant) in enumerate(found)])
finished = st.sets(st.tuples(st.sampled_from("abcd"), st.integers(0, 15)).map(lambda pair: f"{pair[0]}-{pair[1]}"))


@given(claims_of, costs, finished)
def test_steps_train_each_run_once_and_all_that_they_promise(claims, seconds, done):
    table = runs(seconds, {"b": "a", "c": "b"})
    there, trained = set(done), []
    by_name = {each.name: each for each in claims}
    for step in all_steps(claims, table, done):
        for run in step.runs:
            assert all(parent in there for parent in table[run].parents), "parents first"
            there.add(run)
        trained += step.runs
        assert step.seconds == pytest.approx(sum(table[run].seconds for run in step.runs))
        assert step.gain >= 0.03
        assert all(by_name[name].looks[look] <= there for name, look in step.reaches.items())
    assert len(trained) == len(set(trained))
    assert not set(trained) & done


@given(claims_of, costs, finished)
def test_no_other_step_decides_more_for_its_cost(claims, seconds, done):
    table = runs(seconds)
    step = next_step(claims, table, done)
    for other in claims:
        if step is None or other.variant:
            continue
        for look, needed in other.looks.items():
            cost = sum(table[run].seconds for run in needed - done)
            own = other.chances[look]
            if cost and own >= 0.03:
                assert step.gain / step.seconds >= own / cost * (1 - 1e-9)


@given(claims_of, costs, finished)
def test_the_choice_does_not_depend_on_the_order_in_which_runs_finished(claims, seconds, done):
    table = runs(seconds)
    assert next_step(claims, table, sorted(done)) == next_step(claims, table, sorted(done, reverse=True))


def test_all_ancestors_are_found():
    table = {"a": Run(1), "b": Run(1, ("a",)), "c": Run(1, ("b",))}
    assert with_parents(["c"], table) == {"a", "b", "c"}
