"""Annotation tables: read as they come out of a spreadsheet, checked to the last cell, every fault listed.

Header names are fixed; `files.csv_table` says what is accepted as it is. An empty file or a header alone is a table
without rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.spelling import lookalikes, respellings, told_apart, told_joined
from earmark.annotation.subsets import Subset
from earmark.errors import DataError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_table

TABLES = ("annotations", "users", "flags")
OPTIONAL = ("flags",)
MAX_MILLISECONDS = 1e12  # some thirty years: an infinite time is no time
REPEATED = "older rating of an item by the same person"
WITHDRAWN = "rating by a person who withdrew consent"
YES = frozenset({"true", "yes", "y", "t", "1", "1.0", "given", "ja", "oui", "si", "sí", "да", "是", "はい"})
NO_CONSENT = frozenset(
    {"false", "no", "n", "f", "0", "0.0", "none", "never", "revoked", "withdrawn", "consent_revoked", "nein", "non"}
    | {"нет", "否", "いいえ", "refused", "declined"}
)
REVOKED = "CONSENT_REVOKED"

Rule = tuple[Callable[[pd.Series], pd.Series], str]


@dataclass(frozen=True)
class RawTables:
    """The tables of one subset as text, indexed by line; `flags` is missing from `tables` where there is no file."""

    subset: Subset
    folder: Path
    tables: dict[str, pd.DataFrame]

    def path(self, table: str) -> Path:
        """The file that a table was read from."""
        return table_path(self.folder, table)


@dataclass(frozen=True)
class Annotations:
    """One subset's ratings, checked and typed.

    ratings: the subset's key, `username`, the carried columns, `rating` (position on the scale),
    `reaction_time_ms`, `sample_time_ms` (float, NaN where empty), `created_at` (UTC); one row per rating,
    repeats removed. users: as text. flagged: the keys someone flagged, one row each.
    rows: {file: rows read}. rows_raw: ratings in the file.
    left_out: {reason: ratings that are not in `ratings`}. warnings: what to know about the keys.
    """

    subset: Subset
    ratings: pd.DataFrame
    users: pd.DataFrame
    flags: pd.DataFrame
    rows: dict[Path, int]
    rows_raw: int
    left_out: dict[str, int]
    warnings: tuple[str, ...] = ()


def table_path(folder: Path, table: str) -> Path:
    """Where a table of a subset's folder lies."""
    return folder / f"{table}.csv"


def read_tables(folder: Path, subset: Subset, remedy: str = "") -> RawTables:
    """Read and check every table of a subset's folder.

    remedy: what the user should do about faults, for the end of the message; by default, mend the raw tables.
    Raises DataError with every fault of every table, MissingError when a table that must exist does not.
    """
    tables: dict[str, pd.DataFrame] = {}
    faults: dict[str, list[Fault]] = {}
    for name in TABLES:
        path = table_path(folder, name)
        if not path.is_file():
            if name in OPTIONAL:
                continue
            raise MissingError(
                f"{shown_path(path)} is not there. Put the {subset.name} tables in {shown_path(folder)}/."
            )
        tables[name], faults[shown_path(path)] = read_csv(path)
    usernames = tables["users"]["username"] if "username" in tables["users"] else pd.Series(dtype=str)
    for name, table in tables.items():
        faults[shown_path(table_path(folder, name))] += check(table, name, subset, usernames)
    if any(faults.values()):
        mend = f"Fix the rows in annotations_raw/{subset.name}/ and run `uv run anonymize.py`, then this command again."
        raise DataError(faults, f"Nothing was written. {remedy or mend}")
    return RawTables(subset, folder, tables)


def required_columns(subset: Subset) -> dict[str, tuple[str, ...]]:
    """The columns that each table of a subset must have."""
    timing = ("reaction_time_ms", "sample_time_ms", "created_at")
    return {
        "annotations": ("annotation_id", "username", *subset.carried, *subset.key, "rating", *timing),
        "users": ("username",),
        "flags": ("flag_id", "username", *subset.key, "reason", "created_at"),
    }


def read_csv(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    """A table as text, with the line of each row as index, and what is wrong with its shape."""
    table = read_csv_table(path)
    index = pd.Index(table.lines, name="line", dtype=int)
    return pd.DataFrame(table.rows, columns=table.columns, index=index, dtype=str), table.faults


def _no_rows(columns: Sequence[str] = ()) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index([], name="line", dtype=int), columns=list(columns), dtype=str)


def check(table: pd.DataFrame, name: str, subset: Subset, usernames: pd.Series) -> list[Fault]:
    """What is wrong with the cells of one table; an empty file, which has no columns at all, has no faults."""
    if not len(table.columns):
        return []
    required = required_columns(subset)[name]
    faults = [
        Fault(1, column, f"is missing; the header has {', '.join(table.columns)}")
        for column in required
        if column not in table.columns
    ]
    for column, (is_wrong, problem) in _rules(name, subset, usernames).items():
        if column in table.columns and (column in required or column in ("created_at", "consent")):
            wrong = table[column][is_wrong(table[column])]
            faults += [
                Fault(int(line), column, f"'{cell}' {problem}") for line, cell in zip(wrong.index, wrong, strict=True)
            ]
    return faults


def _rules(name: str, subset: Subset, usernames: pd.Series) -> dict[str, Rule]:
    """What makes a cell wrong, column by column, and how to say so."""
    choices = {**subset.choices, "rating": subset.scale}
    unique: Rule = (lambda cells: (cells == "") | cells.duplicated(), "is empty or already used by a line above")
    milliseconds: Rule = (
        lambda cells: (cells != "") & ~pd.to_numeric(cells, errors="coerce").astype(float).between(0, MAX_MILLISECONDS),
        "is not a time in milliseconds",
    )
    return {
        **{column: (lambda cells: cells == "", "is empty, so the item cannot be told") for column in subset.key},
        **{column: _one_of(values) for column, values in choices.items()},
        "annotation_id": unique,
        "flag_id": unique,
        "username": unique if name == "users" else (lambda cells: ~cells.isin(usernames), "is not in users.csv"),
        "reaction_time_ms": milliseconds,
        "sample_time_ms": milliseconds,
        "consent": (
            lambda cells: ~cells.str.casefold().isin(YES | NO_CONSENT | {""}),
            "is neither yes nor no, so nobody knows whether the person consents; write True or False",
        ),
        "created_at": (lambda cells: parse_times(cells).isna(), "is not an ISO 8601 time such as 2026-05-09 17:38:09"),
    }


def _one_of(values: tuple[str, ...]) -> Rule:
    return (lambda cells: ~cells.isin(values), f"is not one of {', '.join(values)}")


def parse_times(cells: pd.Series) -> pd.Series:
    """ISO 8601 times as UTC; a time without zone is taken as UTC, what cannot be read is NaT."""
    dated = cells.where(cells.str.match(r"\d{4}-\d\d"), "")  # pandas would read "now" as the time of day
    return pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")


def exclude_ratings(
    annotations: Annotations, raters: Sequence[str] = (), min_reaction_ms: float | None = None
) -> Annotations:
    """The annotations without some people, or without hasty ratings.

    Repeats are resolved first: leaving a hasty newer rating out does not bring the older one back. A rating
    without a reaction time stays.
    """
    ratings, left_out = annotations.ratings, dict(annotations.left_out)
    for name in raters:
        theirs = ratings["username"] == name
        left_out[f"rated by {name} (--exclude-rater)"] = int(theirs.sum())
        ratings = ratings[~theirs]
    if min_reaction_ms is not None:
        hasty = ratings["reaction_time_ms"] < min_reaction_ms
        left_out[f"reaction under {min_reaction_ms:g} ms (--min-reaction-ms)"] = int(hasty.sum())
        ratings = ratings[~hasty]
    return replace(annotations, ratings=ratings.reset_index(drop=True), left_out=left_out)


def withdrawn(users: pd.DataFrame) -> set[str]:
    """The people whose consent is withdrawn, by the column consent or by an account that was renamed for it."""
    if "username" not in users:
        return set()
    revoked = users["username"].str.upper().str.startswith(REVOKED)
    if "consent" in users:
        revoked |= users["consent"].str.casefold().isin(NO_CONSENT)
    return set(users["username"][revoked])


def without_withdrawn(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], int]:
    """The tables without the people who withdrew their consent, their ratings and their flags; and how many ratings."""
    gone = withdrawn(tables["users"])
    left = {
        name: table[~table["username"].isin(gone)] if "username" in table else table for name, table in tables.items()
    }
    return left, len(tables["annotations"]) - len(left["annotations"])


def _spelled_alike(
    subset: Subset, tables: dict[str, pd.DataFrame], exact: bool
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Ratings and flags with keys joined that differ in nothing but spelling, and what to say about keys."""
    told: list[str] = []
    for column in subset.key:
        given = tables["annotations"][column]
        joined = {} if exact else respellings(given)
        if joined:
            told.append(told_joined(column, joined))
            tables = {name: table.assign(**{column: table[column].replace(joined)}) for name, table in tables.items()}
        groups = lookalikes(tables["annotations"][column])
        if groups and column not in subset.choices:
            told.append(told_apart(column, groups))
    return tables, tuple(told)


def load_annotations(folder: Path, subset: Subset, *, exact_keys: bool = False) -> Annotations:
    """Read, check and type a subset's ratings, and keep the newest where a person rated an item twice.

    Equal times: the later line counts. People who withdrew their consent are left out and counted. Keys that differ
    only in spelling are one item unless exact_keys. Raises as `read_tables`.
    """
    raw = read_tables(folder, subset)
    required = required_columns(subset)
    given = {
        name: raw.tables[name] if len(raw.tables.get(name, ())) else _no_rows(required[name])
        for name in ("annotations", "flags")
    }
    kept, n_withdrawn = without_withdrawn({**given, "users": raw.tables["users"]})
    spelled, warnings = _spelled_alike(subset, {name: kept[name] for name in given}, exact_keys)
    table = spelled["annotations"]
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
        users=kept["users"],
        flags=spelled["flags"].reset_index(drop=True),
        rows={raw.path(name): len(rows) for name, rows in raw.tables.items()},
        rows_raw=len(given["annotations"]),
        left_out={REPEATED: len(ratings) - len(newest), WITHDRAWN: n_withdrawn},
        warnings=warnings,
    )
