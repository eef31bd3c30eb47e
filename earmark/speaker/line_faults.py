"""Faults of lines, grouped: one for each kind and value, with its first line and how many lines have it."""

import gzip
from pathlib import Path
from typing import IO

from earmark.errors import Fault

MOST_SHOWN = 20  # kinds in a message: about a screenful
MOST_KINDS = 10_000  # kept while reading; a column of scores that are no numbers has millions


class LineFaults:
    """What is wrong with the lines of a file, as they are read.

    >>> faults = LineFaults()
    >>> for line in (3, 7, 8):
    ...     faults.add(line, "label", "'x' is not a label")
    >>> [str(fault).strip() for fault in faults.grouped()]
    ["line 3, column label: 'x' is not a label (3 lines, this is the first)"]
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], list[int]] = {}  # (column, problem): first line, number of lines
        self._others: list[int] = []  # beyond MOST_KINDS, likewise

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, line: int, column: str, problem: str) -> None:
        """A further one; lines come in their order."""
        key = column, problem
        if key in self._kinds:
            self._kinds[key][1] += 1
        elif len(self._kinds) < MOST_KINDS:
            self._kinds[key] = [line, 1]
        elif self._others:
            self._others[1] += 1
        else:
            self._others = [line, 1]

    def grouped(self) -> list[Fault]:
        """At most MOST_SHOWN kinds by their first line, and then how much more there is."""
        kinds = list(self._kinds.items())
        shown = [
            Fault(first, column, problem if n == 1 else f"{problem} ({n:,} lines, this is the first)")
            for (column, problem), (first, n) in kinds[:MOST_SHOWN]
        ]
        rest = [place for _, place in kinds[MOST_SHOWN:]] + ([self._others] if self._others else [])
        if rest:
            n = sum(count for _, count in rest)
            shown.append(Fault(rest[0][0], "", f"from here on {n:,} more lines have other faults"))
        return shown


def opened_text(path: Path) -> IO[str]:
    """A text file, perhaps compressed by gzip; bytes that are not UTF-8 become a sign that no name holds."""
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def first_line_not_utf8(path: Path) -> int | None:
    """The number of the first line that is not UTF-8; None where all are."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None
