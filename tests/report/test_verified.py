import pytest

from decaylab.errors import InputError
from decaylab.files import Layout, write_json
from decaylab.report.verified import Again, read_again, said_again


def test_what_verify_wrote_is_found_by_claim(clone):
    found = read_again(clone[1], "smoke")
    assert list(found) == ["tiny_run/decay-helps", "tiny_run/decay-hurts"]
    same, fresh = found["tiny_run/decay-helps"]
    assert (same.mode, same.verdict, same.estimate, same.n) == (
        "the same seeds with other rounding",
        "reproduced",
        -0.04,
        7,
    )
    assert not same.moved
    assert not fresh.moved  # undecided claims may only need more seeds
    assert found["tiny_run/decay-hurts"][0].moved
    assert read_again(clone[1], "paper") == {}


def test_a_damaged_file_is_one_line(tmp_path):
    layout = Layout(tmp_path)
    write_json(layout.verified("laptop"), [{"claim": "a/x"}])
    with pytest.raises(InputError, match=r"laptop\.json: expected a list of claims with mode"):
        read_again(layout, "laptop")


def test_the_sentence_counts_what_moved():
    def again(mode, verdict):
        return Again(mode, "reproduced", verdict, 0.1, 6)

    rounding, fresh = "the same seeds with other rounding", "fresh seeds"
    views = [
        {"again": [again(rounding, "reproduced"), again(fresh, "reproduced")]},
        {"again": [again(fresh, "contradicted"), again(fresh, "inconclusive")]},
        {"again": []},
    ]
    assert said_again(views) == (
        "Decided claims were judged again on other runs: with the same seeds with other rounding, 1 of 1 came out the "
        "same; with fresh seeds, 1 of 3 came out the same, 1 came out otherwise, 1 stayed undecided."
    )
    assert said_again(views[2:]) == ""
