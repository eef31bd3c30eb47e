"""Quality items: items with a known rating, hidden among the others to check raters.

They enter no label and no agreement. A rater's pass rate is the share of ratings of quality items that are the expected
one: the same rating, also on a scale with a decision between present and absent, or within a tolerance on an interval
scale.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.annotation.options import AS_WRITTEN, ReadingOptions
from earmark.annotation.reading import TextTable, clean_ratings, read_source, rename_columns, shown_header
from earmark.annotation.spelling import canonical_key, file_key
from earmark.annotation.subsets import Subset
from earmark.annotation.tables import Annotations
from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.metrics.estimate import Estimate
from earmark.metrics.intervals import t_quantile, wilson_interval

BoolArray = NDArray[np.bool_]

EXPECTED = "expected"
RATING = "rating"
DIFFERENT = "differs from an earlier line of this item"
SHOWN = 5  # values or items in a message
NO_QUALITY_ITEM = "rated no quality item"
RATINGS_OF_GOLD = "ratings of quality items (--gold)"
ROUNDING = 1e-9  # of the larger number; a difference within the tolerance up to rounding passes


@dataclass(frozen=True)
class GoldItems:
    """Quality items and their expected ratings.

    Attributes
    ----------
    source : str
        File or column that they were read from.
    expected : DataFrame
        The key columns, spelled as in the ratings, and `expected`: position on the scale, or number on an interval
        scale. One row per item.
    """

    source: str
    expected: pd.DataFrame


@dataclass(frozen=True)
class RaterGold:
    """Result of one rater.

    Attributes
    ----------
    username : str
    passed : int
        Number of quality items with the expected rating.
    pass_rate : Estimate
        Share of the quality items that the rater rated, with Wilson's interval; n is their number.
    excluded : bool
        Whether the ratings of this rater were left out.
    """

    username: str
    passed: int
    pass_rate: Estimate
    excluded: bool


@dataclass(frozen=True)
class GoldSummary:
    """Quality items and how raters did on them.

    Attributes
    ----------
    source : str
    items : int
        Number of quality items.
    ratings : int
        Number of ratings of quality items.
    tolerance : float or None
        Largest difference that passes; None where ratings are no numbers.
    min_rate : float or None
        Raters below this rate were left out.
    raters : list of RaterGold
        All raters, also those who rated no quality item.
    """

    source: str
    items: int
    ratings: int
    tolerance: float | None
    min_rate: float | None
    raters: list[RaterGold]

    @property
    def excluded(self) -> list[str]:
        """Usernames of the raters who were left out."""
        return [rater.username for rater in self.raters if rater.excluded]

    @property
    def unchecked(self) -> list[str]:
        """Usernames of the raters who rated no quality item."""
        return [rater.username for rater in self.raters if not rater.pass_rate.n]


def read_gold(path: Path, annotations: Annotations, reading: ReadingOptions = AS_WRITTEN) -> GoldItems:
    """Read quality items from a file.

    Parameters
    ----------
    path : Path
        Table with the key columns, and the expected rating in a column named `expected` or as the rating column of the
        subset. Words of the ratings, also those that `reading` maps.
    annotations : Annotations
        Ratings before any exclusion, so that every quality item is known.
    reading : ReadingOptions
        As for the ratings.

    Returns
    -------
    GoldItems

    Raises
    ------
    DataError
        With all faults: a missing column, an item without ratings, a rating that is not on the scale, and different
        ratings of an item.
    OSError
        If the file cannot be read.
    """
    subset, name = annotations.subset, shown_path(path)
    read, names = TextTable(*read_source(path)), reading.mapping()
    rename_columns(read, names)
    columns = list(read.table.columns)
    column = next((c for c in (EXPECTED, subset.columns.rating, "rating") if c in columns), EXPECTED)
    missing = [c for c in (*subset.key, column) if c not in columns]
    faults = [*read.faults, *(Fault(1, c, f"is missing; the header has {shown_header(columns)}") for c in missing)]
    if missing:
        raise DataError({name: faults}, _remedy(subset))
    table = _on_scale(read.table[[*subset.key, column]].rename(columns={column: RATING}), subset, reading)
    table = table if reading.exact_keys else _spelled_as(table, annotations.ratings, subset)
    invalid, different = _faulty(table, subset)
    known = pd.MultiIndex.from_frame(annotations.ratings[list(subset.key)])
    keys = pd.MultiIndex.from_frame(table[list(subset.key)])
    unknown = table.index[~keys.isin(known)]
    faults += [
        Fault(int(line), "", f"is no item of {subset.name} with a rating", _shown(table, line, subset))
        for line in unknown
    ]
    faults += [
        Fault(int(line), column, _off_scale(subset), str(table.loc[line, RATING])) for line in table.index[invalid]
    ]
    faults += [Fault(int(line), column, DIFFERENT) for line in table.index[different]]
    if faults:
        raise DataError({name: faults}, _remedy(subset))
    return _gold_items(table, subset, path.name)


def gold_from_column(annotations: Annotations, column: str, reading: ReadingOptions = AS_WRITTEN) -> GoldItems:
    """Read quality items from a column of the ratings, empty for other items.

    Parameters
    ----------
    annotations : Annotations
        Ratings before any exclusion; `ratings` has the column as text.
    column : str
    reading : ReadingOptions
        As for the ratings.

    Returns
    -------
    GoldItems

    Raises
    ------
    EarmarkError
        If the column does not exist, or has ratings that are not on the scale or differ within an item.
    """
    subset, ratings = annotations.subset, annotations.ratings
    if column not in ratings:
        raise MissingError(f"--gold-column {column}: the table of {subset.name} has no such column.")
    cells = ratings[column].fillna("").astype(str).str.strip()
    marked = ~cells.isin({"", *(reading.missing or ())})
    table = _on_scale(ratings.loc[marked, list(subset.key)].assign(**{RATING: cells[marked]}), subset, reading)
    invalid, different = _faulty(table, subset)
    problems = []
    if invalid.any():
        values = [f"'{value}' ({count} times)" for value, count in table[RATING][invalid].value_counts().items()]
        problems.append(f"{', '.join(values[:SHOWN])} {_off_scale(subset)}")
    if different.any():
        items = table.index[different].map(lambda row: _shown(table, row, subset)).unique()
        problems.append(f"different expected ratings of the same item: {', '.join(items[:SHOWN])}")
    if problems:
        raise EarmarkError(f"column {column} of {subset.name}: {'; '.join(problems)}. {_remedy(subset)}")
    return _gold_items(table, subset, f"column {column}")


def _remedy(subset: Subset) -> str:
    scale = "a number" if subset.scale == "interval" else f"one of {', '.join(subset.levels)}"
    return f"Nothing was written. Quality items need {', '.join(subset.key)} and the expected rating, {scale}."


def _off_scale(subset: Subset) -> str:
    return "is not a number" if subset.scale == "interval" else f"is not one of {', '.join(subset.levels)}"


def _shown(table: pd.DataFrame, row: object, subset: Subset) -> str:
    return "/".join(str(table.at[row, column]) for column in subset.key)


def _on_scale(table: pd.DataFrame, subset: Subset, reading: ReadingOptions) -> pd.DataFrame:
    """Apply --map, --ignore-case and --decimal-comma to the expected ratings, and add their positions or numbers."""
    read = TextTable(table)
    clean_ratings(read, replace(reading, missing=None), reading.mapping(), subset)
    if subset.scale == "interval":
        values = pd.to_numeric(read.table[RATING], errors="coerce").astype(float)
    else:
        values = read.table[RATING].map({level: code for code, level in enumerate(subset.levels)}).astype(float)
    return read.table.assign(**{EXPECTED: values})


def _faulty(table: pd.DataFrame, subset: Subset) -> tuple[BoolArray, BoolArray]:
    """Rows whose expected rating is not on the scale, and rows that differ from an earlier one of the item."""
    invalid = ~np.isfinite(table[EXPECTED].to_numpy(dtype=float))
    first = table[~invalid].groupby(list(subset.key))[EXPECTED].transform("first").reindex(table.index)
    return invalid, (~invalid & (table[EXPECTED] != first).to_numpy())


def _gold_items(table: pd.DataFrame, subset: Subset, source: str) -> GoldItems:
    expected = table[[*subset.key, EXPECTED]].drop_duplicates(list(subset.key), ignore_index=True)
    return GoldItems(source, expected if subset.scale == "interval" else expected.astype({EXPECTED: np.int64}))


def _spelled_as(table: pd.DataFrame, ratings: pd.DataFrame, subset: Subset) -> pd.DataFrame:
    """Spell keys as in the ratings where only blanks, Unicode form, zero decimals, case or suffix differ."""
    changed = table
    for column in subset.key:
        values = list(ratings[column].unique())
        known = {canonical_key(value): value for value in values}
        files = Counter(map(file_key, values))
        by_file = {file_key(value): value for value in values if files[file_key(value)] == 1}
        spelled = [known.get(canonical_key(cell), by_file.get(file_key(cell), cell)) for cell in table[column]]
        changed = changed.assign(**{column: spelled})
    return changed


def apply_gold(
    annotations: Annotations,
    gold: GoldItems,
    *,
    tolerance: float = 0.0,
    min_rate: float | None = None,
    machines: Sequence[str] = (),
) -> tuple[Annotations, GoldSummary]:
    """Check raters on quality items, and leave these items and raters who fail out.

    Parameters
    ----------
    annotations : Annotations
    gold : GoldItems
    tolerance : float
        Largest difference from the expected rating that passes; interval scale only.
    min_rate : float, optional
        Leave out raters whose pass rate is lower. Raters without a quality item stay.
    machines : sequence of str
        Raters that are checked but never left out.

    Returns
    -------
    annotations : Annotations
        Without quality items and without raters who failed; `excluded` has an entry for the items and for each rater.
    summary : GoldSummary

    Raises
    ------
    ValueError
        If the tolerance is negative or not finite, or is given for a scale of levels; or if the rate is not in [0, 1].
    """
    is_interval = annotations.subset.scale == "interval"
    if not isfinite(tolerance) or tolerance < 0 or (tolerance and not is_interval):
        raise ValueError("a tolerance is a number of at least 0, on an interval scale")
    if min_rate is not None and not 0 <= min_rate <= 1:
        raise ValueError("a pass rate is in [0, 1]")
    ratings, key = annotations.ratings, list(annotations.subset.key)
    expected = ratings[key].merge(gold.expected, on=key, how="left")[EXPECTED].to_numpy(dtype=float)
    is_gold = np.isfinite(expected)
    given = ratings["rating"].to_numpy(dtype=float)
    rounding = ROUNDING * np.maximum(np.abs(given), np.abs(expected)) if is_interval else 0.0
    passed = is_gold & (np.abs(given - expected) <= tolerance + rounding)
    names, rater = np.unique(ratings["username"].to_numpy(dtype=str), return_inverse=True)
    checked = np.bincount(rater.ravel()[is_gold], minlength=len(names))
    correct = np.bincount(rater.ravel()[passed], minlength=len(names))
    raters = []
    for name, n, k in sorted(zip(names, checked, correct, strict=True), key=lambda row: (len(row[0]), row[0])):
        failed = min_rate is not None and n > 0 and k / n < min_rate and name not in machines
        raters.append(RaterGold(str(name), int(k), pass_rate(int(k), int(n)), bool(failed)))
    summary = GoldSummary(
        gold.source, len(gold.expected), int(is_gold.sum()), tolerance if is_interval else None, min_rate, raters
    )
    return _without(annotations, is_gold, summary), summary


def pass_rate(passed: int, n: int) -> Estimate:
    """Share of quality items with the expected rating, with Wilson's interval.

    Parameters
    ----------
    passed, n : int
        Number of items with the expected rating, and of all quality items of the rater.

    Returns
    -------
    Estimate
        Undefined without a quality item. Wilson's interval is valid with few items and carries no note.

    References
    ----------
    Wilson (1927), Journal of the American Statistical Association 22:209.

    Examples
    --------
    >>> rate = pass_rate(8, 10)
    >>> rate.value, round(rate.low, 4), round(rate.high, 4)
    (0.8, 0.4902, 0.9433)
    """
    if not n:
        return Estimate(None, why=NO_QUALITY_ITEM)
    low, high = wilson_interval(passed / n, n, t_quantile(1e9))
    return Estimate(passed / n, low, high, n=n)


def _without(annotations: Annotations, is_gold: BoolArray, summary: GoldSummary) -> Annotations:
    """Leave out quality items, and the other ratings of raters who failed."""
    ratings = annotations.ratings
    excluded = annotations.excluded | {RATINGS_OF_GOLD: int(is_gold.sum())}
    kept = ~is_gold
    for rater in summary.raters:
        if rater.excluded:
            own = kept & (ratings["username"] == rater.username).to_numpy()
            rate = f"passed {rater.passed} of {rater.pass_rate.n} quality items"
            excluded[f"ratings by {rater.username}, who {rate} (--min-gold-rate {summary.min_rate:g})"] = int(own.sum())
            kept &= ~own
    return replace(annotations, ratings=ratings[kept].reset_index(drop=True), excluded=excluded)
