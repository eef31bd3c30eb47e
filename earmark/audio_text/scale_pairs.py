"""Items of a nominal, ordinal or interval subset: labels, clips, sentences and held-out ratings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.clips import ClipIndex
from earmark.annotation.labels import clip_ids
from earmark.annotation.subsets import Subset
from earmark.audio_text.comparison_with_raters import Ratings, answers_and_others
from earmark.audio_text.options import FilterOptions, LabelSource
from earmark.audio_text.pairs import PairTable, item_sentences, labels_path
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_frame

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TIED = "tied between classes"
NO_MEAN = "without a mean rating"
SHARE = "share_"
LABELS = "benchmark_labels.csv"
REFERENCE_COLUMNS = {"majority": "majority_class", "dawid-skene": "ds_class", "soft": "majority_class"}
MEAN_COLUMNS = {"ordinal": "mean_level", "interval": "mean_rating"}
REMEDY = "Nothing was written. Run `uv run analysis.py` to create the labels again."


def load_scale_pairs(subset: Subset, analysis_root: Path, dataset_root: Path, label_source: LabelSource) -> PairTable:
    """Load the labelled items of a subset without a decision between present and absent.

    Parameters
    ----------
    subset : Subset
        With a sentence.
    analysis_root, dataset_root : Path
        Directories with the outputs of analysis.py and with the clips.
    label_source : {"majority", "dawid-skene", "soft"}
        Reference class of a nominal scale; `soft` keeps ties, the others exclude items without a class.

    Returns
    -------
    PairTable
        Its `subset` has levels. Columns of its table: those of `PairTable` but for the votes, and `all_agree` (not on
        an interval scale), for classes `reference` and the shares `share_<class>`, else `mean`. `prompt` is empty on a
        nominal scale, whose sentences belong to classes.

    Raises
    ------
    MissingError
        If the labels do not exist, or `label_source` has no meaning on the scale.
    DataError
        If the labels are invalid, with all faults.
    """
    if subset.scale != "nominal" and label_source != "majority":
        raise MissingError(
            f"--labels {label_source} has no meaning for {subset.name}: on an {subset.scale} scale the similarity is "
            "compared with the mean rating. Leave the flag out."
        )
    path = labels_path(analysis_root, subset)
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} does not exist. Run `uv run analysis.py` to create it.")
    labels, faults = read_csv_frame(path)
    if subset.scale == "nominal" and not subset.levels:
        names = [column.removeprefix(SHARE) for column in labels.columns if column.startswith(SHARE)]
        subset = replace(subset, levels=tuple(names))
    needed = _needed_columns(subset, label_source)
    faults += _faults(labels, subset, needed) if len(labels.columns) else [Fault(1, "", "has no columns")]
    prompts: list[str] = []
    if not faults:
        prompts, faults = ([""] * len(labels), []) if subset.scale == "nominal" else item_sentences(
            labels, subset, dataset_root
        )  # fmt: skip
    if faults:
        raise DataError({shown_path(path): faults}, REMEDY)
    columns = [c for c in dict.fromkeys([*subset.key, *subset.carried, *needed, "flagged"]) if c in labels]
    cells = labels[columns].reset_index(drop=True)
    clips = ClipIndex(dataset_root / subset.name, subset)
    table = cells[[c for c in columns if not c.startswith(SHARE)]].assign(
        n_raters=cells["n_raters"].astype(int),
        flagged=cells["flagged"].str.lower() == "true" if "flagged" in cells else False,
        sampling_unit=clip_ids(cells, subset),
        audio_path=[f"{subset.name}/{clips.relative_path(row)}" for row in cells.to_dict("records")],
        prompt=prompts,
        labels_row=range(len(cells)),
    )
    if "all_agree" in table:
        table["all_agree"] = (table["all_agree"].str.lower() == "true") & (table["n_raters"] > 1)
    return _with_reference(PairTable(subset, dataset_root, table, {}, label_source), cells)


def _with_reference(pairs: PairTable, cells: pd.DataFrame) -> PairTable:
    """Add the reference of each item, and exclude items without one."""
    subset, table = pairs.subset, pairs.table
    if subset.scale != "nominal":
        pairs = replace(pairs, table=table.assign(mean=pd.to_numeric(cells[MEAN_COLUMNS[subset.scale]])))
        return pairs.select(lambda t: t["mean"].notna(), NO_MEAN)
    shares = cells[[SHARE + level for level in subset.levels]].apply(pd.to_numeric).fillna(0.0)
    reference = cells[REFERENCE_COLUMNS[pairs.label_source]]
    table = pd.concat([table.assign(reference=reference), shares], axis=1)
    pairs = replace(pairs, table=table)
    if pairs.label_source == "soft":
        return pairs
    return pairs.select(lambda t: t["reference"] != "", TIED, by_votes=True)


def _needed_columns(subset: Subset, label_source: LabelSource) -> list[str]:
    if subset.scale == "nominal":
        shares = [SHARE + level for level in subset.levels]
        return ["n_raters", REFERENCE_COLUMNS[label_source], "all_agree", *shares]
    return ["n_raters", MEAN_COLUMNS[subset.scale], *(["all_agree"] if subset.scale == "ordinal" else [])]


def _faults(labels: pd.DataFrame, subset: Subset, needed: Sequence[str]) -> list[Fault]:
    required = (*subset.key, *subset.carried, *needed)
    missing = [Fault(1, column, "is missing") for column in dict.fromkeys(required) if column not in labels]
    if missing:
        return missing
    faults = [
        Fault(int(line), "n_raters", f"'{cell}' is not a number of raters")
        for line, cell in labels["n_raters"].items()
        if not cell.isascii() or not cell.isdecimal()
    ]
    for column in needed:
        cells = labels[column]
        if column in REFERENCE_COLUMNS.values():
            wrong, problem = ~cells.isin([*subset.levels, ""]), f"is not one of {', '.join(subset.levels)} or empty"
        elif column.startswith(SHARE):
            wrong, problem = ~pd.to_numeric(cells, errors="coerce").between(0, 1), "is not a share in [0, 1]"
            wrong &= cells != ""
        elif column in MEAN_COLUMNS.values():
            finite = np.isfinite(pd.to_numeric(cells, errors="coerce").astype(float))
            wrong, problem = ~finite & (cells != ""), "is not a number"
        else:
            continue
        faults += [Fault(int(line), column, f"'{cells[line]}' {problem}") for line in labels.index[wrong]]
    repeated = labels.index[labels.duplicated(list(subset.key))]
    faults += [Fault(int(line), subset.key[0], "duplicate of an item on an earlier line") for line in repeated]
    return faults


def apply_scale_filters(pairs: PairTable, filters: FilterOptions) -> PairTable:
    """Filter the items and count the excluded ones by reason.

    Raises
    ------
    MissingError
        If `unanimous_only` is set on an interval scale.
    """
    raters = filters.required_raters
    pairs = pairs.select(lambda t: t["n_raters"] >= raters, f"with fewer than {raters} raters")
    if filters.exclude_flagged:
        pairs = pairs.select(lambda t: ~t["flagged"], "flagged")
    if filters.unanimous_only:
        if pairs.subset.scale == "interval":
            raise MissingError(
                f"--unanimous-only has no meaning for {pairs.subset.name}: on an interval scale ratings are numbers, "
                "which rarely agree exactly. Leave the flag out."
            )
        by_votes = pairs.subset.scale == "nominal"
        pairs = pairs.select(lambda t: t["all_agree"], "not unanimous", by_votes=by_votes)
    return pairs.head(filters.limit) if filters.limit else pairs


# --- held-out ratings ---------------------------------------------------------------------------------------


def read_scale_ratings(path: Path, subset: Subset) -> pd.DataFrame | None:
    """Read leave_one_out.csv of a subset without a decision between present and absent.

    Parameters
    ----------
    path : Path
    subset : Subset
        With levels, if it has any.

    Returns
    -------
    DataFrame or None
        One row per rating: the key, `username` and `value` (position of the class or the number). None if the file does
        not exist.

    Raises
    ------
    DataError
        If the file is invalid, with all faults, or was written by another run than the labels beside it.
    """
    if not path.is_file():
        return None
    table, faults = read_csv_frame(path)
    rating = "level" if subset.scale == "ordinal" else "rating"
    others = {"nominal": [], "ordinal": ["mean_level_of_others"], "interval": ["mean_of_others"]}[subset.scale]
    needed = [*subset.key, "username", rating, *others, "n_others"]
    missing = [Fault(1, column, "is missing") for column in needed if column not in table]
    if missing or not len(table.columns):
        raise DataError({shown_path(path): [*faults, *(missing or [Fault(1, "", "has no columns")])]}, REMEDY)
    numeric = [*others, "n_others", *([] if subset.scale == "nominal" else [rating])]
    numbers = {column: pd.to_numeric(table[column], errors="coerce").astype(float) for column in numeric}
    for column, values in numbers.items():
        wrong = table.index[~np.isfinite(values)]
        faults += [Fault(int(line), column, f"'{table.at[line, column]}' is not a number") for line in wrong]
    if subset.scale == "nominal":
        wrong = table.index[~table[rating].isin(subset.levels)]
        faults += [Fault(int(line), rating, f"'{table.at[line, rating]}' is not a class") for line in wrong]
    if faults:
        raise DataError({shown_path(path): faults}, REMEDY)
    ratings = table[[*subset.key, "username"]]
    if subset.scale == "nominal":
        places = {level: code for code, level in enumerate(subset.levels)}
        ratings = ratings.assign(value=table[rating].map(places).astype(np.int64))
    else:
        ratings = ratings.assign(value=numbers[rating])
    if faults := _of_another_run(ratings, path.with_name(LABELS), subset, numbers["n_others"]):
        raise DataError({shown_path(path): faults}, REMEDY)
    return ratings.reset_index(drop=True)


def _of_another_run(ratings: pd.DataFrame, labels_path: Path, subset: Subset, n_others: pd.Series) -> list[Fault]:
    """Ratings that do not fit the labels: other numbers of raters, items without their ratings, or other values."""
    key = list(subset.key)
    labels, faults = read_csv_frame(labels_path) if labels_path.is_file() else (pd.DataFrame(), [])
    if faults or not {*key, "n_raters"} <= set(labels.columns):
        return []  # the labels have faults of their own, which their reader lists
    raters = pd.to_numeric(labels["n_raters"], errors="coerce")
    of_item = dict(zip(map(tuple, labels[key].to_numpy().tolist()), raters, strict=True))
    rated = list(map(tuple, ratings[key].to_numpy().tolist()))
    expected = np.array([of_item.get(item, 0) for item in rated])
    found = ratings.groupby(key)[key[0]].transform("size").to_numpy()
    wrong = ratings.index.to_numpy()[(expected != found) | (expected != n_others.to_numpy() + 1)]
    fault = "has another number of raters than in benchmark_labels.csv: the files are of different runs"
    faults = [Fault(int(line), key[0], fault) for line in wrong]
    if lacking := len({item for item, number in of_item.items() if number > 1}.difference(rated)):
        items = "1 item" if lacking == 1 else f"{lacking:,} items"
        fault = f"lacks the ratings of {items} of benchmark_labels.csv: the files are of different runs"
        faults.append(Fault(1, "", fault))
    return faults or _other_values(ratings, labels, subset)


def _other_values(ratings: pd.DataFrame, labels: pd.DataFrame, subset: Subset) -> list[Fault]:
    """Ratings whose mean, or share of their class, is not that of the labels of their item."""
    key = list(subset.key)
    if subset.scale == "nominal":
        columns = [SHARE + level for level in subset.levels]
        of_item = ratings.groupby(key)["value"]
        found = ratings.groupby([*key, "value"])["username"].transform("size") / of_item.transform("size")
    else:
        columns = [MEAN_COLUMNS[subset.scale]]
        found = ratings.groupby(key)["value"].transform("mean")
    if not set(columns) <= set(labels.columns):
        return []
    cells = labels[[*key, *columns]].assign(**labels[columns].apply(pd.to_numeric, errors="coerce"))
    beside = ratings[key].merge(cells, on=key, how="left")[columns].to_numpy(dtype=float)
    place = ratings["value"].to_numpy() if subset.scale == "nominal" else np.zeros(len(ratings), dtype=np.int64)
    expected = beside[np.arange(len(ratings)), place]
    wrong = np.isfinite(expected) & ~np.isclose(found.to_numpy(dtype=float), expected, rtol=1e-6, atol=1e-6)
    fault = "has ratings other than those behind benchmark_labels.csv: the files are of different runs"
    return [Fault(int(line), key[0], fault) for line in ratings.index.to_numpy()[wrong]]


def _rows_of(ratings: pd.DataFrame, pairs: PairTable) -> pd.DataFrame:
    """Ratings of the items of a table, with the row of each item."""
    key = list(pairs.subset.key)
    items = pairs.table[key].assign(item=range(len(pairs.table)))
    return ratings.merge(items, on=key)


def ratings_of_items(ratings: pd.DataFrame, pairs: PairTable) -> Ratings:
    """Single ratings of the items of a table.

    Parameters
    ----------
    ratings : DataFrame
        From `read_scale_ratings`.
    pairs : PairTable
        Ratings of other items are dropped.

    Returns
    -------
    Ratings
    """
    table = _rows_of(ratings, pairs)
    rater = pd.factorize(table["username"], sort=True)[0].astype(np.int64)
    return Ratings(table["item"].to_numpy(dtype=np.int64), rater, table["value"].to_numpy(dtype=float))


def drop_unused(pairs: PairTable, ratings: pd.DataFrame | None, *, soft: bool, unanimous: bool) -> PairTable:
    """Drop comparison-only items that no comparison with raters uses.

    Pairs of raters use every item with two raters, unless the items were chosen by their votes (`unanimous`).
    """
    if ratings is None or not len(pairs.comparison_only):
        return pairs.without_comparison_only()
    if not unanimous:
        return pairs
    everything = pairs.with_comparison_only()
    used = np.zeros(len(everything.table), dtype=bool)
    own = ratings_of_items(ratings, everything)
    every = np.full(len(own.item), True)
    compared = answers_and_others(own, every, len(pairs.subset.levels), soft=soft, unanimous=unanimous)
    used[own.item[compared.at]] = True
    return replace(pairs, comparison_only=pairs.comparison_only[used[len(pairs.table) :]])
