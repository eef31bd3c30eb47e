"""Annotation tables: read CSV files as exported by spreadsheets, check every cell and list all faults.

Column names are fixed; `files.csv_table` describes the accepted CSV dialects. An empty file and a header alone are
tables without rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.spelling import describe_lookalikes, describe_merged, lookalikes, merged_spellings
from earmark.annotation.subsets import Subset
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_table

TABLES = ("annotations", "users", "flags")
OPTIONAL = ("flags",)
MAX_MILLISECONDS = 1e12  # about 30 years; rejects infinite values
REPEATED = "superseded ratings"
WITHDRAWN = "ratings by raters who withdrew consent"
CONSENT_GIVEN = frozenset({"true", "yes", "y", "t", "1", "1.0", "given", "ja", "oui", "si", "sí", "да", "是", "はい"})
CONSENT_REFUSED = frozenset(
    {"false", "no", "n", "f", "0", "0.0", "none", "never", "revoked", "withdrawn", "consent_revoked", "nein", "non"}
    | {"нет", "否", "いいえ", "refused", "declined"}
)
REVOKED_PREFIX = "CONSENT_REVOKED"

CellRule = tuple[Callable[[pd.Series], pd.Series], str]  # mask of invalid cells, and the message


@dataclass(frozen=True)
class RawTables:
    """Tables of one subset as text.

    Attributes
    ----------
    subset : Subset
    folder : Path
        Folder that the tables were read from.
    tables : dict of str to DataFrame
        "annotations", "users" and, if the file exists, "flags". Cells are text; the index is the line in the file.
    """

    subset: Subset
    folder: Path
    tables: dict[str, pd.DataFrame]

    def path(self, table: str) -> Path:
        """File that a table was read from."""
        return table_path(self.folder, table)


@dataclass(frozen=True)
class Annotations:
    """Checked ratings of one subset.

    Attributes
    ----------
    subset : Subset
    ratings : DataFrame
        One row per rating: the key columns, `username`, the carried columns, `rating` (int, position on the scale),
        `reaction_time_ms` and `sample_time_ms` (float, NaN where empty) and `created_at` (UTC). At most one rating per
        rater and item.
    users : DataFrame
        users.csv as text, without raters who withdrew consent.
    flags : DataFrame
        flags.csv as text, one row per flag.
    rows : dict of Path to int
        Number of rows read from each file.
    rows_raw : int
        Number of ratings in annotations.csv.
    excluded : dict of str to int
        Number of ratings excluded for each reason.
    warnings : tuple of str
        Warnings about the spelling of keys.
    """

    subset: Subset
    ratings: pd.DataFrame
    users: pd.DataFrame
    flags: pd.DataFrame
    rows: dict[Path, int]
    rows_raw: int
    excluded: dict[str, int]
    warnings: tuple[str, ...] = ()


def table_path(folder: Path, table: str) -> Path:
    """Path of a table in the folder of a subset."""
    return folder / f"{table}.csv"


def read_tables(folder: Path, subset: Subset, remedy: str = "") -> RawTables:
    """Read and check all tables of a subset.

    Parameters
    ----------
    folder : Path
        Folder with annotations.csv, users.csv and optionally flags.csv.
    subset : Subset
    remedy : str
        What the user should do about faults; ends the error message. By default: fix the raw tables.

    Returns
    -------
    RawTables

    Raises
    ------
    DataError
        If any table has faults; the error lists the faults of all tables.
    MissingError
        If annotations.csv or users.csv does not exist.
    """
    tables: dict[str, pd.DataFrame] = {}
    faults: dict[str, list[Fault]] = {}
    for name in TABLES:
        path = table_path(folder, name)
        if not path.is_file():
            if name in OPTIONAL:
                continue
            raise MissingError(
                f"{shown_path(path)} does not exist. Put the tables of {subset.name} into {shown_path(folder)}/."
            )
        tables[name], faults[shown_path(path)] = read_csv(path)
    usernames = tables["users"]["username"] if "username" in tables["users"] else pd.Series(dtype=str)
    for name, table in tables.items():
        faults[shown_path(table_path(folder, name))] += find_faults(table, name, subset, usernames)
    if any(faults.values()):
        default = (
            f"Fix the rows in annotations_raw/{subset.name}/ and run `uv run anonymize.py`, then this command again."
        )
        raise DataError(faults, f"Nothing was written. {remedy or default}")
    return RawTables(subset, folder, tables)


def required_columns(subset: Subset) -> dict[str, tuple[str, ...]]:
    """Columns that each table of a subset must have, by table name."""
    timing = ("reaction_time_ms", "sample_time_ms", "created_at")
    return {
        "annotations": ("annotation_id", "username", *subset.carried, *subset.key, "rating", *timing),
        "users": ("username",),
        "flags": ("flag_id", "username", *subset.key, "reason", "created_at"),
    }


def read_csv(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    """Read a CSV file as text.

    Parameters
    ----------
    path : Path

    Returns
    -------
    table : DataFrame
        Cells as text, indexed by line number (from 1). Rows with faults are left out.
    faults : list of Fault
        Faults of encoding and shape.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    table = read_csv_table(path)
    index = pd.Index(table.lines, name="line", dtype=int)
    return pd.DataFrame(table.rows, columns=table.columns, index=index, dtype=str), table.faults


def _no_rows(columns: Sequence[str] = ()) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index([], name="line", dtype=int), columns=list(columns), dtype=str)


def find_faults(table: pd.DataFrame, name: str, subset: Subset, usernames: pd.Series) -> list[Fault]:
    """Find missing columns and invalid cells of one table.

    Parameters
    ----------
    table : DataFrame
        Cells as text, indexed by line number.
    name : {"annotations", "users", "flags"}
    subset : Subset
    usernames : Series of str
        Usernames in users.csv; other tables may use no others.

    Returns
    -------
    list of Fault
        Empty for a table without columns, which is an empty file.
    """
    if not len(table.columns):
        return []
    required = required_columns(subset)[name]
    faults = [
        Fault(1, column, f"is missing; the header has {', '.join(table.columns)}")
        for column in required
        if column not in table.columns
    ]
    for column, (is_invalid, problem) in _cell_rules(name, subset, usernames).items():
        if column in table.columns and (column in required or column in ("created_at", "consent")):
            invalid = table[column][is_invalid(table[column])]
            faults += [
                Fault(int(line), column, f"'{cell}' {problem}")
                for line, cell in zip(invalid.index, invalid, strict=True)
            ]
    return faults


def _cell_rules(name: str, subset: Subset, usernames: pd.Series) -> dict[str, CellRule]:
    """Rules for the cells of each column."""
    choices = {**subset.choices, "rating": subset.scale}
    unique: CellRule = (lambda cells: (cells == "") | cells.duplicated(), "is empty or repeats an earlier line")
    milliseconds: CellRule = (
        lambda cells: (cells != "") & ~pd.to_numeric(cells, errors="coerce").astype(float).between(0, MAX_MILLISECONDS),
        "is not a time in milliseconds",
    )
    return {
        **{column: (lambda cells: cells == "", "is empty; key columns need a value") for column in subset.key},
        **{column: _one_of(values) for column, values in choices.items()},
        "annotation_id": unique,
        "flag_id": unique,
        "username": unique if name == "users" else (lambda cells: ~cells.isin(usernames), "is not in users.csv"),
        "reaction_time_ms": milliseconds,
        "sample_time_ms": milliseconds,
        "consent": (
            lambda cells: ~cells.str.casefold().isin(CONSENT_GIVEN | CONSENT_REFUSED | {""}),
            "is neither yes nor no; write True or False",
        ),
        "created_at": (lambda cells: parse_times(cells).isna(), "is not an ISO 8601 time such as 2026-05-09 17:38:09"),
    }


def _one_of(values: tuple[str, ...]) -> CellRule:
    return (lambda cells: ~cells.isin(values), f"is not one of {', '.join(values)}")


def parse_times(cells: pd.Series) -> pd.Series:
    """Parse ISO 8601 times.

    Parameters
    ----------
    cells : Series of str
        Dates or times, as coarse as a month. Times without a zone are UTC.

    Returns
    -------
    Series of datetime64, UTC
        NaT where a cell is not a time.

    Examples
    --------
    >>> parse_times(pd.Series(["2026-05-09T13:00:00+02:00"]))[0].isoformat()
    '2026-05-09T11:00:00+00:00'
    """
    dated = cells.where(cells.str.match(r"\d{4}-\d\d"), "")  # pandas would parse "now" as the current time
    return pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")


def exclude_ratings(
    annotations: Annotations, raters: Sequence[str] = (), min_reaction_ms: float | None = None
) -> Annotations:
    """Exclude raters and fast ratings.

    Parameters
    ----------
    annotations : Annotations
    raters : sequence of str
        Usernames of raters to exclude.
    min_reaction_ms : float, optional
        Exclude ratings with a shorter reaction time, in milliseconds. Ratings without a reaction time are kept.

    Returns
    -------
    Annotations
        `excluded` has one more entry for each rater and for the reaction time.

    Notes
    -----
    `load_annotations` resolves repeated ratings first: if the newest rating is excluded, older ones are not restored.
    """
    ratings, excluded = annotations.ratings, dict(annotations.excluded)
    for name in raters:
        by_rater = ratings["username"] == name
        excluded[f"ratings by {name} (--exclude-rater)"] = int(by_rater.sum())
        ratings = ratings[~by_rater]
    if min_reaction_ms is not None:
        too_fast = ratings["reaction_time_ms"] < min_reaction_ms
        excluded[f"ratings with a reaction time under {min_reaction_ms:g} ms (--min-reaction-ms)"] = int(too_fast.sum())
        ratings = ratings[~too_fast]
    return replace(annotations, ratings=ratings.reset_index(drop=True), excluded=excluded)


def withdrawn_users(users: pd.DataFrame) -> set[str]:
    """Users who withdrew consent.

    Parameters
    ----------
    users : DataFrame
        users.csv as text.

    Returns
    -------
    set of str
        Usernames with a refusal in column `consent`, or renamed to CONSENT_REVOKED….

    Examples
    --------
    >>> withdrawn_users(pd.DataFrame({"username": ["ann", "ben"], "consent": ["True", "no"]}))
    {'ben'}
    """
    if "username" not in users:
        return set()
    revoked = users["username"].str.upper().str.startswith(REVOKED_PREFIX)
    if "consent" in users:
        revoked |= users["consent"].str.casefold().isin(CONSENT_REFUSED)
    return set(users["username"][revoked])


def drop_withdrawn(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], int]:
    """Remove users who withdrew consent, with their ratings and flags.

    Parameters
    ----------
    tables : dict of str to DataFrame
        "annotations", "users" and optionally "flags", as text.

    Returns
    -------
    tables : dict of str to DataFrame
    n_ratings : int
        Number of ratings removed.
    """
    users = withdrawn_users(tables["users"])
    remaining = {
        name: table[~table["username"].isin(users)] if "username" in table else table for name, table in tables.items()
    }
    return remaining, len(tables["annotations"]) - len(remaining["annotations"])


def _merge_spellings(
    subset: Subset, tables: dict[str, pd.DataFrame], exact: bool
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Merge equivalent spellings of keys in ratings and flags; return the tables and warnings."""
    warnings: list[str] = []
    for column in subset.key:
        merged = {} if exact else merged_spellings(tables["annotations"][column])
        if merged:
            warnings.append(describe_merged(column, merged))
            tables = {name: table.assign(**{column: table[column].replace(merged)}) for name, table in tables.items()}
        groups = lookalikes(tables["annotations"][column])
        if groups and column not in subset.choices:
            warnings.append(describe_lookalikes(column, groups))
    return tables, tuple(warnings)


def load_annotations(folder: Path, subset: Subset, *, exact_keys: bool = False) -> Annotations:
    """Read, check and convert the ratings of a subset.

    Of repeated ratings of an item by the same rater only the newest is kept; of equal times, the later line. Ratings by
    raters who withdrew consent are excluded.

    Parameters
    ----------
    folder : Path
        Folder with annotations.csv, users.csv and optionally flags.csv.
    subset : Subset
    exact_keys : bool
        Treat keys that differ only in spelling as different items. By default they are merged, with a warning.

    Returns
    -------
    Annotations

    Raises
    ------
    DataError
        If any table has faults; the error lists the faults of all tables.
    MissingError
        If annotations.csv or users.csv does not exist.
    """
    raw = read_tables(folder, subset)
    required = required_columns(subset)
    source = {
        name: raw.tables[name] if len(raw.tables.get(name, ())) else _no_rows(required[name])
        for name in ("annotations", "flags")
    }
    consented, n_withdrawn = drop_withdrawn({**source, "users": raw.tables["users"]})
    merged, warnings = _merge_spellings(subset, {name: consented[name] for name in source}, exact_keys)
    table = merged["annotations"]
    ratings = table[[*subset.key, "username", *subset.carried]].assign(
        rating=table["rating"].map({name: code for code, name in enumerate(subset.scale)}).astype(np.int64),
        reaction_time_ms=pd.to_numeric(table["reaction_time_ms"]).astype(float),
        sample_time_ms=pd.to_numeric(table["sample_time_ms"]).astype(float),
        created_at=parse_times(table["created_at"]),
    )
    newest = ratings.sort_values("created_at", kind="stable").drop_duplicates([*subset.key, "username"], keep="last")
    return Annotations(
        subset=subset,
        ratings=newest.sort_values([*subset.key, "username"], ignore_index=True),
        users=consented["users"],
        flags=merged["flags"].reset_index(drop=True),
        rows={raw.path(name): len(rows) for name, rows in raw.tables.items()},
        rows_raw=len(source["annotations"]),
        excluded={REPEATED: len(ratings) - len(newest), WITHDRAWN: n_withdrawn},
        warnings=warnings,
    )
