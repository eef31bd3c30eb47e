"""Trial lists, score files and maps of utterances, in every shape in circulation.

Lists are told apart by their content:

  1|0 enrol test                       VoxCeleb, CASE, TidyVoice dev
  enrol test target|nontarget          Kaldi, WeSpeaker, TidyVoice keys
  enrol test                           TidyVoice eval, unlabelled
  enrol test score [label]             score files

A line that fits none of them is an error with its number, never skipped.
"""

import csv
import gzip
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.errors import DataError, Fault, shown_path
from earmark.speaker.trials import CHUNK_LINES, Trials

LABELS = {"1": True, "0": False, "target": True, "nontarget": False, "imposter": False, "impostor": False}
SNIFFED_LINES = 1000
LONGEST_HEADER = 10_000  # characters
SHOWN = 100  # characters of a cell in a message
# What a table of scores may call its columns.
NAMES = {
    "enrol": ("enrol", "enroll", "enrolment", "enrollment"),
    "test": ("test", "trial"),
    "score": ("score", "similarity"),
    "label": ("label", "target"),
}


def read_trials(path: Path) -> Trials:
    """A trial list or score file. DataError with every wrong line.

    Twelve million lines take about a gigabyte: utterance names are held once. A .csv or .csv.gz with a header, such as
    the scores that Earmark writes, is read by the names of its columns: enrol, test, score, label.
    """
    if path.name.endswith((".csv", ".csv.gz")):
        return _read_table(path)
    layout = _layout(path)
    reading = _TrialParser()
    try:
        chunks = pd.read_csv(
            path,
            sep=layout.separator or r"\s+",
            header=None,
            names=layout.columns,
            dtype={name: float if name == "score" else object for name in layout.columns},
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            skip_blank_lines=False,
            index_col=False,
            encoding="utf-8-sig",
            chunksize=CHUNK_LINES,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of values beyond the columns
            for chunk in chunks:
                reading.add(chunk)
    except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        faults = _faults(path, layout) or [Fault(1, "", _unreadable(error))]
        raise DataError({shown_path(path): faults}, _REMEDY) from error
    return reading.trials()


_REMEDY = (
    "Nothing was written. A line is `1|0 enrol test`, `enrol test target|nontarget`, `enrol test` or "
    "`enrol test score [label]`. Names with spaces need tabs between the values, or a .csv with the columns enrol, "
    "test, score, label."
)


def _unreadable(error: Exception) -> str:
    return "is not UTF-8; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


@dataclass(frozen=True)
class _Layout:
    """How a list is written. separator: the tab where that separates values, None for any white space."""

    columns: list[str]
    separator: str | None

    def cells(self, line: str) -> list[str]:
        return [cell.strip() for cell in line.split(self.separator)]


def _layout(path: Path) -> _Layout:
    """What the columns of a list are, by its first lines."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line for line, _ in zip(file, range(SNIFFED_LINES), strict=False) if line.strip()]
    separator = "\t" if lines and all(1 <= line.rstrip("\r\n").count("\t") <= 3 for line in lines) else None
    rows = [_Layout([], separator).cells(line) for line in lines]
    if not rows:
        raise DataError({shown_path(path): [Fault(1, "", "the file holds no trials")]}, _REMEDY)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    typical = [row for row in rows if len(row) == width]
    if width == 2:
        return _Layout(["enrol", "test"], separator)
    if width == 3 and _mostly(typical, 0, lambda cell: cell in ("0", "1")):
        return _Layout(["label", "enrol", "test"], separator)
    if width == 3 and _mostly(typical, 2, lambda cell: cell in LABELS and not cell.isdigit()):
        return _Layout(["enrol", "test", "label"], separator)
    if width in (3, 4) and _mostly(typical, 2, _is_number):
        return _Layout(["enrol", "test", "score", "label"][:width], separator)
    raise DataError({shown_path(path): [Fault(1, "", f"'{' '.join(rows[0])[:SHOWN]}' is no trial")]}, _REMEDY)


def _mostly(rows: list[list[str]], column: int, fits: Callable[[str], bool]) -> bool:
    return sum(fits(row[column]) for row in rows) >= len(rows) / 2


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


class _TrialParser:
    """A list on its way into memory, chunk by chunk: text is turned into codes before the next chunk comes."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._columns: dict[str, list[NDArray[Any]]] = {}

    def add(self, chunk: pd.DataFrame) -> None:
        """Append a chunk of text columns. ValueError for a cell that does not fit."""
        for column in chunk.columns:
            self._columns.setdefault(column, []).append(self._typed(column, chunk[column]))

    def _typed(self, column: str, cells: pd.Series) -> NDArray[Any]:
        if column == "score":
            scores = cells.to_numpy(dtype=float)
            if not np.isfinite(scores).all():
                raise ValueError("a score is not finite")
            return scores
        local, names = pd.factorize(cells)
        if column == "label":
            return np.array([_label(name) for name in names], dtype=bool)[local]
        if "" in names:
            raise ValueError("a line is empty or too short")
        return np.array([self._codes.setdefault(name, len(self._codes)) for name in names], dtype=np.int64)[local]

    def trials(self) -> Trials:
        """The whole list."""
        whole = {column: np.concatenate(parts) for column, parts in self._columns.items()}
        names = np.array(list(self._codes), dtype=object)
        return Trials(names, whole["enrol"], whole["test"], whole.get("label"), whole.get("score"))


def _read_table(path: Path) -> Trials:
    remedy = "Nothing was written. The columns are enrol, test and, where they are known, score and label (1 or 0)."
    reading = _TrialParser()
    known_as = {alias: name for name, aliases in NAMES.items() for alias in aliases}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            header = file.readline(LONGEST_HEADER)
        separator = max(",;\t", key=header.count)
        with pd.read_csv(
            path, sep=separator, dtype=object, na_filter=False, encoding="utf-8-sig", chunksize=CHUNK_LINES
        ) as parts:
            for part in parts:
                table = part.rename(columns=lambda name: known_as.get(str(name).strip().lower(), name))
                if missing := [name for name in ("enrol", "test") if name not in table]:
                    seen = f"is missing; there are {', '.join(map(str, part.columns))}"
                    raise DataError({shown_path(path): [Fault(1, name, seen) for name in missing]}, remedy)
                table = table[[name for name in NAMES if name in table]].copy()
                if "score" in table:
                    table["score"] = _numbers(table["score"], path, remedy, decimal="," if separator == ";" else ".")
                reading.add(table)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise DataError({shown_path(path): [Fault(1, "", _unreadable(error))]}, remedy) from error
    return reading.trials()


def _numbers(column: "pd.Series[Any]", path: Path, remedy: str, decimal: str) -> "pd.Series[Any]":
    numbers = pd.to_numeric(column.str.replace(decimal, "."), errors="coerce")
    wrong = column[~np.isfinite(numbers)]
    if len(wrong):
        faults = [Fault(int(row) + 2, "score", f"'{cell}' is not a finite number") for row, cell in wrong[:20].items()]
        raise DataError({shown_path(path): faults}, remedy)
    return numbers


def _label(name: str) -> bool:
    if name not in LABELS:
        raise ValueError(f"'{name}' is no label")
    return LABELS[name]


def _faults(path: Path, layout: _Layout) -> list[Fault]:
    """Every line that does not fit the layout; slow, for lists that are known to have such lines."""
    faults = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = layout.cells(line)
            if len(cells) != len(layout.columns):
                faults.append(Fault(number, "", f"has {len(cells)} values where the list has {len(layout.columns)}"))
                continue
            for column, cell in zip(layout.columns, cells, strict=True):
                if column == "label" and cell not in LABELS:
                    faults.append(Fault(number, "label", f"'{cell[:SHOWN]}' is not one of 1, 0, target, nontarget"))
                if column == "score" and not _is_number(cell):
                    faults.append(Fault(number, "score", f"'{cell[:SHOWN]}' is not a finite number"))
    return faults


def read_speakers(path: Path) -> dict[str, str]:
    """{utterance: speaker} of a map with one pair on each line."""
    pairs, faults = {}, []
    for number, cells in _map_lines(path):
        if len(cells) == 2:
            pairs[cells[0]] = cells[1]
        else:
            faults.append(Fault(number, "", f"has {len(cells)} values; a line is `utterance speaker`"))
    if faults:
        raise DataError({shown_path(path): faults}, "Nothing was written.")
    return pairs


def read_enrolments(path: Path) -> dict[str, list[str]]:
    """{model: its utterances} of a Kaldi map for enrolment from several utterances.

    A line is `model utterance utterance …` (spk2utt); a model may go on on another line, so one pair on each line is
    read too. DataError with every line that is too short or repeats an utterance of its model.
    """
    models: dict[str, list[str]] = {}
    faults = []
    for number, cells in _map_lines(path):
        if len(cells) < 2:
            faults.append(Fault(number, "", "is not `model utterance utterance …`"))
            continue
        model, *utterances = cells
        known = models.setdefault(model, [])
        for utterance in utterances:
            if utterance in known:
                faults.append(Fault(number, "", f"'{utterance}' is an utterance of '{model}' already"))
            known.append(utterance)
    if not models:
        faults = faults or [Fault(1, "", "the file holds no models")]
    if faults:
        raise DataError({shown_path(path): faults}, "Nothing was written.")
    return models


def _map_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number, values) of each line. DataError with every line that is not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = list(enumerate(file, 1))
    escaped = re.compile("[\udc80-\udcff]")
    wrong = [number for number, line in lines if not line.isascii() and escaped.search(line)]
    if wrong:
        faults = [Fault(number, "", "is not UTF-8; save the file as UTF-8") for number in wrong]
        raise DataError({shown_path(path): faults}, "Nothing was written.")
    return [(number, line.split()) for number, line in lines]
