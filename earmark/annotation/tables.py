"""Annotation tables: read files as exported by spreadsheets and annotation tools, check every cell, list all faults.

`files.csv_table` describes the accepted CSV dialects, `annotation.reading` what flags change. An empty file and a
header alone are tables without rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd

from earmark.annotation.keys import key_ranks
from earmark.annotation.options import AS_WRITTEN, ReadingOptions
from earmark.annotation.reading import (
    COMMA_OF_THOUSANDS,
    DECIMAL_COMMA,
    MISSING_WORDS,
    TIME_FAULT,
    TextTable,
    case_variants,
    clean_ratings,
    drop_identical,
    merge_case,
    merge_equal,
    parse_times,
    read_source,
    rename_columns,
    shown_header,
    time_advice,
)
from earmark.annotation.spelling import (
    describe_lookalikes,
    describe_merged,
    lookalikes,
    merged_files,
    merged_spellings,
)
from earmark.annotation.subsets import EMOLIA_BENCH, Subset
from earmark.errors import DataError, Fault, MissingError, shown_path

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
HEADER_HAS = "is missing; the header has "
MAX_CLASSES = 200  # of a nominal scale; more are free text or numbers
TIMING = ("reaction_time_ms", "sample_time_ms")
COMPULSORY = ("username", "rating")  # columns of every table of ratings, besides the key

Advice = Callable[[str], str]  # what would read an invalid cell


@dataclass(frozen=True)
class CellRule:
    """What the cells of a column must be.

    Attributes
    ----------
    invalid : callable
        Maps cells to a mask of the invalid ones.
    problem : str
        The words that follow an invalid value.
    advice : callable
        Maps an invalid value to the flag that would read it; empty if there is none.
    """

    invalid: Callable[[pd.Series], pd.Series]
    problem: str
    advice: Advice = lambda cell: ""


@dataclass(frozen=True)
class RawTables:
    """Tables of one subset as text.

    Attributes
    ----------
    subset : Subset
        With the levels of the data, if the description has none.
    folder : Path
        Folder of the subset.
    tables : dict of str to DataFrame
        "annotations", "users" and, if the file exists, "flags". Cells are text; the index is the line in the file.
        Columns have the names of the published format: `username`, `rating`, `created_at` and `annotation_id`.
    paths : dict of str to Path
        File that each table was read from.
    rows : dict of str to int
        Number of rows in each file.
    excluded : dict of str to int
        Number of ratings left out while reading, for each reason.
    warnings : tuple of str
    """

    subset: Subset
    folder: Path
    tables: dict[str, pd.DataFrame]
    paths: dict[str, Path]
    rows: dict[str, int]
    excluded: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def path(self, table: str) -> Path:
        """File that a table was read from."""
        return self.paths[table]


@dataclass(frozen=True)
class Annotations:
    """Checked ratings of one subset.

    Attributes
    ----------
    subset : Subset
    ratings : DataFrame
        One row per rating: the key columns, `username`, the carried columns, `rating` (int, position on the scale; on
        an interval scale a float), `reaction_time_ms` and `sample_time_ms` (float, NaN where empty) and `created_at`
        (UTC, NaT where unknown). At most one rating per rater and item.
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
        Warnings about the spelling of keys and about ratings.
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


@dataclass(frozen=True)
class TableFiles:
    """Files to read instead of annotations.csv and users.csv in the folder of a subset.

    Attributes
    ----------
    annotations, users : Path or None
    """

    annotations: Path | None = None
    users: Path | None = None

    def paths(self, folder: Path, subset: Subset) -> dict[str, Path]:
        """File of each table that exists.

        Raises
        ------
        MissingError
            If a required file does not exist.
        """
        paths: dict[str, Path] = {}
        for name, given in (("annotations", self.annotations), ("users", self.users), ("flags", None)):
            path = given or table_path(folder, name)
            if given is None and self.annotations is not None:
                continue
            if path.is_file():
                paths[name] = path
            elif given is not None:
                raise MissingError(f"{shown_path(path)} does not exist.")
            elif name == "annotations" or (name not in OPTIONAL and subset.format == EMOLIA_BENCH):
                raise MissingError(
                    f"{shown_path(path)} does not exist. Put the tables of {subset.name} into {shown_path(folder)}/."
                )
        return paths


IN_FOLDER = TableFiles()


def read_tables(
    folder: Path,
    subset: Subset,
    remedy: str = "",
    reading: ReadingOptions = AS_WRITTEN,
    files: TableFiles = IN_FOLDER,
) -> RawTables:
    """Read and check all tables of a subset.

    Parameters
    ----------
    folder : Path
        Folder with annotations.csv, users.csv and optionally flags.csv. Of a subset in the format "table" only
        annotations.csv is required.
    subset : Subset
    remedy : str
        What the user should do about faults; ends the error message. By default: fix the raw tables.
    reading : ReadingOptions
    files : TableFiles
        Files to read instead of those in the folder.

    Returns
    -------
    RawTables

    Raises
    ------
    DataError
        If any table has faults; the error lists the faults of all tables.
    MissingError
        If annotations.csv or a required users.csv does not exist, or if a name of --map does not occur.
    """
    paths = files.paths(folder, subset)
    names = reading.mapping()
    sources = {name: TextTable(*read_source(path)) for name, path in paths.items()}
    rows = {name: len(read.table) for name, read in sources.items()}
    original = {name: _prepare(read, name, subset, reading, names) for name, read in sources.items()}
    annotations = sources["annotations"]
    warnings = _merge_raters(sources, subset, reading)
    described = subset
    if "rating" in annotations.table:
        clean_ratings(annotations, _missing_allowed(reading, subset), names, subset)
        subset, found = resolve_levels(annotations.table["rating"], subset, ignore_case=reading.ignore_case)
        annotations.faults += found
        if annotations.merged:
            warnings.append(describe_merged(subset.columns.rating, annotations.merged))
    known = sources["users"].table.get("username", pd.Series(dtype=str)) if "users" in sources else None
    faults = {
        shown_path(paths[name]): [
            _in_words_of_the_file(fault, original[name], names)
            for fault in (*read.faults, *find_faults(read.table, name, subset, known, reading))
        ]
        for name, read in sources.items()
    }
    if any(faults.values()):
        default = (
            f"Fix the rows in annotations_raw/{subset.name}/ and run `uv run anonymize.py`, then this command again."
        )
        if files.annotations is not None:
            default = "Correct the file, or read it with the flags named above."
        raise DataError(faults, f"Nothing was written. {remedy or default}")
    if unused := [old for old in names if not any(old in read.used for read in sources.values())]:
        raise MissingError(f"--map {unused[0]}=…: neither a column nor a rating of {shown_path(paths['annotations'])}.")
    tables = {name: _with_iso_times(read.table, reading) for name, read in sources.items()}
    if "users" not in tables:
        column = annotations.table.get("username", pd.Series(dtype=str))
        tables["users"] = pd.DataFrame({"username": sorted(column.unique())}, dtype=str)
    if subset.format != EMOLIA_BENCH:
        _require_ratings(annotations.table, paths["annotations"])
        warnings += rating_warnings(annotations.table, subset, described)
    return RawTables(subset, folder, tables, paths, rows, annotations.excluded, tuple(warnings))


def _require_ratings(table: pd.DataFrame, path: Path) -> None:
    """Raise DataError for an empty file, a header alone, and a table in which every rating is missing."""
    if not len(table):
        problem = "has no ratings" if len(table.columns) else "is empty"
        raise DataError({shown_path(path): [Fault(1, "", problem)]}, "Nothing was written.")


def _merge_raters(sources: Mapping[str, TextTable], subset: Subset, reading: ReadingOptions) -> list[str]:
    """Join names of raters that differ only in spelling, in all tables; return warnings, which show no names."""
    users = sources["users"].table if "users" in sources else pd.DataFrame()
    preferred = list(users["username"].unique()) if "username" in users else []
    named = [read for read in sources.values() if "username" in read.table and len(read.table)]
    joined: set[str] = set()
    if subset.format != EMOLIA_BENCH and not reading.exact_keys:
        for read in named:
            before = read.table["username"]
            after = merge_equal(before, preferred)
            if after is not before:
                joined |= set(before[before != after])
                read.table = read.table.assign(username=after)
    if reading.ignore_case:
        for read in named:
            read.table = read.table.assign(username=merge_case(read.table["username"], preferred))
    if not joined:
        return []
    spellings = "1 spelling" if len(joined) == 1 else f"{len(joined):,} spellings"
    column = subset.columns.rater
    return [
        f"{column}: merged {spellings} of raters that differ only in blanks, Unicode form or zero decimals; "
        "--exact-keys treats them as different"
    ]


def _with_iso_times(table: pd.DataFrame, reading: ReadingOptions) -> pd.DataFrame:
    """Write times in ISO 8601 where a flag allowed other formats, so that they are read without the flag."""
    if "created_at" not in table or not (reading.day_first or reading.month_first):
        return table
    cells = table["created_at"]
    times = parse_times(cells, day_first=reading.day_first, month_first=reading.month_first)
    changed = parse_times(cells).isna() & times.notna()
    return table.assign(created_at=cells.where(~changed, times.dt.strftime("%Y-%m-%d %H:%M:%S")))


def _missing_allowed(reading: ReadingOptions, subset: Subset) -> ReadingOptions:
    """An empty cell means "no rating" unless the published format, which has none, is read without --missing."""
    if reading.missing is None and subset.format != EMOLIA_BENCH:
        return replace(reading, missing=())
    return reading


def _prepare(
    read: TextTable, name: str, subset: Subset, reading: ReadingOptions, names: Mapping[str, str]
) -> dict[str, str]:
    """Rename columns of a table to those of the published format; return the names in the file by the new ones."""
    if not len(read.table.columns):
        return {}
    if name == "annotations":
        rename_columns(read, names)
    if name == "annotations" and reading.drop_identical:
        drop_identical(read)
    columns = subset.columns
    described = {columns.rater: "username", columns.rating: "rating", columns.time: "created_at"}
    if name == "annotations":
        described[columns.id] = "annotation_id"
    else:
        del described[columns.rating]
    renamed = {old: new for old, new in described.items() if old != new and old in read.table.columns}
    # A column that has the published name but is not the one described is not needed.
    table = read.table.drop(columns=[new for new in renamed.values() if new in read.table.columns])
    read.table = table.rename(columns=renamed)
    return {new: old for old, new in described.items() if new in renamed.values() or new not in read.table.columns}


def _in_words_of_the_file(fault: Fault, original: Mapping[str, str], names: Mapping[str, str]) -> Fault:
    """A fault with the names of columns in the file. names: --map, old to new."""
    problem, column = fault.problem, original.get(fault.column, fault.column)
    if problem.startswith(HEADER_HAS):
        columns = problem.removeprefix(HEADER_HAS).split(", ")
        problem = HEADER_HAS + ", ".join(original.get(column, column) for column in columns)
        if column in names:
            return replace(
                fault, column=column, problem=problem, advice=f"--map renamed it; its name is {names[column]}"
            )
    return replace(fault, column=column, problem=problem)


def required_columns(subset: Subset) -> dict[str, tuple[str, ...]]:
    """Columns of each table of a subset that are published, by table name.

    All are required in the format of emolia-bench; else only `username`, `rating`, the key and the carried columns.
    """
    return {
        "annotations": (
            "annotation_id",
            "username",
            *subset.carried,
            *subset.key,
            "rating",
            *TIMING,
            "created_at",
        ),
        "users": ("username",),
        "flags": ("flag_id", "username", *subset.key, "reason", "created_at"),
    }


def _must_have(name: str, subset: Subset) -> tuple[str, ...]:
    """Columns that a table must have."""
    if subset.format == EMOLIA_BENCH:
        return required_columns(subset)[name]
    return {
        "annotations": (*subset.key, *subset.carried, *COMPULSORY),
        "users": ("username",),
        "flags": subset.key,
    }[name]


def _no_rows(columns: Sequence[str] = ()) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index([], name="line", dtype=int), columns=list(columns), dtype=str)


def find_faults(
    table: pd.DataFrame,
    name: str,
    subset: Subset,
    usernames: pd.Series | None,
    reading: ReadingOptions = AS_WRITTEN,
) -> list[Fault]:
    """Find missing columns and invalid cells of one table.

    Parameters
    ----------
    table : DataFrame
        Cells as text, indexed by line number.
    name : {"annotations", "users", "flags"}
    subset : Subset
    usernames : Series of str or None
        Usernames in users.csv; other tables may use no others. None if there is no users.csv.
    reading : ReadingOptions
        Formats of times that are accepted.

    Returns
    -------
    list of Fault
        Empty for a table without columns, which is an empty file.
    """
    if not len(table.columns):
        return []  # `_require_ratings` reports it where ratings are required
    required = _must_have(name, subset)
    header = HEADER_HAS + shown_header(list(table.columns))
    missing = [column for column in required if column not in table.columns]
    advice = _melt_advice(subset) if {*COMPULSORY} <= {*missing} and subset.format != EMOLIA_BENCH else ""
    faults = [Fault(1, column, header, advice=advice if column in COMPULSORY else "") for column in missing]
    for column, rule in _cell_rules(name, subset, usernames, reading).items():
        if column in table.columns and (column in required or column in CHECKED_WHERE_PRESENT):
            invalid = table[column][rule.invalid(table[column])]
            faults += [
                Fault(int(line), column, rule.problem, str(cell), rule.advice(cell)) for line, cell in invalid.items()
            ]
    return faults


def _melt_advice(subset: Subset) -> str:
    """What to do with a table that has a column for each rater."""
    columns = subset.columns
    return (
        "a table with a column for each rater becomes one with a row for each rating by pandas: "
        f"table.melt({list(subset.key)!r}, var_name={columns.rater!r}, value_name={columns.rating!r})"
    )


CHECKED_WHERE_PRESENT = ("created_at", "consent", "annotation_id", *TIMING)


def _cell_rules(name: str, subset: Subset, usernames: pd.Series | None, reading: ReadingOptions) -> dict[str, CellRule]:
    """Rules for the cells of each column."""
    unique = CellRule(
        lambda cells: (cells == "") | cells.duplicated(), "is empty or repeats an earlier line", _repeated
    )
    milliseconds = CellRule(
        lambda cells: (cells != "") & ~parse_numbers(cells).between(0, MAX_MILLISECONDS),
        "is not a time in milliseconds",
    )
    empty = CellRule(lambda cells: cells == "", "is empty; key columns need a value")
    rater = CellRule(lambda cells: cells == "", "is empty; every rating needs a rater")
    if name == "users":
        rater = unique
    elif usernames is not None:
        rater = CellRule(
            lambda cells: ~cells.isin(usernames), "is not in users.csv", lambda cell: _case_advice(cell, usernames)
        )
    return {
        **dict.fromkeys(subset.key, empty),
        **{column: _one_of(values) for column, values in subset.choices.items()},
        "rating": _rating_rule(subset),
        "annotation_id": unique,
        "flag_id": unique,
        "username": rater,
        "reaction_time_ms": milliseconds,
        "sample_time_ms": milliseconds,
        "consent": CellRule(
            lambda cells: ~cells.str.casefold().isin(CONSENT_GIVEN | CONSENT_REFUSED | {""}),
            "is neither yes nor no; write True or False",
        ),
        "created_at": CellRule(
            lambda cells: (
                parse_times(cells, day_first=reading.day_first, month_first=reading.month_first).isna()
                & ~((cells == "") & (subset.format != EMOLIA_BENCH))
            ),
            TIME_FAULT,
            time_advice,
        ),
    }


def _one_of(values: tuple[str, ...]) -> CellRule:
    return CellRule(lambda cells: ~cells.isin(values), f"is not one of {', '.join(values)}")


def parse_numbers(cells: pd.Series) -> pd.Series:
    """Parse numbers, each distinct cell once.

    Parameters
    ----------
    cells : Series of str

    Returns
    -------
    Series of float
        NaN where a cell is not a number.

    Examples
    --------
    >>> parse_numbers(pd.Series(["12", "", "x", "1.5"])).tolist()
    [12.0, nan, nan, 1.5]
    """
    codes, distinct = pd.factorize(cells)
    numbers = np.asarray(pd.to_numeric(pd.Series(distinct, dtype=cells.dtype), errors="coerce"), dtype=float)
    return pd.Series(numbers[codes], index=cells.index)


def _rating_rule(subset: Subset) -> CellRule:
    """Rule for ratings: numbers on an interval scale, else the levels."""

    def advice(cell: str) -> str:
        if not cell:
            return "--missing reads empty cells as no rating"
        if cell.casefold() in MISSING_WORDS:
            return f"--missing {quote(cell)} reads such cells as no rating"
        if cell.casefold() in {level.casefold() for level in subset.levels}:
            return CASE_OF_LEVEL
        if subset.scale == "interval":
            if COMMA_OF_THOUSANDS.fullmatch(cell):
                return "--decimal-comma reads 1,234 as 1.234; write thousands without commas"
            return "--decimal-comma reads 3,5 as 3.5" if DECIMAL_COMMA.fullmatch(cell) else MAP_NUMBER
        return MAP_LEVEL

    if subset.scale == "interval":
        return CellRule(
            lambda cells: ~np.isfinite(parse_numbers(cells)),
            "is not a number, which an interval scale needs",
            advice,
        )
    if not subset.levels:  # resolve_levels has reported why there are none
        return CellRule(lambda cells: cells == "", "is empty", advice)
    return CellRule(lambda cells: ~cells.isin(subset.levels), f"is not one of {', '.join(subset.levels)}", advice)


CASE_OF_LEVEL = "--ignore-case reads levels in another case"
MAP_LEVEL = "--map VALUE=LEVEL reads a value as a level, --missing VALUE as no rating"
MAP_NUMBER = "--map VALUE=NUMBER reads a value as a number, --missing VALUE as no rating"


def _repeated(cell: str) -> str:
    return "--drop-identical drops lines that are equal in every column" if cell else ""


def _case_advice(cell: str, usernames: pd.Series) -> str:
    known = cell.casefold() in set(usernames.str.casefold())
    return "--ignore-case reads names in another case" if known else ""


# --- levels of the data -------------------------------------------------------------------------------------


def resolve_levels(cells: pd.Series, subset: Subset, *, ignore_case: bool = False) -> tuple[Subset, list[Fault]]:
    """Take the levels of a nominal or binary scale from the data, if the description has none.

    Parameters
    ----------
    cells : Series of str
        Ratings, indexed by line.
    subset : Subset
    ignore_case : bool
        Whether the present level may have another case in the data.

    Returns
    -------
    subset : Subset
        With levels: the classes in sorted order, or the absent and the present level.
    faults : list of Fault
        If the data contradict the scale.
    """
    if subset.levels or subset.scale not in ("nominal", "binary") or not len(cells):
        return subset, []
    counts = cells.value_counts()
    values = sorted(map(str, counts.index), key=_number_first)
    first = int(cells.index[0])
    shown = ", ".join(f"'{value}' ({n:,})" for value, n in list(counts.items())[:10])
    faults: list[Fault] = []
    for group in case_variants(values):
        spellings = " and ".join(f"'{value}'" for value in group)
        faults.append(
            Fault(
                int(cells.index[cells == group[1]][0]),
                "rating",
                f"{spellings} differ only in case",
                advice="--ignore-case reads them as one",
            )
        )
    if subset.scale == "binary":
        others = [value for value in values if value != subset.present_from]
        if len(others) == len(values):
            advice = CASE_OF_LEVEL if case_variants([*values, str(subset.present_from)]) else ""
            problem = f"no rating is '{subset.present_from}'; the ratings are {shown}"
            faults.append(Fault(first, "rating", problem, advice=advice))
        elif len(others) > 1:
            problem = f"a binary scale has two levels, but there are {len(values)} different ratings: {shown}"
            faults.append(Fault(first, "rating", problem, advice=MAP_LEVEL))
        levels = (*others, str(subset.present_from))
    else:
        if len(values) > MAX_CLASSES:
            problem = (
                f"{len(values):,} different ratings on a nominal scale, which may have {MAX_CLASSES} classes; numbers "
                "need --scale interval"
            )
            faults.append(Fault(first, "rating", problem))
        levels = tuple(values)
    return (subset, faults) if faults else (replace(subset, levels=levels), [])


def _number_first(value: str) -> tuple[int, float, str]:
    """Sort key: numbers by value, then words."""
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def rating_warnings(table: pd.DataFrame, subset: Subset, described: Subset) -> tuple[str, ...]:
    """What looks wrong with a table although every cell can be read.

    Parameters
    ----------
    table : DataFrame
        Ratings as text without faults.
    subset : Subset
        With the levels of the data.
    described : Subset
        As described by the user.

    Returns
    -------
    tuple of str
    """
    warnings: list[str] = []
    counts = table["rating"].value_counts()
    for level in subset.levels if not described.levels else ():
        if level.casefold() in MISSING_WORDS and level != described.present_from:
            times = "once" if counts[level] == 1 else f"{counts[level]:,} times"
            warnings.append(
                f"'{level}' ({times}) counts as a rating of its own; --missing {quote(level)} reads it as no rating"
            )
    raters = table["username"].unique()
    if groups := case_variants(list(raters)):
        # Names stay out of the warning, which is part of the published summary.
        n = sum(map(len, groups))
        warnings.append(f"{n:,} raters whose names differ only in case count as different; --ignore-case joins them")
    if len(raters) == len(table) > len(table[list(subset.key)].drop_duplicates()):
        column = subset.columns.rater
        warnings.append(
            f"each of the {len(raters):,} raters has a single rating; check that {column} is the column of the rater"
        )
    if "created_at" not in table:
        repeated = int(table.duplicated([*subset.key, "username"]).sum())
        if repeated:
            ratings = "1 rating repeats its" if repeated == 1 else f"{repeated:,} ratings repeat their"
            warnings.append(f"{ratings} item and rater; the table has no time, so the last line counts")
    if subset.scale == "interval":
        warnings += _outlier_warnings(parse_numbers(table["rating"]))
    elif subset.scale == "nominal" and len(subset.levels) > 10 and all(_number_first(v)[0] == 0 for v in subset.levels):
        warnings.append(
            f"the {len(subset.levels)} classes are numbers without order; --scale interval treats ratings as numbers"
        )
    return tuple(warnings)


def _outlier_warnings(values: pd.Series) -> list[str]:
    """Numbers far from all others on a scale with few different numbers, such as 99 for "no answer"."""
    counts = values.value_counts()
    numbers = np.sort(counts.index.to_numpy(dtype=float))
    if not 3 <= len(numbers) <= 25:
        return []
    warnings = []
    for end, rest in ((numbers[0], numbers[1:]), (numbers[-1], numbers[:-1])):
        distance = min(abs(end - rest[0]), abs(end - rest[-1]))
        if distance > 3 * max(rest[-1] - rest[0], 1e-12):
            times = "once" if counts[end] == 1 else f"{counts[end]:,} times"
            warnings.append(
                f"the rating {end:g} ({times}) is far from all others ({rest[0]:g} to {rest[-1]:g}); "
                f"--missing {end:g} reads it as no rating"
            )
    return warnings


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
            tables = _respell(tables, column, merged)
        if not exact and subset.format != EMOLIA_BENCH:
            others = [*(other for other in subset.key if other != column), "username"]
            alike = merged_files(tables["annotations"], column, others)
            tables = _respell(tables, column, alike) if alike else tables
            merged = {old: alike.get(new, new) for old, new in merged.items()} | alike
        if merged:
            warnings.append(describe_merged(column, merged))
        groups = lookalikes(tables["annotations"][column])
        if groups and column not in subset.choices:
            warnings.append(describe_lookalikes(column, groups))
    return tables, tuple(warnings)


def _respell(tables: Mapping[str, pd.DataFrame], column: str, merged: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Tables with other spellings in a column."""
    changed = {}
    for name, table in tables.items():
        cells = table[column]
        affected = cells.isin(list(merged))
        changed[name] = table.assign(**{column: cells.where(~affected, cells[affected].map(dict(merged)))})
    return changed


def _newest(ratings: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The newest rating of each key, of equal or unknown times the last, sorted by key."""
    rank = key_ranks(ratings, key)
    times = ratings["created_at"]
    time = times.where(times.notna(), pd.Timestamp.max.tz_localize("UTC")).dt.tz_convert(None).to_numpy()
    order = np.lexsort((time, rank))
    last = np.append(np.diff(rank[order]) > 0, True) if len(order) else np.empty(0, dtype=bool)
    return ratings.iloc[order[last]].reset_index(drop=True)


def load_annotations(
    folder: Path,
    subset: Subset,
    *,
    reading: ReadingOptions = AS_WRITTEN,
    files: TableFiles = IN_FOLDER,
    keep: Sequence[str] = (),
) -> Annotations:
    """Read, check and convert the ratings of a subset.

    Of repeated ratings of an item by the same rater only the newest is kept; of equal times, the later line. Ratings by
    raters who withdrew consent are excluded.

    Parameters
    ----------
    folder : Path
        Folder with annotations.csv, users.csv and optionally flags.csv.
    subset : Subset
    reading : ReadingOptions
    files : TableFiles
        Files to read instead of those in the folder.
    keep : sequence of str
        Further columns of the table to keep in the ratings, as text; those that do not exist are ignored.

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
    raw = read_tables(folder, subset, "", reading, files)
    subset = raw.subset
    required = required_columns(subset)
    source = {
        name: raw.tables[name] if len(raw.tables.get(name, ())) else _no_rows(required[name])
        for name in ("annotations", "flags")
    }
    consented, n_withdrawn = drop_withdrawn({**source, "users": raw.tables["users"]})
    merged, warnings = _merge_spellings(subset, {name: consented[name] for name in source}, reading.exact_keys)
    table = merged["annotations"]
    kept = [column for column in keep if column in table and column not in (*subset.key, *subset.carried)]
    ratings = table[[*subset.key, "username", *subset.carried, *kept]].assign(
        rating=_rating_values(table["rating"], subset),
        **{column: _milliseconds(table, column) for column in TIMING},
        created_at=_times(table, reading),
    )
    newest = _newest(ratings, [*subset.key, "username"])
    if subset.format != EMOLIA_BENCH:
        _require_comparison(newest, raw)
    return Annotations(
        subset=subset,
        ratings=newest,
        users=consented["users"],
        flags=merged["flags"].reset_index(drop=True),
        rows={path: raw.rows[name] for name, path in raw.paths.items()},
        rows_raw=raw.rows["annotations"],
        excluded={**raw.excluded, REPEATED: len(ratings) - len(newest), WITHDRAWN: n_withdrawn},
        warnings=(*raw.warnings, *warnings),
    )


def _rating_values(cells: pd.Series, subset: Subset) -> pd.Series:
    if subset.scale == "interval":
        return parse_numbers(cells)
    return cells.map({name: code for code, name in enumerate(subset.levels)}).astype(np.int64)


def _milliseconds(table: pd.DataFrame, column: str) -> "pd.Series | float":
    return parse_numbers(table[column]) if column in table else float("nan")


def _times(table: pd.DataFrame, reading: ReadingOptions) -> pd.Series:
    cells = table["created_at"] if "created_at" in table else pd.Series("", index=table.index, dtype=str)
    return parse_times(cells, day_first=reading.day_first, month_first=reading.month_first)


def _require_comparison(ratings: pd.DataFrame, raw: RawTables) -> None:
    """Raise DataError for a table that cannot show agreement: one rater, equal ratings, items in several slices."""
    columns = raw.subset.columns
    if not len(ratings):
        fault = Fault(1, "", "has no ratings")
        raise DataError({shown_path(raw.path("annotations")): [fault]}, "Nothing was written.")
    faults = []
    if ratings["username"].nunique() < 2:
        problem = "every rating is by the same rater; agreement needs two raters"
        faults.append(Fault(1, columns.rater, f"{problem}. Is this the column of the rater?"))
    elif not ratings.duplicated(list(raw.subset.key)).any():
        problem = "no item was rated by two raters, so that agreement is not defined"
        faults.append(Fault(1, columns.rater, f"{problem}. Is this the column of the rater?"))
    if ratings["rating"].nunique() < 2:
        value = ratings["rating"].iloc[0]
        shown = f"{value:g}" if raw.subset.scale == "interval" else raw.subset.levels[int(value)]
        faults.append(Fault(1, columns.rating, f"every rating is '{shown}'; agreement needs two different ratings"))
    key = list(raw.subset.key)
    for column in raw.subset.by:
        if column in raw.subset.carried and (varying := int((ratings.groupby(key)[column].nunique() > 1).sum())):
            problem = f"has several values for {varying:,} items, so that agreement by {column} is not defined"
            faults.append(Fault(1, column, problem, advice="Add the column to those that identify an item."))
    if faults:
        raise DataError({shown_path(raw.path("annotations")): faults}, "Nothing was written.")
