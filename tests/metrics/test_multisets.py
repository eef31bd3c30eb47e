"""Numbers of groups with equal contents, against a dictionary of sorted tuples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.multisets import (
    MIN_GROUPS,
    dense_ranks,
    distinct_members,
    equal_contents,
    first_of_each,
    multiset_ids,
)

ELEMENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=30)


def contents(group, code, n_groups):
    return [tuple(sorted(c for g, c in zip(group, code, strict=True) if g == number)) for number in range(n_groups)]


@given(ELEMENTS)
def test_multiset_ids_equal_exactly_for_equal_contents(elements):
    group, code = [g for g, _ in elements], [c for _, c in elements]
    ids, held = multiset_ids(group, code, 6), contents(group, code, 6)
    assert sorted(set(ids.tolist())) == list(range(len(set(held))))
    assert all((ids[a] == ids[b]) == (held[a] == held[b]) for a in range(6) for b in range(6))


def test_multiset_ids_count_repeated_codes():
    assert multiset_ids([0, 0, 1], [4, 4, 4], 2).tolist() == [1, 0]


def test_multiset_ids_with_large_codes():
    assert multiset_ids([0, 1, 2], [10**9, 3, 10**9], 3).tolist() == [1, 0, 1]


@pytest.mark.parametrize("n_groups", [0, 3])
def test_multiset_ids_without_elements(n_groups):
    assert multiset_ids([], [], n_groups).tolist() == [0] * n_groups


@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_dense_ranks_match_unique(values):
    assert dense_ranks(values).tolist() == np.unique(values, return_inverse=True)[1].ravel().tolist()


@given(st.lists(st.integers(0, 4), max_size=20))
def test_first_of_each_is_first_position(values):
    ids = dense_ranks(values)
    assert first_of_each(ids).tolist() == [ids.tolist().index(number) for number in range(len(set(values)))]


def test_equal_contents_keeps_few_groups_apart():
    few, many = MIN_GROUPS - 1, MIN_GROUPS
    assert equal_contents(np.arange(few), np.zeros(few), few).tolist() == list(range(few))
    assert equal_contents(np.arange(many), np.zeros(many), many).tolist() == [0] * many


@given(ELEMENTS)
@pytest.mark.parametrize("flags", [0, 1000])
def test_distinct_members_match_sets(flags, elements):
    group, member = [g for g, _ in elements], [m for _, m in elements]
    expected = [len({m for g, m in elements if g == number}) for number in range(6)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earmark.metrics.multisets.MAX_FLAGS", flags)
        assert distinct_members(group, member, 6, 4).tolist() == expected
