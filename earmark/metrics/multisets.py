"""Groups with equal contents, so that statistics are computed once for all of them.

Items with the same votes by the same raters have the same posterior, and clips with the same ratings contribute the
same sums. There are far fewer different contents than groups.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int64]

MAX_SPREAD = 8  # largest range of keys, in keys, that is ranked by counting instead of sorting
MIN_GROUPS = 1000  # groups that are worth comparing
MAX_FLAGS = 1 << 26  # flags of pairs in memory, 64 MB; more pairs are sorted


def multiset_ids(group: ArrayLike, code: ArrayLike, n_groups: int) -> IntArray:
    """Number the groups so that two groups have the same number if and only if they hold the same codes.

    Parameters
    ----------
    group : (n,) int
        Group of each element, 0 … n_groups − 1.
    code : (n,) int
        Code of each element, from 0. A code may occur several times in a group; the order does not matter.
    n_groups : int

    Returns
    -------
    (n_groups,) int
        Numbers from 0 without gaps; groups without elements share one.

    Examples
    --------
    >>> multiset_ids([0, 0, 1, 2, 2], [5, 3, 5, 3, 5], 4).tolist()
    [2, 1, 2, 0]
    """
    g, c = np.asarray(group, dtype=np.int64), np.asarray(code, dtype=np.int64)
    n_codes = int(c.max(initial=-1)) + 1
    ordered = np.sort(g * n_codes + c) % max(n_codes, 1)  # codes of each group in order, group after group
    sizes = np.bincount(g, minlength=n_groups)
    starts = np.cumsum(sizes) - sizes
    result = np.zeros(n_groups, dtype=np.int64)
    prefix = np.zeros(n_groups, dtype=np.int64)  # number of the codes read so far, among groups of this length or more
    offset, position, longer = 1, 0, np.flatnonzero(sizes)
    while len(longer):
        prefix[longer] = dense_ranks(prefix[longer] * n_codes + ordered[starts[longer] + position])
        position += 1
        ended = longer[sizes[longer] == position]
        result[ended] = prefix[ended] + offset
        offset += int(prefix[longer].max()) + 1
        longer = longer[sizes[longer] > position]
    return dense_ranks(result)


def equal_contents(group: ArrayLike, code: ArrayLike, n_groups: int) -> IntArray:
    """Number the groups by their codes as `multiset_ids`, but few groups each by its own number.

    With few groups there is nothing to save, and sums over them keep their order.

    Parameters
    ----------
    group, code : (n,) int
    n_groups : int

    Returns
    -------
    (n_groups,) int
        Numbers from 0 without gaps.

    Examples
    --------
    >>> equal_contents([0, 1, 2], [5, 3, 5], 3).tolist()
    [0, 1, 2]
    """
    return np.arange(n_groups) if n_groups < MIN_GROUPS else multiset_ids(group, code, n_groups)


def dense_ranks(values: ArrayLike) -> IntArray:
    """Rank of each value among the distinct values, from 0.

    Parameters
    ----------
    values : (n,) int
        Not negative.

    Returns
    -------
    (n,) int

    Examples
    --------
    >>> dense_ranks([70, 10, 70, 30]).tolist()
    [2, 0, 2, 1]
    """
    keys = np.asarray(values, dtype=np.int64)
    if not len(keys):
        return keys
    if int(keys.max()) < MAX_SPREAD * len(keys):
        return (np.cumsum(np.bincount(keys) > 0) - 1)[keys]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64).ravel()


def first_of_each(ids: IntArray) -> IntArray:
    """Position of the first element with each number.

    Parameters
    ----------
    ids : (n,) int
        Numbers from 0 without gaps.

    Returns
    -------
    (n_numbers,) int

    Examples
    --------
    >>> first_of_each(np.array([1, 0, 1])).tolist()
    [1, 0]
    """
    first = np.zeros(int(ids.max(initial=-1)) + 1, dtype=np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]  # the last assignment remains
    return first


def distinct_members(group: ArrayLike, member: ArrayLike, n_groups: int, n_members: int) -> IntArray:
    """Number of different members of each group.

    Parameters
    ----------
    group, member : (n,) int
        From 0 to n_groups − 1 and n_members − 1.
    n_groups, n_members : int

    Returns
    -------
    (n_groups,) int

    Examples
    --------
    >>> distinct_members([0, 0, 0, 1], [5, 5, 2, 5], 3, 6).tolist()
    [2, 1, 0]
    """
    keys = np.asarray(group, dtype=np.int64) * n_members + np.asarray(member, dtype=np.int64)
    if n_groups * n_members > max(MAX_FLAGS, MAX_SPREAD * len(keys)):
        return np.bincount(np.unique(keys) // max(n_members, 1), minlength=n_groups)
    seen = np.zeros(n_groups * n_members, dtype=bool)
    seen[keys] = True
    return np.asarray(seen.reshape(n_groups, n_members).sum(axis=1), dtype=np.int64)
