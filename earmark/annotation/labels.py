"""Majority labels from ratings, one row per item.

With `ties="exclude"`, tied items have no label. With `ties="absent"`, they are labelled absent, as in emolia-bench.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.options import Ties
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations


def item_counts(annotations: Annotations) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Count the ratings of each item.

    Parameters
    ----------
    annotations : Annotations

    Returns
    -------
    items : DataFrame, (n_items, n_key_columns)
        Key of each item, sorted.
    counts : (n_items, n_levels) int
        Number of ratings at each level of the scale.
    item : (n_ratings,) int
        Row in `items` of each rating.
    """
    ratings, subset = annotations.ratings, annotations.subset
    item = ratings.groupby(list(subset.key), sort=True).ngroup().to_numpy(dtype=np.int64)
    items = ratings[list(subset.key)].drop_duplicates().sort_values(list(subset.key), ignore_index=True)
    counts = np.zeros((len(items), len(subset.scale)), dtype=np.int64)
    np.add.at(counts, (item, ratings["rating"].to_numpy()), 1)
    return items, counts, item


def majority_labels(annotations: Annotations, ties: Ties = "exclude") -> pd.DataFrame:
    """Label every item by majority vote.

    Parameters
    ----------
    annotations : Annotations
    ties : {"exclude", "absent"}
        Label of items with equally many present and absent ratings: NA, or absent.

    Returns
    -------
    DataFrame
        One row per item, sorted by key. Undefined cells are NA. Among the columns:

        - majority_present: 1 if more raters chose present than absent, 0 if fewer, NA (or 0) for a tie.
        - majority_rating: the most frequent rating if it is unique and on the side of majority_present, otherwise the
          lower median rating with majority_rating_tie True.
        - all_agree_binary, all_agree_ordinal: at least two raters, all with the same decision or rating.
        - soft_present: share of raters who chose present, in [0, 1].
        - ds_present_probability: NA; `analysis.analyse` fills it in.
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
    has_mode = (counts == counts.max(axis=1, keepdims=True)).sum(axis=1) == 1
    has_mode &= (mode >= subset.first_present) == present
    # The lower median is on the majority's side of present/absent; for a tie it is on the absent side.
    median = (2 * counts.cumsum(axis=1) >= counts.sum(axis=1, keepdims=True)).argmax(axis=1)
    return pd.array(np.where(has_mode, mode, median), dtype="Int64"), ~has_mode


def _timing_and_raters(annotations: Annotations, item: NDArray[np.int64]) -> dict[str, pd.Series]:
    by_item = annotations.ratings.groupby(item, sort=True)
    carried = {
        column: by_item[column].agg(lambda cells: "|".join(sorted(set(cells)))) for column in annotations.subset.carried
    }
    return {
        **carried,
        "usernames": by_item["username"].agg(lambda cells: "|".join(sorted(cells))),
        "reaction_time_ms_mean": by_item["reaction_time_ms"].mean(),
        "reaction_time_ms_median": by_item["reaction_time_ms"].median(),
        "sample_time_ms_mean": by_item["sample_time_ms"].mean(),
    }


def _buckets(
    n: NDArray[np.int64], unanimous: NDArray[np.bool_], majority: "pd.arrays.IntegerArray", subset: Subset
) -> list[str]:
    prefixes = np.select([n == 1, unanimous], ["single_rater", "unanimous"], "majority")
    return [
        "tie" if label is pd.NA else f"{prefix}_{subset.words['present' if label else 'absent']}"
        for prefix, label in zip(prefixes, majority, strict=True)
    ]


def _flagged(items: pd.DataFrame, annotations: Annotations) -> NDArray[np.bool_]:
    flagged = set(annotations.flags[list(annotations.subset.key)].itertuples(index=False, name=None))
    return np.array([key in flagged for key in items.itertuples(index=False, name=None)], dtype=bool)


def clip_ids(items: pd.DataFrame, subset: Subset) -> pd.Series:
    """Identifier of the clip of each item.

    Items of the same clip are resampled together and assigned to the same fold.

    Parameters
    ----------
    items : DataFrame
        Items or ratings with the key columns of the subset.
    subset : Subset

    Returns
    -------
    Series of str
    """
    return items[list(subset.clip_columns)].agg("/".join, axis=1) if len(items) else pd.Series(dtype=str)
