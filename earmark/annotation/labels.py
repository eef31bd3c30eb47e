"""Ratings → labels: one row per item, with what most raters said.

A tie is not a majority: with `ties="exclude"` a tied item has no label. `ties="absent"` counts it as absent,
which is what emolia-bench published.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.options import Ties
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations


def item_counts(annotations: Annotations) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Items, votes, and which item each rating is of.

    Returns the items' keys sorted (items, key), votes (items, scale), and item codes (ratings,).
    """
    ratings, subset = annotations.ratings, annotations.subset
    item = ratings.groupby(list(subset.key), sort=True).ngroup().to_numpy(dtype=np.int64)
    items = ratings[list(subset.key)].drop_duplicates().sort_values(list(subset.key), ignore_index=True)
    counts = np.zeros((len(items), len(subset.scale)), dtype=np.int64)
    np.add.at(counts, (item, ratings["rating"].to_numpy()), 1)
    return items, counts, item


def majority_labels(annotations: Annotations, ties: Ties = "exclude") -> pd.DataFrame:
    """One row per item, sorted by key, with the columns that the subset lists; undefined cells are NA.

    majority_present: 1 where more raters say present than absent, 0 where fewer, NA for a tie (or 0, by `ties`).
    majority_rating: the most frequent rating, where no other is as frequent and it lies on the majority's side;
    else the (lower) median rating, with majority_rating_tie True. all_agree_*: at least two raters, all alike.
    soft_present: share of raters who said present.
    """
    subset = annotations.subset
    items, counts, item = item_counts(annotations)
    n = counts.sum(axis=1)
    present = counts[:, subset.first_present :].sum(axis=1)
    absent = n - present
    tied = present == absent
    majority = pd.array(present > absent, dtype="Int64")
    if ties == "exclude":
        majority[tied] = pd.NA
    unanimous = (n > 1) & (np.maximum(present, absent) == n)
    rating, from_median = _majority_rating(counts, present > absent, subset)
    rating[majority.isna()] = pd.NA
    from_median = from_median | majority.isna()
    expected = (items[subset.prior.column] == subset.prior.value).astype(int) if len(items) else pd.Series(dtype=int)
    columns = {
        **_timing_and_raters(annotations, item),
        "majority_rating_int": rating,
        "majority_rating_votes": counts.max(axis=1, initial=0),
        "majority_rating_tie": from_median,
        "majority_present": majority,
        "majority_present_votes": np.maximum(present, absent),
        "majority_present_tie": tied,
        **{f"{name}_votes": counts[:, code] for code, name in enumerate(subset.scale)},
        "majority_rating": rating.map(dict(enumerate(subset.scale)), na_action="ignore"),
        "all_agree_binary": unanimous,
        "all_agree_ordinal": (n > 1) & (counts.max(axis=1, initial=0) == n),
        subset.names["expected"]: expected,
        subset.names["matches_expected"]: pd.array(majority == expected.to_numpy(), dtype="boolean"),
        "benchmark_bucket": _buckets(n, unanimous, majority, subset),
        "n_raters": n,
        "flagged": _flagged(items, annotations),
        "soft_present": present / np.maximum(n, 1),
        "ds_present_probability": pd.array([pd.NA] * len(items), dtype="Float64"),
    }
    return items.assign(**{name: np.asarray(v) if isinstance(v, pd.Series) else v for name, v in columns.items()})


def _majority_rating(
    counts: NDArray[np.int64], present: NDArray[np.bool_], subset: Subset
) -> tuple["pd.arrays.IntegerArray", NDArray[np.bool_]]:
    if not len(counts):
        return pd.array([], dtype="Int64"), np.empty(0, dtype=bool)
    mode = counts.argmax(axis=1)
    clear = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    clear &= (mode >= subset.first_present) == present
    # The lower median lies on the majority's side of present/absent, and on the absent side of a tie.
    median = (2 * counts.cumsum(axis=1) >= counts.sum(axis=1, keepdims=True)).argmax(axis=1)
    return pd.array(np.where(clear, mode, median), dtype="Int64"), ~clear


def _timing_and_raters(annotations: Annotations, item: NDArray[np.int64]) -> dict[str, pd.Series]:
    by_item = annotations.ratings.groupby(item, sort=True)
    joined = {
        column: by_item[column].agg(lambda cells: "|".join(sorted(set(cells)))) for column in annotations.subset.carried
    }
    return {
        **joined,
        "usernames": by_item["username"].agg(lambda cells: "|".join(sorted(cells))),
        "reaction_time_ms_mean": by_item["reaction_time_ms"].mean(),
        "reaction_time_ms_median": by_item["reaction_time_ms"].median(),
        "sample_time_ms_mean": by_item["sample_time_ms"].mean(),
    }


def _buckets(
    n: NDArray[np.int64], unanimous: NDArray[np.bool_], majority: "pd.arrays.IntegerArray", subset: Subset
) -> list[str]:
    kind = np.select([n == 1, unanimous], ["single_rater", "unanimous"], "majority")
    return [
        "tie" if label is pd.NA else f"{prefix}_{subset.words['present' if label else 'absent']}"
        for prefix, label in zip(kind, majority, strict=True)
    ]


def _flagged(items: pd.DataFrame, annotations: Annotations) -> NDArray[np.bool_]:
    flagged = set(annotations.flags[list(annotations.subset.key)].itertuples(index=False, name=None))
    return np.array([key in flagged for key in items.itertuples(index=False, name=None)], dtype=bool)


def clip_ids(items: pd.DataFrame, subset: Subset) -> pd.Series:
    """Which clip each item is about: all items on a clip are resampled and folded together."""
    return items[list(subset.clip_columns)].agg("/".join, axis=1) if len(items) else pd.Series(dtype=str)
