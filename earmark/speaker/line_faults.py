"""Collect the faults of a text file, grouped by kind: one message with the first line and the number of lines."""

import gzip
from pathlib import Path
from typing import IO

from earmark.errors import Fault

MAX_SHOWN = 20  # kinds in a message: about a screenful
MAX_KINDS = 10_000  # kinds in memory; a column of invalid scores can have millions


class LineFaults:
    """Faults of a file, added line by line.

    Examples
    --------
    >>> faults = LineFaults()
    >>> for line in (3, 7, 8):
    ...     faults.add(line, "label", "'x' is not a label")
    >>> [str(fault).strip() for fault in faults.grouped()]
    ["line 3, column label: 'x' is not a label (first of 3 lines)"]
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], list[int]] = {}  # (column, problem): [first line, number of lines]
        self._overflow: list[int] = []  # the same for all kinds beyond MAX_KINDS

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, line: int, column: str, problem: str) -> None:
        """Add a fault.

        Parameters
        ----------
        line : int
            Line number from 1, in ascending order.
        column : str
            Name of the column; empty for a fault of the whole line.
        problem : str
            The fault, to follow the position in the message.
        """
        key = column, problem
        if key in self._kinds:
            self._kinds[key][1] += 1
        elif len(self._kinds) < MAX_KINDS:
            self._kinds[key] = [line, 1]
        elif self._overflow:
            self._overflow[1] += 1
        else:
            self._overflow = [line, 1]

    def grouped(self) -> list[Fault]:
        """At most `MAX_SHOWN` kinds of faults in the order of their first lines, then the number of other faults."""
        kinds = list(self._kinds.items())
        shown = [
            Fault(first, column, problem if n == 1 else f"{problem} (first of {n:,} lines)")
            for (column, problem), (first, n) in kinds[:MAX_SHOWN]
        ]
        rest = [counts for _, counts in kinds[MAX_SHOWN:]] + ([self._overflow] if self._overflow else [])
        if rest:
            n = sum(count for _, count in rest)
            lines = "line from here on has" if n == 1 else "lines from here on have"
            shown.append(Fault(rest[0][0], "", f"{n:,} more {lines} other faults"))
        return shown


def open_text(path: Path) -> IO[str]:
    """Open a UTF-8 text file, decompressing .gz; invalid bytes become the replacement character U+FFFD."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def first_line_not_utf8(path: Path) -> int | None:
    """Number of the first line that is not valid UTF-8; None if all lines are."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None
