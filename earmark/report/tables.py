"""Tables as CSV, Markdown and LaTeX. Markdown and LaTeX round numbers to three decimals."""

import csv
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from earmark.metrics.estimate import Estimate

UNDEFINED = "–"
# Control characters except line breaks and tabs, and characters that change the direction of text.
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
QUOTED = re.compile('[,"\r\n]')  # in CSV cells
LONG_TEXT = 40  # characters, from which a LaTeX column wraps
LONG_TABLE = 100_000  # rows from which a CSV table is formatted column by column, and of one part of it
MIN_MEMBER = 1 << 23  # characters that a member of a gzip file has at least, except the last
GZIP_THREADS = 2
DECIMALS = range(2, 7)  # that a column may have so that different values are printed differently
SHOWN_NOTES = 6
SHOWN_ROWS = 4  # labels per note
TEX_CHARACTERS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
}


@dataclass(frozen=True)
class Percent(Estimate):
    """Estimate of a share that `cell` formats in per cent, with two decimals by default; its fields are shares."""

    decimals: int = 2


def percent(value: Estimate | float | None, decimals: int = 2) -> Percent:
    """Mark a share for formatting in per cent.

    Parameters
    ----------
    value : Estimate, float or None
        A share or a difference of shares; None where undefined.
    decimals : int
        Decimals of the value in per cent.

    Examples
    --------
    >>> cell(percent(Estimate(0.0503, 0.0421, 0.0593))), cell(percent(0.0503)), cell(percent(None))
    ('5.03 % [4.21, 5.93]', '5.03 %', '–')
    """
    return (
        Percent(**vars(value), decimals=decimals) if isinstance(value, Estimate) else Percent(value, decimals=decimals)
    )


def distinct_decimals(values: Iterable[float | None]) -> int:
    """Decimals, from 2 to 6, with which different values are printed differently, so that ranks are visible.

    Values that are equal to nine decimals count as equal, and missing ones are ignored.

    Examples
    --------
    >>> distinct_decimals([1.25, 1.2504, 3.0, None]), distinct_decimals([0.5, 0.5])
    (4, 2)
    """
    distinct = {round(value, 9) for value in values if value is not None and value == value}
    return next((n for n in DECIMALS if len({f"{value:.{n}f}" for value in distinct}) == len(distinct)), DECIMALS[-1])


@dataclass(frozen=True)
class PercentagePoints(Percent):
    """A difference of shares that `cell` prints in percentage points with two decimals."""


def percentage_points(value: Estimate | float | None) -> PercentagePoints:
    """Mark a difference of shares for printing in percentage points.

    Examples
    --------
    >>> cell(percentage_points(Estimate(-0.0503, -0.0593, -0.0421)))
    '-5.03 pp [-5.93, -4.21]'
    """
    return PercentagePoints(**vars(value)) if isinstance(value, Estimate) else PercentagePoints(value)


@dataclass(frozen=True)
class Table:
    """A table of a report in any output format.

    Attributes
    ----------
    caption : str
        A table without caption is not exported to LaTeX.
    headers : sequence of str
    rows : sequence of sequences
        Cells are estimates, numbers, strings, booleans or None.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]


def to_csv(table: pd.DataFrame) -> str:
    """Format a data frame as CSV: no index, Unix line ends, empty cells for missing values.

    Examples
    --------
    >>> to_csv(pd.DataFrame({"level": ["05", "a,b"], "rate": [0.5, None]}))
    'level,rate\\n05,0.5\\n"a,b",\\n'
    """
    if len(table) < LONG_TABLE or len(table.columns) < 2:
        return str(table.to_csv(index=False, lineterminator="\n"))
    kinds = [_csv_kind(table.iloc[:, number]) for number in range(len(table.columns))]
    if not all(kinds):
        return str(table.to_csv(index=False, lineterminator="\n"))
    parts = [str(table.iloc[:0].to_csv(index=False, lineterminator="\n"))]
    for start in range(0, len(table), LONG_TABLE):
        rows = table.iloc[start : start + LONG_TABLE]
        columns = [_csv_cells(rows.iloc[:, number], kind) for number, kind in enumerate(kinds)]
        parts.append("\n".join(map(",".join, zip(*columns, strict=True))) + "\n")
    return "".join(parts)


def _csv_kind(column: pd.Series) -> str:
    """What a column holds: "str", "b" for booleans, "i" for whole numbers, "f" for floats, "" for anything else."""
    if isinstance(column.dtype, pd.StringDtype):
        return "str"
    if isinstance(column.dtype, np.dtype | pd.Int64Dtype | pd.BooleanDtype | pd.Float64Dtype):
        return column.dtype.kind if column.dtype.kind in "bi" or column.dtype in ("float64", "Float64") else ""
    return ""


def _csv_cells(column: pd.Series, kind: str) -> list[str]:
    """Cells of a column as pandas writes them; empty where missing."""
    missing = column.isna().to_numpy(dtype=bool)
    values: list[Any] = column.to_numpy(dtype=object).tolist() if kind == "str" else _numbers(column, kind)
    for row in np.flatnonzero(missing).tolist():
        values[row] = ""
    if kind != "str":
        return values
    if not QUOTED.search("\x00".join(values)):
        return values
    return list(map(csv_cell, values))


def _numbers(column: pd.Series, kind: str) -> list[str]:
    dtype = {"b": bool, "i": column.dtype if isinstance(column.dtype, np.dtype) else np.int64, "f": np.float64}[kind]
    values = column.to_numpy(dtype=dtype, na_value=0) if column.hasnans else column.to_numpy(dtype=dtype)
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    if 4 * len(distinct) > len(values) or (kind == "f" and np.signbit(values[values == 0]).any()):
        return list(map(repr, values.tolist()))
    texts = np.array(list(map(repr, distinct.tolist())), dtype=object)  # most columns repeat a few numbers
    cells: list[str] = texts[codes].tolist()
    return cells


def csv_cell(value: str) -> str:
    """A text as a cell of a CSV, quoted where necessary.

    Examples
    --------
    >>> csv_cell("a"), csv_cell("a,b")
    ('a', '"a,b"')
    """
    if not QUOTED.search(value):
        return value
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([value, ""])
    return line.getvalue()[: -len(",\n")]


def compressed(parts: Iterable[str]) -> bytes:
    """Compress texts as one gzip file, each part of at least `MIN_MEMBER` characters as a member of its own.

    Members are compressed by threads while the next part is made. Any reader of gzip files joins them. The same parts
    give the same bytes.

    Parameters
    ----------
    parts : iterable of str

    Examples
    --------
    >>> gzip.decompress(compressed(["a\\n", "b\\n"]))
    b'a\\nb\\n'
    """
    members: list[Future[bytes]] = []
    with ThreadPoolExecutor(GZIP_THREADS) as threads:
        for member in _members(parts):
            if len(members) > GZIP_THREADS:
                members[-GZIP_THREADS].result()  # limits the texts that wait in memory
            members.append(threads.submit(_gzip_member, member))
        return b"".join(member.result() for member in members)


def _members(parts: Iterable[str]) -> Iterator[bytes]:
    waiting: list[str] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= MIN_MEMBER:
            yield "".join(waiting).encode()
            waiting = []
    if waiting:
        yield "".join(waiting).encode()


def _gzip_member(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="", compresslevel=4) as file:
        file.write(content)
    return buffer.getvalue()


def to_markdown(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a Markdown table with numeric columns aligned right.

    Parameters
    ----------
    headers : sequence of str
    rows : sequence of sequences
        Values, formatted by `cell`.

    Examples
    --------
    >>> print(to_markdown(["task", "rate"], [["ultimate", 0.5]]))
    | task | rate |
    |---|---:|
    | ultimate | 0.500 |
    """
    numeric = [bool(rows) and not any(isinstance(row[i], str) for row in rows) for i in range(len(headers))]
    lines = [
        _line(headers),
        "|" + "|".join("---:" if is_numeric else "---" for is_numeric in numeric) + "|",
        *(_line([cell(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def to_tex(tables: Sequence[Table]) -> str:
    r"""Format the tables that have a caption as LaTeX for \input; needs \usepackage{booktabs}.

    Columns of long texts wrap. Labels are tab:earmark-1, tab:earmark-2, …
    """
    captioned = [table for table in tables if table.caption and table.rows]
    return (
        "\n\n".join(
            ["% Needs \\usepackage{booktabs}.", *(_tex_table(table, i) for i, table in enumerate(captioned, 1))]
        )
        + "\n"
    )


def _tex_table(table: Table, number: int) -> str:
    columns = list(zip(*table.rows, strict=True))
    alignment = "".join(_tex_alignment(column) for column in columns)
    lines = [" & ".join(_tex(cell(value)) for value in row) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}[ht]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{_tex(table.caption)}}}",
            rf"\label{{tab:earmark-{number}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(_tex(header) for header in table.headers) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip {_tex(note)}." for note in table_notes(table.rows)),
            r"\end{table}",
        ]
    )


def _tex_alignment(column: Sequence[Any]) -> str:
    if not any(isinstance(value, str) for value in column):
        return "r"
    return "p{4cm}" if max(len(cell(value)) for value in column) > LONG_TEXT else "l"


def _tex(text: str) -> str:
    return "".join(TEX_CHARACTERS.get(character, character) for character in text)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape_markdown(text).replace("|", "\\|").replace("\n", " ") for text in cells) + " |"


def escape_markdown(text: str) -> str:
    r"""Escape untrusted text for Markdown: no HTML, no code, no invisible characters.

    Examples
    --------
    >>> escape_markdown("<script>alert(`1`)</script> p < 0.05")
    '&lt;script>alert(\\`1\\`)&lt;/script> p < 0.05'
    """
    visible = INVISIBLE.sub("\ufffd", text)
    return re.sub(r"(?<!\\)`", r"\\`", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible))


def cell(value: Any) -> str:
    """Format a value for a report.

    Parameters
    ----------
    value : Estimate, mapping of its fields, str, bool, int, float or None

    Examples
    --------
    >>> cell(0.1234), cell(Estimate(0.1234, 0.1, 0.15)), cell(1234), cell(True), cell(None)
    ('0.123', '0.123 [0.100, 0.150]', '1,234', 'yes', '–')
    """
    if isinstance(value, Estimate):
        return _estimate(value)
    if isinstance(value, Mapping):
        return _estimate(Estimate(**value))
    if _missing(value):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _decimal(value)
    return str(value)


def p_value(value: float | None) -> str:
    """Format a p-value.

    Examples
    --------
    >>> p_value(0.0321), p_value(1e-9), p_value(None)
    ('0.032', '< 0.001', '–')
    """
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _estimate(estimate: Estimate) -> str:
    if estimate.value is None or _missing(estimate.value):
        return UNDEFINED
    if isinstance(estimate, Percent):
        number, unit = partial(_percent, decimals=estimate.decimals), " %"
    else:
        number, unit = partial(_decimal), ""
    unit = " pp" if isinstance(estimate, PercentagePoints) else unit
    if estimate.low is None or estimate.high is None or _missing(estimate.low):
        return f"{number(estimate.value)}{unit}"
    return f"{number(estimate.value)}{unit} [{number(estimate.low)}, {number(estimate.high)}]"


def table_notes(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Collect the notes of a table's estimates and the reasons of missing intervals: each once, with its rows' labels.

    At most 6 notes, with at most 4 labels each, are listed in full.

    Examples
    --------
    >>> estimate = Estimate(0.1, 0.0, 0.3, note="only 7 speakers")
    >>> table_notes([["EER", estimate], ["minDCF", estimate], ["n", 12]])
    ['EER; minDCF: only 7 speakers']
    >>> table_notes([["minDCF", Estimate(0.0, why="no interval: a value of 0")]])
    ['minDCF: no interval: a value of 0']
    """
    labels_by_note: dict[str, list[str]] = {}
    for row in rows:
        for value in row:
            estimate = Estimate(**value) if isinstance(value, Mapping) else value
            if not isinstance(estimate, Estimate) or _missing(estimate.value):
                continue
            reason = estimate.why if _missing(estimate.low) else None
            for note in filter(None, (estimate.note, reason)):
                labels_by_note.setdefault(note, []).append(str(row[0]))
    lines = [f"{_abbreviated(list(dict.fromkeys(labels)))}: {note}" for note, labels in labels_by_note.items()]
    left = len(lines) - SHOWN_NOTES
    more = [f"{left} more note{'s' if left > 1 else ''} in summary.json"] if left > 0 else []
    return [*lines[:SHOWN_NOTES], *more]


def _abbreviated(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN_ROWS} more" if len(labels) > SHOWN_ROWS else ""
    return "; ".join(labels[:SHOWN_ROWS]) + more


def _decimal(value: float) -> str:
    return f"{value:z.3f}"  # z: no negative zero


def _percent(value: float, decimals: int) -> str:
    return f"{100 * value:z.{decimals}f}"


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value
