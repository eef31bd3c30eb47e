"""Majority labels from ratings, one row per item.

With `ties="exclude"`, tied items have no label. With `ties="absent"`, they are labelled absent, as in emolia-bench.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.keys import key_ranks
from earmark.annotation.options import Ties
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.metrics.multisets import first_of_each, multiset_ids


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
    ratings, key, n_levels = annotations.ratings, list(annotations.subset.key), len(annotations.subset.levels)
    item = key_ranks(ratings, key)
    items = ratings[key].iloc[first_of_each(item)].reset_index(drop=True)
    cells = item * n_levels + ratings["rating"].to_numpy(dtype=np.int64)
    counts = np.bincount(cells, minlength=len(items) * n_levels).reshape(len(items), n_levels)
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
    expected = expected_labels(items, subset)
    columns = {
        **_timing_and_raters(annotations, item),
        "majority_rating_int": rating,
        "majority_rating_votes": counts.max(axis=1, initial=0),
        "majority_rating_tie": from_median,
        "majority_present": majority,
        "majority_present_votes": np.maximum(present, absent),
        "majority_present_tie": tied,
        **{f"{name}_votes": counts[:, code] for code, name in enumerate(subset.levels)},
        "majority_rating": rating.map(dict(enumerate(subset.levels)), na_action="ignore"),
        "all_agree_binary": unanimous,
        "all_agree_ordinal": (n > 1) & (counts.max(axis=1, initial=0) == n),
        **(
            {
                subset.names["expected"]: expected,
                subset.names["matches_expected"]: pd.array(majority == expected, dtype="boolean"),
            }
            if expected is not None
            else {}
        ),
        "benchmark_bucket": _buckets(n, unanimous, majority, subset),
        "n_raters": n,
        "flagged": _flagged(items, annotations),
        "soft_present": present / np.maximum(n, 1),
        "ds_present_probability": pd.array([pd.NA] * len(items), dtype="Float64"),
    }
    return items.assign(**{name: np.asarray(v) if isinstance(v, pd.Series) else v for name, v in columns.items()})


def expected_labels(items: pd.DataFrame, subset: Subset) -> NDArray[np.int64] | None:
    """Label of each item expected from sampling: 1 for present; None if the subset has no prior.

    Parameters
    ----------
    items : DataFrame
        Key of each item.
    subset : Subset
    """
    if subset.prior is None:
        return None
    return (items[subset.prior.column] == subset.prior.value).to_numpy(dtype=np.int64)


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
    ratings, n_items = annotations.ratings, int(item.max(initial=-1)) + 1
    reaction, sample = (ratings[f"{name}_time_ms"].groupby(item, sort=True) for name in ("reaction", "sample"))
    return {
        **{column: _joined(ratings[column], item, n_items, once=True) for column in annotations.subset.carried},
        "usernames": _joined(ratings["username"], item, n_items),
        "reaction_time_ms_mean": reaction.mean(),
        "reaction_time_ms_median": reaction.median(),
        "sample_time_ms_mean": sample.mean(),
    }


def _joined(cells: pd.Series, item: NDArray[np.int64], n_items: int, once: bool = False) -> pd.Series:
    """Cells of each item, sorted and joined by |. once: repeated cells of an item are listed once.

    Few combinations of cells occur, so each is joined only once.
    """
    code = key_ranks(cells.to_frame("cell"), ["cell"])
    names = cells.to_numpy(dtype=object)[first_of_each(code)]
    pairs = item * len(names) + code
    pairs = np.unique(pairs) if once else np.sort(pairs)
    owner, code = np.divmod(pairs, max(len(names), 1))
    combination = multiset_ids(owner, code, n_items)
    example = first_of_each(combination)
    starts, ends = np.searchsorted(owner, example), np.searchsorted(owner, example, side="right")
    texts = ["|".join(names[code[start:end]]) for start, end in zip(starts, ends, strict=True)]
    return pd.Series(np.array(texts, dtype=object)[combination], dtype=str)


def _buckets(
    n: NDArray[np.int64], unanimous: NDArray[np.bool_], majority: "pd.arrays.IntegerArray", subset: Subset
) -> NDArray[np.object_]:
    prefixes = ("single_rater", "unanimous", "majority")
    names = [f"{prefix}_{subset.words[word]}" for prefix in prefixes for word in ("absent", "present")]
    prefix = np.select([n == 1, unanimous], [0, 1], 2)
    label = majority.to_numpy(dtype=np.int64, na_value=0)
    bucket = np.where(majority.isna(), len(names), 2 * prefix + label)
    return np.array([*names, "tie"], dtype=object)[bucket]


def _flagged(items: pd.DataFrame, annotations: Annotations) -> NDArray[np.bool_]:
    key = list(annotations.subset.key)
    flags = annotations.flags[key]
    result = np.ones(len(items), dtype=bool)
    for column in key:
        result &= items[column].isin(flags[column]).to_numpy(dtype=bool)
    flagged = set(flags.itertuples(index=False, name=None))
    result[result] = [row in flagged for row in items[result].itertuples(index=False, name=None)]
    return result


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
    first, *others = subset.clip_columns
    clips = items[first].astype(str).rename(None)
    for column in others:
        clips = clips + "/" + items[column]
    return clips


def clip_ranks(items: pd.DataFrame, subset: Subset) -> NDArray[np.int64]:
    """Rank of the clip of each item in the order of `clip_ids`, which is faster than to sort these.

    Parameters
    ----------
    items : DataFrame
        Items or ratings with the key columns of the subset.
    subset : Subset

    Returns
    -------
    (n_items,) int
        From 0; items of the same clip have the same rank.
    """
    columns = subset.clip_columns
    # Without a slash in a value, identifiers differ first where the values, each with its slash, differ first.
    if any("/" in value for column in columns[:-1] for value in items[column].unique()):
        return key_ranks(clip_ids(items, subset).to_frame("clip"), ["clip"])
    return key_ranks(items, columns, end="/")
