"""Names → pseudonyms, and how well people hide behind them.

A pseudonym is an account's for good: the map from names to pseudonyms lives beside the raw tables, readable by
its owner alone, and grows only at the end. Nothing here may reach an output but through `leaks.scan`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.leaks import words_of
from earmark.annotation.tables import parse_times, read_csv
from earmark.errors import DataError, Fault, shown_path

DEMOGRAPHICS = ("age", "gender", "languages", "listening_setup", "degree", "expertise")
ACCOUNT = ("username", "is_active", "is_admin", "onboarded", "annotation_count", "created_at", "consent")
MAP_NAME = "_anon_map.csv"
MAP_COLUMNS = ("raw_username", "anon_username")
PSEUDONYM = re.compile(r"user_(\d+)")


def read_map(path: Path) -> dict[str, str]:
    """The pseudonyms given so far, {raw username: pseudonym}; empty where there is no map yet.

    Raises DataError when a line of the map is no pair of a name and a pseudonym, or gives one of them twice.
    """
    if not path.is_file():
        return {}
    table, faults = read_csv(path)
    faults += [Fault(1, column, "is missing") for column in MAP_COLUMNS if column not in table.columns]
    if not faults:
        for column in MAP_COLUMNS:
            faults += [
                Fault(int(line), column, "stands on a line above too")
                for line in table.index[table[column].duplicated()]
            ]
        faults += [Fault(int(line), "raw_username", "is empty") for line in table.index[table["raw_username"] == ""]]
        strange = table.index[~table["anon_username"].str.fullmatch(PSEUDONYM)]
        faults += [Fault(int(line), "anon_username", "is not of the form user_N") for line in strange]
    if faults:
        raise DataError(
            {shown_path(path): faults}, "Nothing was written. Restore the map: ids already published hang on it."
        )
    return dict(zip(table["raw_username"], table["anon_username"], strict=True))


def assign_pseudonyms(usernames: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The known pseudonyms and, in sorted order after the highest of them, one for everyone new.

    >>> assign_pseudonyms(["ochre", "amber"], {"umber": "user_3"})
    {'umber': 'user_3', 'amber': 'user_4', 'ochre': 'user_5'}
    """
    highest = max((int(match[1]) for name in known.values() if (match := PSEUDONYM.fullmatch(name))), default=-1)
    new = sorted(set(usernames) - set(known))
    return {**known, **{name: f"user_{highest + 1 + i}" for i, name in enumerate(new)}}


def looks_like_pseudonym(username: str) -> bool:
    """Whether an account's own name could be mistaken for a pseudonym, so that no scan could tell them apart."""
    return bool(PSEUDONYM.fullmatch("_".join(words_of(username))))


def pseudonymised(tables: Mapping[str, pd.DataFrame], pseudonyms: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The tables with `username` replaced; everything else as it was."""
    return {
        name: table.assign(username=table["username"].map(pseudonyms)) if "username" in table else table
        for name, table in tables.items()
    }


def published(table: pd.DataFrame, known: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with the known columns only, and the names of the others: nobody has looked at what they hold."""
    others = [column for column in table.columns if column not in set(known)]
    return table.drop(columns=others), others


# --- who can be told apart ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anonymity:
    """How well people hide among each other by their demographics.

    k: size of the smallest group alike in all columns (0 without people). unique: people alone in their group.
    unique_by: {column: people who are alone by that column alone}.
    """

    k: int
    people: int
    unique: int
    unique_by: dict[str, int]


def demographic_columns(users: pd.DataFrame, more: Iterable[str] = ()) -> list[str]:
    """The columns of users.csv that say something about a person. more: columns that are published on request."""
    return [column for column in (*DEMOGRAPHICS, *more) if column in users]


def anonymity(users: pd.DataFrame, more: Iterable[str] = ()) -> Anonymity:
    """k-anonymity of the users table over the demographic columns that it has; without any, k = everyone.

    Source: Sweeney (2002), International Journal of Uncertainty, Fuzziness and Knowledge-Based Systems 10:557.
    """
    columns = demographic_columns(users, more)
    if not columns or users.empty:
        return Anonymity(len(users), len(users), 0, {})
    sizes = users.groupby(columns).size()
    alone = {column: int((users[column].value_counts() == 1).sum()) for column in columns}
    return Anonymity(int(sizes.min()), len(users), int((sizes == 1).sum()), alone)


def band_ages(users: pd.DataFrame, years: int) -> tuple[pd.DataFrame, list[Fault]]:
    """Ages as bands of so many years ("25-29"), and the ages that are no whole number."""
    if "age" not in users:
        return users, []
    ages = pd.to_numeric(users["age"], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    wrong = users["age"][ages.isna() & (users["age"] != "")]
    low = (ages // years * years).astype("Int64")
    bands = (low.astype(str) + "-" + (low + years - 1).astype(str)).where(ages.notna(), "")
    return users.assign(age=bands), [Fault(int(line), "age", f"'{age}' is not a number") for line, age in wrong.items()]


def coarsen_times(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """`created_at` cut to the day or the month.

    The rows are first put in order of the exact time, so that of two ratings of the same item by the same
    person the newer stays the later line, which is what counts among equal times.
    """
    if "created_at" not in table:
        return table
    exact = parse_times(table["created_at"])
    cut = exact.dt.strftime({"day": "%Y-%m-%d", "month": "%Y-%m"}[unit])
    return table.assign(created_at=cut).loc[exact.sort_values(kind="stable").index]


def describe(found: Anonymity, columns: Sequence[str]) -> str:
    """One line for people: k, and the columns to blame."""
    worst = ", ".join(f"{column} ({n})" for column, n in sorted(found.unique_by.items(), key=lambda c: -c[1]) if n)
    blame = f"alone by one column: {worst}" if worst else "alone only by a combination of columns"
    over = ", ".join(columns) or "no demographic column"
    return f"k = {found.k} over {over}; {found.unique} of {found.people} people are unique" + (
        f" ({blame})" if found.unique else ""
    )
