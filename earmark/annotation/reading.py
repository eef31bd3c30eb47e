"""How tables of ratings are read: file formats, renamed columns and ratings, missing values, dates of spreadsheets.

A table is read as text. `apply_reading` changes only what a flag asks for, so that everything else is either read as it
is or reported as a fault.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from earmark.annotation.label_studio import read_label_studio
from earmark.annotation.options import ReadingOptions
from earmark.annotation.spelling import canonical_key
from earmark.annotation.subsets import EMOLIA_BENCH, Subset
from earmark.errors import Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_frame

NO_RATING = "rows without a rating"
IDENTICAL = "lines identical to an earlier line (--drop-identical)"
MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "none", "null", "-", "–", "?", ".", "missing", "#n/a", "k.a."})
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+")
COMMA_OF_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")
TWO_MEANINGS = "may have a decimal point or points between thousands; write it without points"
JSON_LINES = (".jsonl", ".ndjson")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
MAX_COLUMNS = 20  # of a header in a message


def shown_header(columns: Sequence[str]) -> str:
    """Names of columns for a message: at most `MAX_COLUMNS`, and the number of those that are e-mail addresses.

    Examples
    --------
    >>> shown_header(["file", "ann@uni.example", "ben@uni.example"])
    'file, 2 e-mail addresses'
    """
    names = [column for column in columns if column and not EMAIL.fullmatch(column)]
    addresses = sum(bool(EMAIL.fullmatch(column)) for column in columns)
    shown = names[:MAX_COLUMNS]
    if len(names) > MAX_COLUMNS:
        shown.append(f"{len(names) - MAX_COLUMNS:,} more")
    if addresses:
        shown.append("1 e-mail address" if addresses == 1 else f"{addresses:,} e-mail addresses")
    return ", ".join(shown)


@dataclass
class TextTable:
    """A table as text while it is read.

    Attributes
    ----------
    table : DataFrame
        Cells as text; the index is the line in the file.
    faults : list of Fault
    excluded : dict of str to int
        Number of rows left out for each reason.
    used : set of str
        Old names of --map that occurred.
    merged : dict of str to str
        Ratings that were read as another spelling of the same word or number.
    """

    table: pd.DataFrame
    faults: list[Fault] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    merged: dict[str, str] = field(default_factory=dict)


def read_source(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    """Read a table from CSV, Parquet or a JSON export of Label Studio, as text.

    Parameters
    ----------
    path : Path
        The suffix decides: .parquet, .json or anything else for CSV (any separator).

    Returns
    -------
    table : DataFrame
        Cells as text, without surrounding blanks; the index is the line, row or task number from 1.
    faults : list of Fault

    Raises
    ------
    MissingError
        If Parquet cannot be read because pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_label_studio(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    if suffix in JSON_LINES:
        return pd.DataFrame(), [Fault(1, "", "is JSON Lines; give a table (CSV), or the JSON export of Label Studio")]
    if suffix in SPREADSHEETS:
        return pd.DataFrame(), [Fault(1, "", f"is a spreadsheet ({suffix}); save it as CSV UTF-8 and give that file")]
    return read_csv_frame(path)


def _read_parquet(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise MissingError(
            f"{shown_path(path)}: reading Parquet needs pyarrow. Run `uv run --extra parquet SCRIPT.py …`."
        ) from error
    except Exception as error:  # pyarrow raises its own types for damaged files
        return pd.DataFrame(), [Fault(1, "", f"is not a Parquet table: {error}".splitlines()[0])]
    table = table.reset_index(drop=table.index.names == [None])
    table.columns = [str(column) for column in table.columns]
    text = pd.DataFrame({column: _as_text(table[column]) for column in table})
    text.index = pd.RangeIndex(1, len(text) + 1, name="line")
    return text, []


def _as_text(values: pd.Series) -> pd.Series:
    """Cells as text: empty where missing, whole numbers without decimals, times in ISO 8601."""
    if pd.api.types.is_float_dtype(values):
        texts = [str(int(value)) if float(value).is_integer() else repr(float(value)) for value in values.fillna(0)]
        return pd.Series(texts, dtype=str).where(values.notna().to_numpy(), "")
    return values.astype(object).where(values.notna(), "").astype(str).str.strip().reset_index(drop=True)


# --- changes that flags ask for -----------------------------------------------------------------------------


def rename_columns(read: TextTable, names: Mapping[str, str]) -> None:
    """Rename columns as --map asks."""
    columns = {old: new for old, new in names.items() if old in read.table.columns}
    read.used |= set(columns)
    for old, new in columns.items():
        if new in read.table.columns:
            read.faults.append(Fault(1, old, f"cannot become {new}: the header already has this column"))
    if len(set(columns.values())) < len(columns):
        read.faults.append(Fault(1, "", f"--map gives two columns the same name: {', '.join(columns.values())}"))
    if not read.faults:
        read.table = read.table.rename(columns=columns)


def drop_identical(read: TextTable) -> None:
    """Drop lines that equal an earlier line in every column."""
    repeated = read.table.duplicated()
    read.excluded[IDENTICAL] = int(repeated.sum())
    read.table = read.table[~repeated]


def clean_ratings(read: TextTable, options: ReadingOptions, names: Mapping[str, str], subset: Subset) -> None:
    """Apply --missing, --map, --decimal-comma and --ignore-case to the column `rating`, and merge equal spellings.

    Spellings are equal if they differ in blanks, Unicode form or zero decimals, such as 3 and 3.0. They are merged in
    all formats but that of emolia-bench, on a scale of levels, without --exact-keys.

    Parameters
    ----------
    read : TextTable
        Its table has a column `rating`.
    options : ReadingOptions
    names : mapping of str to str
        --map, old to new.
    subset : Subset
        Its levels have the preferred spellings; else the most frequent spelling is used.
    """
    cells = read.table["rating"]
    if options.missing is not None:
        absent = cells.isin({"", *options.missing})
        read.excluded[NO_RATING] = int(absent.sum())
        read.table = read.table[~absent]
        cells = read.table["rating"]
    values = pd.Index(cells.unique())
    fold = fold_case if options.ignore_case else str
    renamed = {fold(old): new for old, new in names.items()}
    read.used |= {old for old in names if fold(old) in {fold(value) for value in values}}
    new = {value: renamed.get(fold(value), value) for value in values}
    if options.decimal_comma:
        doubtful = cells[cells.isin([value for value in values if THOUSANDS.fullmatch(value)])]
        read.faults += [Fault(int(line), "rating", TWO_MEANINGS, str(cell)) for line, cell in doubtful.items()]
        new = {old: value.replace(",", ".") if DECIMAL_COMMA.fullmatch(value) else value for old, value in new.items()}
    named = subset.levels or ((subset.present_from,) if subset.present_from else ())
    if subset.format != EMOLIA_BENCH and subset.scale != "interval" and not options.exact_keys:
        before, new = new, _respelled(new, cells, named, canonical_key)
        read.merged = {before[old]: value for old, value in new.items() if before[old] != value}
    if options.ignore_case:
        new = _respelled(new, cells, named, fold_case)
    if any(old != value for old, value in new.items()):
        read.table = read.table.assign(rating=cells.map(new))


def _respelled(
    new: Mapping[str, str], cells: pd.Series, named: Sequence[str], fold: Callable[[str], str]
) -> dict[str, str]:
    """Names by cell, with those that `fold` makes equal in one spelling: that in `named`, else the most frequent."""
    known = _commonest_spellings(cells.map(dict(new)).value_counts(), fold) | {fold(name): name for name in named}
    return {old: known.get(fold(value), value) for old, value in new.items()}


def merge_case(cells: pd.Series, preferred: Sequence[str] = ()) -> pd.Series:
    """Give names that differ only in case one spelling.

    Parameters
    ----------
    cells : Series of str
    preferred : sequence of str
        Spellings to use; for other names the most frequent spelling.

    Returns
    -------
    Series of str

    Examples
    --------
    >>> merge_case(pd.Series(["Ann@x.org", "ann@x.org", "ann@x.org"])).tolist()
    ['ann@x.org', 'ann@x.org', 'ann@x.org']
    """
    return _merged(cells, preferred, fold_case)


def merge_equal(cells: pd.Series, preferred: Sequence[str] = ()) -> pd.Series:
    """Give names that differ only in blanks, Unicode form or zero decimals one spelling; as `merge_case`.

    Examples
    --------
    >>> merge_equal(pd.Series(["7", "7.0", "7"])).tolist()
    ['7', '7', '7']
    """
    return _merged(cells, preferred, canonical_key)


def _merged(cells: pd.Series, preferred: Sequence[str], fold: Callable[[str], str]) -> pd.Series:
    known = _commonest_spellings(cells.value_counts(), fold) | {fold(name): name for name in preferred}
    spellings = {name: known[fold(name)] for name in cells.unique()}
    return cells if all(old == new for old, new in spellings.items()) else cells.map(spellings)


def _commonest_spellings(counts: pd.Series, fold: Callable[[str], str]) -> dict[str, str]:
    """The most frequent spelling of names that `fold` makes equal; of equally frequent ones the first in order."""
    spellings: dict[str, str] = {}
    for name, _ in sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0]))):
        spellings.setdefault(fold(str(name)), str(name))
    return spellings


def case_variants(values: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case or Unicode form.

    Examples
    --------
    >>> case_variants(["Joy", "joy", "Fear"])
    [('Joy', 'joy')]
    """
    groups: dict[str, list[str]] = {}
    for value in sorted(set(values)):
        groups.setdefault(fold_case(value), []).append(value)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def fold_case(text: str) -> str:
    """Text without differences in case or Unicode form."""
    return unicodedata.normalize("NFC", text).casefold()


# --- times --------------------------------------------------------------------------------------------------

ISO = re.compile(r"\d{4}-\d\d")
DOTTED = r"(\d{1,2})\.(\d{1,2})\.(\d{4})"
SLASHED = r"(\d{1,2})/(\d{1,2})/(\d{4})"
CLOCK = r"(?:[ ,T]+(\d{1,2}):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*([AaPp]\.?[Mm]\.?)?)?"
SERIAL = re.compile(r"(\d{5})(?:[.,](\d+))?")  # days since 1899-12-30, as spreadsheets count
SERIAL_RANGE = (20_000, 80_000)  # 1954 to 2119
TIME_FAULT = "is not an ISO 8601 time such as 2026-05-09 17:38:09"
ADVICE_DOTTED = "--day-first reads dates such as 03.04.2026 (3 April) and the day numbers of spreadsheets"
ADVICE_SLASHED = (
    "--day-first reads 03/04/2026 as 3 April, --month-first as 4 March; with both, dates with dots have the day first "
    "and dates with slashes the month"
)
ADVICE_TWELVE = "a 12-hour clock after slashes is usual with the month first; --month-first reads it"


def parse_times(cells: pd.Series, *, day_first: bool = False, month_first: bool = False) -> pd.Series:
    """Parse times: ISO 8601, and with a flag the dates of spreadsheets.

    Parameters
    ----------
    cells : Series of str
        Dates or times, as coarse as a month. Times without a zone are UTC.
    day_first : bool
        Also read 03.04.2026 and 03/04/2026 as 3 April, and numbers as days since 1899-12-30.
    month_first : bool
        Also read 03/04/2026 as 4 March, and numbers as days since 1899-12-30. With both flags, dates with dots have the
        day first and dates with slashes the month.

    Returns
    -------
    Series of datetime64, UTC
        NaT where a cell is not a time. With `day_first` alone, also for a 12-hour clock after a date with slashes,
        which is usual with the month first.

    Examples
    --------
    >>> parse_times(pd.Series(["2026-05-09T13:00:00+02:00"]))[0].isoformat()
    '2026-05-09T11:00:00+00:00'
    >>> parse_times(pd.Series(["03.04.2026 09:04"]), day_first=True)[0].isoformat()
    '2026-04-03T09:04:00+00:00'
    """
    dated = cells.where(cells.str.match(ISO), "")  # pandas would parse "now" as the current time
    times = pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")
    if not (day_first or month_first) or not (unread := times.isna() & (cells != "")).any():
        return times
    rest = cells[unread]
    parsed = {cell: _spreadsheet_time(cell, day_first, month_first) for cell in rest.unique()}
    return times.where(~unread, pd.to_datetime(cells.map(parsed), utc=True))


def _spreadsheet_time(cell: str, day_first: bool, month_first: bool) -> pd.Timestamp | None:
    if serial := SERIAL.fullmatch(cell):
        days = float(f"{serial[1]}.{serial[2] or 0}")
        low, high = SERIAL_RANGE
        return pd.Timestamp("1899-12-30", tz="UTC") + pd.Timedelta(days=days) if low <= days < high else None
    if (match := re.fullmatch(DOTTED + CLOCK, cell)) and day_first:
        day, month = match[1], match[2]
    elif match := re.fullmatch(SLASHED + CLOCK, cell):
        if match[7] and not month_first:
            return None
        day, month = (match[2], match[1]) if month_first else (match[1], match[2])
    else:
        return None
    hour = int(match[4] or 0)
    if match[7]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match[7][0] in "Pp" else 0)
    try:
        return pd.Timestamp(int(match[3]), int(month), int(day), hour, int(match[5] or 0), int(match[6] or 0), tz="UTC")
    except ValueError:
        return None


def time_advice(cell: str) -> str:
    """The flag that would read a time; empty if there is none.

    Examples
    --------
    >>> time_advice("03.04.2026 09:04")
    '--day-first reads dates such as 03.04.2026 (3 April) and the day numbers of spreadsheets'
    """
    if re.fullmatch(DOTTED + CLOCK, cell):
        return ADVICE_DOTTED
    if match := re.fullmatch(SLASHED + CLOCK, cell):
        return ADVICE_TWELVE if match[7] else ADVICE_SLASHED
    serial = SERIAL.fullmatch(cell)
    return ADVICE_DOTTED if serial and SERIAL_RANGE[0] <= int(serial[1]) < SERIAL_RANGE[1] else ""
