"""Names → pseudonyms, and the proof that no name is left.

A pseudonym is an account's for good: the map from names to pseudonyms lives beside the raw tables, readable by
its owner alone, and grows only at the end. Nothing here may reach an output but through `find_leaks`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from earmark.annotation.subsets import Subset
from earmark.annotation.tables import parse_times, read_csv
from earmark.errors import DataError, Fault, shown_path

DEMOGRAPHICS = ("age", "gender", "languages", "listening_setup", "degree", "expertise")
ACCOUNT = ("username", "is_active", "is_admin", "onboarded", "annotation_count", "created_at", "consent")
MAP_NAME = "_anon_map.csv"
MAP_COLUMNS = ("raw_username", "anon_username")
PSEUDONYM = re.compile(r"user_(\d+)")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
HOME_FOLDER = re.compile(r"(/home/|/Users/|/root\b|[A-Za-z]:\\Users\\|~[A-Za-z]\w*/)", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+")


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
    return bool(PSEUDONYM.fullmatch("_".join(_words(username))))


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


# --- leaks --------------------------------------------------------------------------------------------------


def find_leaks(table: pd.DataFrame, usernames: Iterable[str], checked: Iterable[str]) -> list[Fault]:
    """Every cell that still holds a raw username, an e-mail address or a path to somebody's home folder.

    Names are found as whole words, whatever the case, the accents' encoding, or the punctuation between their
    parts ("Anna.S" in "as anna_s said"). `username` holds pseudonyms by now. checked: columns whose cells were
    already held against a closed set of values or a number format. The message names line and column but not the name.
    """
    names = {words for name in usernames if (words := _words(name))}
    wordless = {name.casefold() for name in usernames if not _words(name)}
    longest = max(map(len, names), default=0)
    faults: list[Fault] = []
    for column in table.columns.difference(["username", *checked], sort=False):
        verdicts = {cell: _leak(cell, names, wordless, longest) for cell in table[column].unique()}
        faults += [
            Fault(int(line), column, f"still holds {verdicts[cell]}")
            for line, cell in zip(table.index, table[column], strict=True)
            if verdicts[cell]
        ]
    return faults


def _leak(cell: str, names: set[tuple[str, ...]], wordless: set[str], longest: int) -> str:
    if EMAIL.search(cell):
        return "an e-mail address"
    if HOME_FOLDER.search(cell):
        return "a path to a home folder"
    words = _words(cell)
    runs = (words[i : i + n] for n in range(1, longest + 1) for i in range(len(words) - n + 1))
    if any(run in names for run in runs) or any(name in cell.casefold() for name in wordless):
        return "a raw username"
    return ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def checked_columns(subset: Subset) -> tuple[str, ...]:
    """Columns that cannot hold a name: `tables.check` holds them against a format or a set of values."""
    return ("rating", *subset.choices, "reaction_time_ms", "sample_time_ms", "created_at")


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
