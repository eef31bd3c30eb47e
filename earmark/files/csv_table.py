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

from earmark.errors import DataError, Fault, shown_path

SEPARATORS = ",;\t"


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
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
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
