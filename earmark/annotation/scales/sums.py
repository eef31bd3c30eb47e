"""Sums over the items of each clip, and estimates of many groups from the same sums.

`Bootstrap` resamples clips, so contributions are added up by clip once. Memory then grows with the number of clips and
not with the number of ratings.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from earmark.metrics.bootstrap import Bootstrap, Contributions, Units
from earmark.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK_VALUES = 5_000_000  # contributions in memory at once, 40 MB
DENSE_VALUES = 20_000_000  # sums by clip that are kept as a dense array, 160 MB


def chunks(n: int, width: int) -> list[slice]:
    """Slices of n rows of `width` values, each of at most CHUNK_VALUES values."""
    step = max(1, CHUNK_VALUES // max(width, 1))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def clip_bootstrap(bootstrap: Bootstrap) -> Bootstrap:
    """The same replicates for contributions that are already summed by clip."""
    return replace(bootstrap, unit=np.arange(bootstrap.n_units))


def selected(bootstrap: Bootstrap, items: NDArray[np.bool_]) -> Bootstrap:
    """Bootstrap of some items. items: (n,) bool. Without a copy of the replicates where all items are selected."""
    return bootstrap if items.all() else bootstrap.take(np.flatnonzero(items))


def units_of_items(bootstrap: Bootstrap, item: IntArray) -> Units:
    """Number of clips of items. item: (n,) int, which may repeat."""
    return Units(len(np.unique(bootstrap.unit[item])), bootstrap.name)


def sums_by_clip(
    counts: IntArray, bootstrap: Bootstrap, contributions: Callable[[IntArray], FloatArray]
) -> Contributions:
    """Add up the contributions of items by clip.

    Parameters
    ----------
    counts : (items, q) int
        What the contributions are computed from.
    bootstrap : Bootstrap
        Bootstrap over the clips of the items.
    contributions : callable
        Maps (m, q) counts to (m, d) contributions.

    Returns
    -------
    (n_clips, d) array or sparse array
    """
    width = contributions(np.zeros((1, counts.shape[1]), dtype=np.int64)).shape[1]
    shape = (bootstrap.n_units, width)
    is_sparse = shape[0] * shape[1] > DENSE_VALUES
    total = sparse.csr_array(shape) if is_sparse else np.zeros(shape)
    for part in chunks(len(counts), width):
        values = contributions(counts[part])
        unit = bootstrap.unit[part]
        membership = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))), shape=(shape[0], len(unit)))
        total = total + membership @ (sparse.csr_array(values) if is_sparse else values)
    return total


def group_sums(
    bootstrap: Bootstrap, item: IntArray, group: IntArray, n_groups: int, columns: Sequence[ArrayLike]
) -> Contributions:
    """Add up values by clip and group, such as rater or pair of raters.

    Parameters
    ----------
    bootstrap : Bootstrap
        Bootstrap over the clips of all items.
    item, group : (n,) int
        Item and group of each entry.
    n_groups : int
    columns : sequence of (n,) float
        Values of each entry.

    Returns
    -------
    (n_clips, n_groups · len(columns)) array or sparse array
        The columns of a group lie side by side.
    """
    return cell_sums(
        bootstrap, item, [(group * len(columns) + at, x) for at, x in enumerate(columns)], n_groups * len(columns)
    )


def cell_sums(
    bootstrap: Bootstrap, item: IntArray, entries: Sequence[tuple[IntArray, ArrayLike]], width: int
) -> Contributions:
    """Add up values by clip and column.

    Parameters
    ----------
    bootstrap : Bootstrap
    item : (n,) int
        Item of each entry.
    entries : sequence of ((n,) int, (n,) float)
        Column and value of each entry; several values of an entry are several members of the sequence.
    width : int
        Number of columns.

    Returns
    -------
    (n_clips, width) array or sparse array
    """
    unit, shape = bootstrap.unit[item], (bootstrap.n_units, width)
    if shape[0] * shape[1] <= DENSE_VALUES:
        dense = np.zeros(shape[0] * shape[1])
        for column, value in entries:
            dense += np.bincount(unit * width + column, np.broadcast_to(value, unit.shape), len(dense))
        return dense.reshape(shape)
    total = sparse.csr_array(shape)
    for column, value in entries:
        values = np.broadcast_to(np.asarray(value, dtype=float), unit.shape)
        total = total + sparse.coo_array((values, (unit, column)), shape=shape).tocsr()
    return total


def units_of_groups(bootstrap: Bootstrap, item: IntArray, group: IntArray, n_groups: int, name: str) -> list[Units]:
    """Number of clips of each group's entries. item, group: (n,) int; name: completes the name of the units."""
    distinct = np.unique(group * np.int64(max(bootstrap.n_units, 1)) + bootstrap.unit[item])
    clips = np.bincount(distinct // max(bootstrap.n_units, 1), minlength=n_groups)
    return [Units(int(n), f"{bootstrap.name} {name}") for n in clips]


def estimate_columns(name: str, estimates: Sequence[Estimate]) -> dict[str, list[float]]:
    """Columns of a table: values under the name, ends of the intervals under <name>_low and <name>_high."""

    def numbers(field: str) -> list[float]:
        return [np.nan if getattr(e, field) is None else getattr(e, field) for e in estimates]

    return {name: numbers("value"), f"{name}_low": numbers("low"), f"{name}_high": numbers("high")}
