"""Tolerant CSV reader that records the line of each row and collects all structural faults.

It accepts a byte order mark, UTF-16, Windows line ends, commas, semicolons or tabs as separators, blank lines, spaces
around values, line breaks in cells, and extra columns. An empty file, or one with only a header, is a table without
rows. Columns are accessed by name, in any order.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from earmark.errors import DataError, Fault, shown_path

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SEPARATORS = ",;\t|"
ZERO_BYTES = "has zero bytes, as in UTF-16 without a byte order mark or in a file that is no text; save it as CSV UTF-8"


@dataclass(frozen=True)
class CsvTable:
    """A CSV table as text.

    Attributes
    ----------
    path : Path
    columns : list of str
        Column names from the header.
    rows : list of list of str
        Cells of each valid row, one per column.
    lines : list of int
        Line of each row in the file, from 1.
    faults : list of Fault
        Structural faults; the rows concerned are dropped.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line and the cells by column name, for each row."""
        for line, row in zip(self.lines, self.rows, strict=True):
            yield line, dict(zip(self.columns, row, strict=True))

    def require_columns(self, columns: Sequence[str], remedy: str) -> None:
        """Require columns to exist and the table to have no faults.

        Parameters
        ----------
        columns : sequence of str
        remedy : str
            What to do, for the message.

        Raises
        ------
        DataError
            With all faults and missing columns.
        """
        missing = [Fault(1, name, "is missing") for name in columns if name not in self.columns]
        if faults := [*self.faults, *missing]:
            raise DataError({shown_path(self.path): faults}, remedy)


def read_csv_table(path: Path, *, strict: bool = False, pad_short_rows: bool = False) -> CsvTable:
    """Read a CSV file.

    Parameters
    ----------
    path : Path
    strict : bool
        Whether quotes that end within a cell, or are not closed, are faults.
    pad_short_rows : bool
        Whether to fill rows that are too short with empty cells; otherwise they are faults.

    Returns
    -------
    CsvTable
        Invalid content is reported in its faults.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as CSV UTF-8"
        return CsvTable(path, faults=[Fault(line, "", problem)])
    header = text.partition("\n")[0]
    if "\0" in header:
        return CsvTable(path, faults=[Fault(1, "", ZERO_BYTES)])
    separator = max(SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    table = CsvTable(path)
    line = 1
    try:
        for row in reader:
            first, line = line, reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not table.columns:
                table.columns.extend(cells)
                continue
            if pad_short_rows:
                cells += [""] * (len(table.columns) - len(cells))
            if len(cells) < len(table.columns) or any(cells[len(table.columns) :]):
                problem = f"has {len(cells)} values, but the header has {len(table.columns)} columns"
                table.faults.append(Fault(first, "", problem))
            else:
                table.lines.append(first)
                table.rows.append(cells[: len(table.columns)])
    except csv.Error as error:
        table.faults.append(Fault(reader.line_num, "", f"invalid CSV: {error}"))
    return _with_distinct_columns(table)


def read_csv_frame(path: Path) -> tuple["pd.DataFrame", list[Fault]]:
    """Read a CSV file into a data frame, with the contents and faults of `read_csv_table`.

    A file in which every line has the same number of plain cells is read without a list for each row, in a fraction of
    the time and memory. All others are read by `read_csv_table`.

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
    import pandas as pd

    frame = _read_plain(path)
    if frame is not None:
        return frame, []
    table = read_csv_table(path)
    index = pd.Index(table.lines, name="line", dtype=int)
    return pd.DataFrame(table.rows, columns=table.columns, index=index, dtype=str), table.faults


def _read_plain(path: Path) -> "pd.DataFrame | None":
    """Read a file of plain lines; None if anything in it needs `read_csv_table`."""
    import pandas as pd

    content = path.read_bytes()
    header, _, rest = content.partition(b"\n")
    try:
        text = header.decode("utf-8-sig").removesuffix("\r")
    except UnicodeDecodeError:
        return None
    separator = max(SEPARATORS, key=text.count)
    names = text.split(separator)
    distinct = len({name.strip() for name in names}) == len(names) and all(name.strip() for name in names)
    if not distinct or len(names) < 2 or not rest or any(mark in content for mark in (b'"', b"\0")):
        return None
    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        return None
    ends = _plain_cells(rest, separator.encode(), len(names))
    if ends is None:
        return None
    del content
    try:
        frame = pd.read_csv(
            io.BytesIO(rest),
            sep=separator,
            header=None,
            names=[name.strip() for name in names],
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            quoting=csv.QUOTE_NONE,
            index_col=False,
            engine="c",
        )
    except UnicodeDecodeError:
        return None
    if len(frame) != ends:
        return None
    frame.index = pd.RangeIndex(2, len(frame) + 2, name="line")
    return frame


def _plain_cells(content: bytes, separator: bytes, width: int) -> int | None:
    """Number of lines if each has `width` cells without blanks at their ends, and one that is not empty; else None."""
    data = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    ends = ends if len(ends) and ends[-1] == len(data) - 1 else np.append(ends, len(data))
    starts = np.append(0, ends[:-1] + 1)
    if b"\r" in content:
        ends = ends - (data[np.maximum(ends - 1, 0)] == ord("\r"))
    lengths = ends - starts
    marks = np.flatnonzero(data == ord(separator))
    if len(marks) != len(ends) * (width - 1) or lengths.max() >= csv.field_size_limit() or lengths.min() < width:
        return None
    if (marks[:: width - 1] < starts).any() or (marks[width - 2 :: width - 1] >= ends).any():
        return None
    begins = np.concatenate([starts, marks + 1])
    last = np.concatenate([ends, marks]) - 1
    if (_is_blank(data, begins, separator) | _is_blank(data, last, separator)).any():
        return None
    if content.isascii():
        return len(ends)
    wide = (_begins_wide_blank(data, begins), *(_begins_wide_blank(data, last - back) for back in (1, 2)))
    return None if any(found.any() for found in wide) else len(ends)


def _is_blank(data: "NDArray[np.uint8]", at: "NDArray[np.int64]", separator: bytes) -> "NDArray[np.bool_]":
    """Whether there is a blank or control character at these positions that ends no cell."""
    byte = data.take(at, mode="clip")
    return (byte <= 0x20) & (byte != ord("\n")) & (byte != ord("\r")) & (byte != ord(separator))


def _begins_wide_blank(data: "NDArray[np.uint8]", at: "NDArray[np.int64]") -> "NDArray[np.bool_]":
    """Whether a character at these positions may be a blank outside ASCII, such as a no-break space."""
    first, second = data.take(at, mode="clip"), data.take(at + 1, mode="clip")
    result = np.zeros(len(at), dtype=bool)
    for lead, following in ((0xC2, (0x85, 0xA0)), (0xE1, (0x9A,)), (0xE2, (0x80, 0x81)), (0xE3, (0x80,))):
        result |= (first == lead) & np.isin(second, following)
    return result


def _with_distinct_columns(table: CsvTable) -> CsvTable:
    """Drop unnamed and duplicate columns; duplicates are faults."""
    repeated = list(_repeated(filter(None, table.columns)))
    if not repeated and all(table.columns):
        return table
    keep = [i for i, name in enumerate(table.columns) if name and table.columns.index(name) == i]
    faults = [Fault(1, name, "occurs twice in the header") for name in repeated] + table.faults
    rows = [[row[i] for i in keep] for row in table.rows]
    return CsvTable(table.path, [table.columns[i] for i in keep], rows, table.lines, faults)


def _repeated(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
