"""Pseudonyms for usernames, and k-anonymity of the users table.

Pseudonyms are stable: the map from usernames to pseudonyms is stored next to the raw tables (file mode 600) and is only
ever extended. Tables must pass `leaks.scan` before they are written.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.leaks import split_words
from earmark.annotation.reading import parse_times
from earmark.errors import DataError, Fault, shown_path
from earmark.files.csv_table import read_csv_frame

DEMOGRAPHICS = ("age", "gender", "languages", "listening_setup", "degree", "expertise")
ACCOUNT = ("username", "is_active", "is_admin", "onboarded", "annotation_count", "created_at", "consent")
MAP_NAME = "_anon_map.csv"
MAP_COLUMNS = ("raw_username", "anon_username")
PSEUDONYM = re.compile(r"user_(\d+)")


def read_map(path: Path) -> dict[str, str]:
    """Read the map of pseudonyms.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to str
        {username: pseudonym}; empty if the file does not exist.

    Raises
    ------
    DataError
        If a line is not a pair of a username and a pseudonym, or repeats either of them.
    """
    if not path.is_file():
        return {}
    table, faults = read_csv_frame(path)
    faults += [Fault(1, column, "is missing") for column in MAP_COLUMNS if column not in table.columns]
    if not faults:
        for column in MAP_COLUMNS:
            faults += [
                Fault(int(line), column, "repeats an earlier line") for line in table.index[table[column].duplicated()]
            ]
        faults += [Fault(int(line), "raw_username", "is empty") for line in table.index[table["raw_username"] == ""]]
        malformed = table.index[~table["anon_username"].str.fullmatch(PSEUDONYM)]
        faults += [Fault(int(line), "anon_username", "is not of the form user_N") for line in malformed]
    if faults:
        raise DataError(
            {shown_path(path): faults},
            "Nothing was written. Restore the map from a backup: published pseudonyms depend on it.",
        )
    return dict(zip(table["raw_username"], table["anon_username"], strict=True))


def assign_pseudonyms(usernames: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Extend a map of pseudonyms to new users.

    Parameters
    ----------
    usernames : iterable of str
    known : mapping of str to str
        {username: pseudonym} of earlier runs.

    Returns
    -------
    dict of str to str
        All known pseudonyms, and for new users, in sorted order, the numbers after the highest known one.

    Examples
    --------
    >>> assign_pseudonyms(["ochre", "amber"], {"umber": "user_3"})
    {'umber': 'user_3', 'amber': 'user_4', 'ochre': 'user_5'}
    """
    highest = max((int(match[1]) for name in known.values() if (match := PSEUDONYM.fullmatch(name))), default=-1)
    new = sorted(set(usernames) - set(known))
    return {**known, **{name: f"user_{highest + 1 + i}" for i, name in enumerate(new)}}


def looks_like_pseudonym(username: str) -> bool:
    """Whether a username could be mistaken for a pseudonym.

    Examples
    --------
    >>> looks_like_pseudonym("User 3"), looks_like_pseudonym("user_x")
    (True, False)
    """
    return bool(PSEUDONYM.fullmatch("_".join(split_words(username))))


def pseudonymise(tables: Mapping[str, pd.DataFrame], pseudonyms: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Replace column `username` of all tables by pseudonyms.

    Parameters
    ----------
    tables : mapping of str to DataFrame
    pseudonyms : mapping of str to str
        {username: pseudonym} of all users in the tables.

    Returns
    -------
    dict of str to DataFrame
    """
    return {
        name: table.assign(username=table["username"].map(pseudonyms)) if "username" in table else table
        for name, table in tables.items()
    }


def drop_other_columns(table: pd.DataFrame, publishable: Iterable[str]) -> tuple[pd.DataFrame, list[str]]:
    """Drop the columns that may not be published.

    Parameters
    ----------
    table : DataFrame
    publishable : iterable of str
        Columns to keep; they need not exist.

    Returns
    -------
    table : DataFrame
    dropped : list of str
        Names of the dropped columns.

    Examples
    --------
    >>> drop_other_columns(pd.DataFrame(columns=["age", "city"]), ["age", "gender"])[1]
    ['city']
    """
    dropped = [column for column in table.columns if column not in set(publishable)]
    return table.drop(columns=dropped), dropped


# --- k-anonymity --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anonymity:
    """k-anonymity of the users table.

    Attributes
    ----------
    k : int
        Size of the smallest group of users with equal demographics; 0 without users.
    n_users : int
    n_unique : int
        Number of users whose demographics no other user has.
    unique_by : dict of str to int
        Number of users with a unique value, for each demographic column.
    """

    k: int
    n_users: int
    n_unique: int
    unique_by: dict[str, int]


def demographic_columns(users: pd.DataFrame, more: Iterable[str] = ()) -> list[str]:
    """Columns of users.csv that describe a person and are part of k-anonymity.

    Parameters
    ----------
    users : DataFrame
    more : iterable of str
        Further columns that are published.

    Returns
    -------
    list of str
    """
    return [column for column in (*DEMOGRAPHICS, *more) if column in users]


def anonymity(users: pd.DataFrame, more: Iterable[str] = ()) -> Anonymity:
    """k-anonymity of the users table over its demographic columns.

    Parameters
    ----------
    users : DataFrame
        Users as text, one row each. An empty cell is a value of its own.
    more : iterable of str
        Further columns that are published.

    Returns
    -------
    Anonymity
        Without demographic columns, k is the number of users.

    References
    ----------
    Sweeney (2002), k-anonymity: a model for protecting privacy, International Journal of Uncertainty, Fuzziness and
    Knowledge-Based Systems 10(5):557–570.

    Examples
    --------
    >>> anonymity(pd.DataFrame({"age": ["29", "29", "34"]})).k
    1
    """
    columns = demographic_columns(users, more)
    if not columns or users.empty:
        return Anonymity(len(users), len(users), 0, {})
    sizes = users.groupby(columns).size()
    unique_by = {column: int((users[column].value_counts() == 1).sum()) for column in columns}
    return Anonymity(int(sizes.min()), len(users), int((sizes == 1).sum()), unique_by)


def band_ages(users: pd.DataFrame, years: int) -> tuple[pd.DataFrame, list[Fault]]:
    """Replace ages by bands such as "25-29".

    Parameters
    ----------
    users : DataFrame
        Users as text, indexed by line number.
    years : int
        Width of a band. Bands start at multiples of it.

    Returns
    -------
    users : DataFrame
        Empty ages stay empty. Unchanged if there is no column `age`.
    faults : list of Fault
        One for each age that is not a finite number.

    Examples
    --------
    >>> band_ages(pd.DataFrame({"age": ["29", "30", ""]}), 10)[0]["age"].tolist()
    ['20-29', '30-39', '']
    """
    if "age" not in users:
        return users, []
    ages = pd.to_numeric(users["age"], errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    invalid = users["age"][ages.isna() & (users["age"] != "")]
    low = (ages // years * years).astype("Int64")
    bands = (low.astype(str) + "-" + (low + years - 1).astype(str)).where(ages.notna(), "")
    return users.assign(age=bands), [
        Fault(int(line), "age", f"'{age}' is not a number") for line, age in invalid.items()
    ]


def coarsen_times(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Truncate `created_at` to the day or month in UTC.

    Parameters
    ----------
    table : DataFrame
        Table as text. Returned unchanged if it has no column `created_at`.
    unit : {"day", "month"}

    Returns
    -------
    DataFrame
        Rows in order of the exact time. Of equal times the later line counts as the newer rating, so this order
        preserves which of repeated ratings is the newest.
    """
    if "created_at" not in table:
        return table
    exact = parse_times(table["created_at"])
    truncated = exact.dt.strftime({"day": "%Y-%m-%d", "month": "%Y-%m"}[unit])
    return table.assign(created_at=truncated).loc[exact.sort_values(kind="stable").index]


def describe_anonymity(result: Anonymity, columns: Sequence[str]) -> str:
    """Describe k-anonymity in one line.

    Parameters
    ----------
    result : Anonymity
    columns : sequence of str
        Demographic columns that it was computed over.

    Returns
    -------
    str
        k, the number of unique users, and the columns that make them unique.

    Examples
    --------
    >>> describe_anonymity(Anonymity(1, 3, 1, {"age": 1}), ["age"])
    'k = 1 over age; 1 of 3 users are unique (by one column: age (1))'
    """
    by_count = sorted(result.unique_by.items(), key=lambda item: -item[1])
    single = ", ".join(f"{column} ({n})" for column, n in by_count if n)
    cause = f"by one column: {single}" if single else "only by a combination of columns"
    over = ", ".join(columns) or "no demographic column"
    return f"k = {result.k} over {over}; {result.n_unique} of {result.n_users} users are unique" + (
        f" ({cause})" if result.n_unique else ""
    )
