from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from decaylab.probes.token_frequency import frequency_bins


def test_bins_by_the_share_of_more_frequent_tokens():
    """Ten tokens: 5 x a, 3 x b, 1 x c, 1 x d; e never occurs."""
    tokens = torch.tensor([0] * 5 + [1] * 3 + [2, 3])
    assert frequency_bins(tokens, 5).tolist() == [0, 1, 1, 2, 2]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60))
def test_a_bin_never_holds_a_more_frequent_token_than_the_one_before(tokens):
    bins = frequency_bins(torch.tensor(tokens), 8).tolist()
    counts = Counter(tokens)
    for token, place in enumerate(bins):
        assert all(counts[token] <= counts[other] for other in range(8) if bins[other] < place)
        more = sum(count for other, count in counts.items() if (-count, other) < (-counts[token], token))
        assert place == (more >= 0.5 * len(tokens)) + (more >= 0.9 * len(tokens))
