"""Trial lists, score files and maps of utterances, in every shape in circulation.

Lists are told apart by their content:

  label enrol test                     VoxCeleb, CASE, TidyVoice dev
  enrol test label                     Kaldi, WeSpeaker, TidyVoice keys
  enrol test                           TidyVoice eval, unlabelled
  enrol test score [label]             score files
  enrol test label score               score files of SpeechBrain
  label enrol test score               a list with a score on each line
  score                                scores alone, in the order of the list that they are of

A label is 1 or 0, also as 1.0 and 0.0, or one of the words of LABELS in any case. A line that fits none of them is an
error with its number, never skipped.
"""

import csv
import gzip
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.speaker.line_faults import LineFaults, first_line_not_utf8, opened_text
from earmark.speaker.trials import CHUNK_LINES, FloatArray, Trials

LABELS = {
    **dict.fromkeys(("1", "1.0", "target", "tgt", "true"), True),
    **dict.fromkeys(("0", "0.0", "nontarget", "non-target", "nontgt", "imposter", "impostor", "imp", "false"), False),
}
SNIFFED_LINES = 1000
LONGEST_HEADER = 10_000  # characters
SHOWN = 100  # characters of a cell in a message
AGREE = 1e-6  # relative: two columns of scores that differ by less say the same
# What a table of scores may call its columns.
NAMES = {
    "enrol": ("enrol", "enroll", "enrolment", "enrollment"),
    "test": ("test", "trial"),
    "score": ("score", "similarity"),
    "label": ("label", "target"),
}
_REMEDY = (
    "Nothing was written. A line is `1|0 enrol test`, `enrol test target|nontarget`, `enrol test`, "
    "`enrol test score [label]` or `enrol test label score`. Names with spaces need tabs between the values, or a .csv "
    "with the columns enrol, test, score, label."
)
_REMEDY_OF_TABLES = "Nothing was written. The columns are enrol, test and, where they are known, score and label (1|0)."
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
_UNREADABLE = (ValueError, pd.errors.ParserError, pd.errors.ParserWarning, *_DAMAGED)


def read_trials(path: Path) -> Trials:
    """A trial list or score file. DataError with its wrong lines, grouped.

    Twelve million lines take about a gigabyte: utterance names are held once. A .csv or .csv.gz with a header, such as
    the scores that Earmark writes, is read by the names of its columns: enrol, test, score, label.
    """
    found = _read(path)
    if isinstance(found, Trials):
        if both := found.conflicting_labels():
            raise EarmarkError(
                f"{shown_path(path)}: {both[0]} and {both[1]} are a target and a non-target trial; {both[2]:,} of its "
                "pairs are both, either way round. Keep the right line of each."
            )
        return found
    problem = "holds scores alone, one a line, and names no utterances; as --scores it needs the list as --trials"
    raise DataError({shown_path(path): [Fault(1, "", problem)]}, _REMEDY)


def read_scores(path: Path, trials: Trials) -> Trials:
    """A score file for a list: trials of its own, or the list's where it holds scores alone, in the list's order.

    DataError where it has no scores, or scores alone and not as many as the list has trials.
    """
    found = _read(path)
    fault, remedy = "", "A line is `enrol test score`, or a score alone for each line of the list."
    if isinstance(found, Trials) and found.scores is None:
        fault = "holds no scores"
        if found.labels is not None:
            fault += ": the values beside its names are labels throughout (1 and 0, or words)"
            remedy = f"If they are scores all the same, give a .csv with the columns enrol, test, score. {remedy}"
    elif isinstance(found, np.ndarray) and len(found) != len(trials):
        fault = f"holds {len(found):,} scores alone where the list has {len(trials):,} trials"
    if fault:
        raise DataError({shown_path(path): [Fault(1, "", fault)]}, remedy)
    return found if isinstance(found, Trials) else trials.with_scores(found)


def _read(path: Path) -> Trials | FloatArray:
    """A list, or scores alone."""
    try:
        if path.name.endswith((".csv", ".csv.gz")) and not _is_number(_first_line(path)):
            return _read_table(path)
        layouts = _layouts(path)
    except _DAMAGED as error:
        raise DataError({shown_path(path): [Fault(1, "", f"is damaged ({error})")]}, _REMEDY) from error
    errors = []
    for layout in layouts:
        try:
            return _read_lines(path, layout)
        except _UNREADABLE as error:
            errors.append(error)
    faults = _faults(path, layouts[0]) or [Fault(1, "", str(errors[0]))]
    raise DataError({shown_path(path): faults}, _REMEDY) from errors[0]


def _read_lines(path: Path, layout: "_Layout") -> Trials | FloatArray:
    reading = _TrialParser()
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
    return reading.whole()


# --- lists without a header ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """How a list is written. separator: the tab where that separates values, None for any white space."""

    columns: list[str]
    separator: str | None

    def cells(self, line: str) -> list[str]:
        return [cell.strip() for cell in line.split(self.separator)]


def _first_line(path: Path) -> str:
    """The first line that is not blank."""
    with opened_text(path) as file:
        while line := file.readline(LONGEST_HEADER):
            if line.strip():
                return line.strip("\r\n")
    return ""


def _layouts(path: Path) -> list[_Layout]:
    """What the columns of a list are, by its first lines; a second where later lines may say otherwise."""
    with opened_text(path) as file:
        lines = [line for line in islice(file, SNIFFED_LINES) if line.strip()]
    separator = "\t" if lines and all(1 <= line.rstrip("\r\n").count("\t") <= 3 for line in lines) else None
    rows = [_Layout([], separator).cells(line) for line in lines]
    if not rows:
        raise DataError({shown_path(path): [Fault(1, "", "the file holds no trials")]}, _REMEDY)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    found = _columns(list(zip(*(row for row in rows if len(row) == width), strict=True)))
    if not found:
        raise DataError({shown_path(path): [Fault(1, "", f"'{' '.join(rows[0])[:SHOWN]}' is no trial")]}, _REMEDY)
    return [_Layout(columns, separator) for columns in found]


def _columns(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """What columns of cells are, most likely first; nothing where they are no trials."""
    pair = ["enrol", "test"]
    labels, numbers = (
        [_mostly(column, _is_label) for column in cells],
        [_mostly(column, _is_number) for column in cells],
    )
    # Scores may happen to be 0 and 1 in places; a column of labels in numbers holds no other number.
    pure = [is_label and not _has_other_numbers(column) for is_label, column in zip(labels, cells, strict=True)]
    pure = [one or _mostly(column, _is_word) for one, column in zip(pure, cells, strict=True)]
    if len(cells) == 1:
        return [["score"]] if numbers[0] else []
    if len(cells) == 2:
        return [pair]
    if len(cells) == 3:
        scored = [[*pair, "score"]] if numbers[2] else []
        if labels[0]:
            return [["label", *pair]]
        return [[*pair, "label"], *scored] if pure[2] else scored
    if len(cells) != 4:
        return []
    if labels[0] and numbers[3]:
        return [["label", *pair, "score"]]
    # Of two columns of 0 and 1, the one with words or points is not the score; else the order of score files holds.
    if pure[2] and numbers[3] and not (pure[3] and numbers[2]):
        return [[*pair, "label", "score"]]
    return [[*pair, "score", "label"]] if numbers[2] else []


def _mostly(cells: Sequence[str], fits: Callable[[str], bool]) -> bool:
    return sum(fits(cell) for cell in cells) >= len(cells) / 2


def _has_other_numbers(cells: Sequence[str]) -> bool:
    return any(_is_number(cell) and not _is_label(cell) for cell in cells)


def _is_label(cell: str) -> bool:
    return cell.lower() in LABELS


def _is_word(cell: str) -> bool:
    return _is_label(cell) and not _is_number(cell)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _label(name: str) -> bool:
    if not _is_label(name):
        raise ValueError(f"'{name}' is no label")
    return LABELS[name.lower()]


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

    def whole(self) -> Trials | FloatArray:
        """The list, or its scores alone where it names no utterances."""
        whole = {column: np.concatenate(parts) for column, parts in self._columns.items()}
        if "enrol" not in whole:
            return whole["score"]
        names = np.array(list(self._codes), dtype=object)
        return Trials(names, whole["enrol"], whole["test"], whole.get("label"), whole.get("score"))


def _faults(path: Path, layout: _Layout) -> list[Fault]:
    """The lines that do not fit the layout; slow, for lists that are known to have such lines."""
    faults = LineFaults()
    if (wrong := first_line_not_utf8(path)) is not None:
        faults.add(wrong, "", "is not UTF-8; save it as UTF-8")
        return faults.grouped()
    with opened_text(path) as file:
        for number, line in enumerate(file, 1):
            cells = layout.cells(line)
            if len(cells) != len(layout.columns):
                faults.add(number, "", f"has {len(cells)} values where the list has {len(layout.columns)}")
                continue
            for column, cell in zip(layout.columns, cells, strict=True):
                if problem := _wrong_cell(column, cell):
                    faults.add(number, column, problem)
    return faults.grouped()


def _wrong_cell(column: str, cell: str, decimal: str = ".") -> str:
    """What is wrong with a cell; empty where nothing is."""
    if column == "label" and not _is_label(cell):
        return f"'{cell[:SHOWN]}' is not one of 1, 0, target, nontarget"
    if column == "score" and not _is_number(cell.replace(decimal, ".")):
        return f"'{cell[:SHOWN]}' is not a finite number"
    return "is empty" if column in ("enrol", "test") and not cell else ""


# --- tables with a header -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """How a table is written. places: {enrol, test, score or label: its columns by place}, two where both may be it."""

    columns: list[str]
    separator: str
    places: Mapping[str, Sequence[int]]

    @property
    def decimal(self) -> str:
        return "," if self.separator == ";" else "."


def _table_of(path: Path) -> _Table:
    """By the header. DataError where it names no trials."""
    header = _first_line(path)
    separator = max(",;\t", key=header.count)
    columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    places = {name: [i for i, column in enumerate(columns) if column.lower() in NAMES[name]] for name in NAMES}
    places = {name: found for name, found in places.items() if found}
    missing = [name for name in ("enrol", "test") if name not in places]
    if missing and list(places) != ["score"]:
        seen = f"is missing; there are {', '.join(columns)}"[: SHOWN * 10]
        raise DataError({shown_path(path): [Fault(1, name, seen) for name in missing]}, _REMEDY_OF_TABLES)
    return _Table(columns, separator, places)


def _read_table(path: Path) -> Trials | FloatArray:
    reading = _TrialParser()
    try:
        table = _table_of(path)
        with pd.read_csv(
            path, sep=table.separator, dtype=object, na_filter=False, encoding="utf-8-sig", chunksize=CHUNK_LINES
        ) as parts:
            for part in parts:
                reading.add(_named_columns(part, table))
        return reading.whole()
    except (*_UNREADABLE, KeyError) as error:
        faults = _table_faults(path) or [Fault(1, "", "holds no trials" if isinstance(error, KeyError) else str(error))]
        raise DataError({shown_path(path): faults}, _REMEDY_OF_TABLES) from error


def _named_columns(part: pd.DataFrame, table: _Table) -> pd.DataFrame:
    """The columns of trials by name. ValueError where a cell does not fit, or two columns contradict each other."""
    found = {}
    for name, places in table.places.items():
        first, *others = (part.iloc[:, place] for place in places)
        if name == "score":
            first, *others = (_numbers(column, table.decimal) for column in (first, *others))
        for other in others:
            if not _agree(name, first.to_numpy(), other.to_numpy()):
                raise ValueError(f"two columns of {name} contradict each other")
        found[name] = first
    return pd.DataFrame(found)


def _agree(name: str, one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two columns that may both be it say the same."""
    if name == "score":
        return bool(np.isclose(one, other, rtol=AGREE, atol=0).all())
    if name == "label":
        return all(_label(a) == _label(b) for a, b in set(zip(one, other, strict=True)))
    return bool((one == other).all())


def _numbers(column: "pd.Series[Any]", decimal: str) -> "pd.Series[Any]":
    return pd.to_numeric(column.str.replace(decimal, "."))


def _table_faults(path: Path) -> list[Fault]:
    """The lines that do not fit the header; slow, for tables that are known to have such lines."""
    faults = LineFaults()
    try:
        if (wrong := first_line_not_utf8(path)) is not None:
            faults.add(wrong, "", "is not UTF-8; save it as UTF-8")
            return faults.grouped()
        table = _table_of(path)
        with opened_text(path) as file:
            rows = csv.reader(file, delimiter=table.separator)
            line, unnamed = 1, None
            header = False
            for cells in rows:
                if cells and header:
                    # Tables of R have a first column without a name in the header.
                    unnamed = int(len(cells) == len(table.columns) + 1) if unnamed is None else unnamed
                    _add_faults_of_row(faults, line, cells[unnamed:], table)
                header = header or bool(cells)
                line = rows.line_num + 1
    except csv.Error as error:
        faults.add(rows.line_num, "", f"cannot be read as CSV: {error}")
    except _DAMAGED as error:
        faults.add(1, "", f"is damaged ({error})")
    return faults.grouped()


def _add_faults_of_row(faults: LineFaults, line: int, cells: Sequence[str], table: _Table) -> None:
    if len(cells) != len(table.columns):
        faults.add(line, "", f"has {len(cells)} values where the header has {len(table.columns)}")
        return
    for name, places in table.places.items():
        values = [cells[place] for place in places]
        header = [table.columns[place] for place in places]
        wrong = [_wrong_cell(name, value, table.decimal) for value in values]
        for column, problem in zip(header, wrong, strict=True):
            if problem:
                faults.add(line, column, problem)
        if len(values) > 1 and not any(wrong) and _contradict(name, values, table.decimal):
            said = " and ".join(f"{column} '{value[:SHOWN]}'" for column, value in zip(header, values, strict=True))
            faults.add(line, "", f"the columns {' and '.join(header)} contradict each other, as {said}; remove one")


def _contradict(name: str, values: Sequence[str], decimal: str) -> bool:
    typed = [float(value.replace(decimal, ".")) for value in values] if name == "score" else list(values)
    return not all(_agree(name, np.array(typed[:1]), np.array([value])) for value in typed[1:])


# --- maps of utterances -------------------------------------------------------------------------------------


def read_pairs(path: Path) -> list[tuple[int, str, str]]:
    """(line, first, second) of a file with two values on each line. DataError with every other line."""
    pairs, faults = [], LineFaults()
    for number, cells in _map_lines(path):
        if len(cells) == 2:
            pairs.append((number, cells[0], cells[1]))
        else:
            faults.add(number, "", f"has {len(cells)} values; a line is `utterance speaker`")
    if faults:
        raise DataError({shown_path(path): faults.grouped()}, "Nothing was written.")
    return pairs


def read_speakers(path: Path) -> dict[str, str]:
    """{utterance: speaker} of a map with one pair on each line. DataError for an utterance of two speakers."""
    return speakers_from_pairs(read_pairs(path), path)


def speakers_from_pairs(pairs: Sequence[tuple[int, str, str]], path: Path) -> dict[str, str]:
    """{utterance: speaker} of lines, as `read_pairs` gives them. DataError for an utterance of two speakers."""
    speakers: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults = LineFaults()
    for line, utterance, speaker in pairs:
        if speakers.setdefault(utterance, speaker) == speaker:
            lines.setdefault(utterance, line)
        else:
            before = f"on line {lines[utterance]} '{speakers[utterance][:SHOWN]}'"
            faults.add(line, "", f"'{utterance[:SHOWN]}' has the speaker '{speaker[:SHOWN]}', and {before}")
    if faults:
        remedy = "Nothing was written. A line is `utterance speaker`, in that order; an utterance has one speaker."
        raise DataError({shown_path(path): faults.grouped()}, remedy)
    return speakers


def read_enrolments(path: Path) -> dict[str, list[str]]:
    """{model: its utterances} of a Kaldi map for enrolment from several utterances.

    A line is `model utterance utterance …` (spk2utt); a model may go on on another line, so one pair on each line is
    read too. DataError with every line that is too short or repeats an utterance of its model.
    """
    models: dict[str, list[str]] = {}
    faults = LineFaults()
    for number, cells in _map_lines(path):
        if len(cells) < 2:
            faults.add(number, "", "is not `model utterance utterance …`")
            continue
        model, *utterances = cells
        known = models.setdefault(model, [])
        for utterance in utterances:
            if utterance in known:
                faults.add(number, "", f"'{utterance}' is an utterance of '{model}' already")
            known.append(utterance)
    if not models and not faults:
        faults.add(1, "", "the file holds no models")
    if faults:
        raise DataError({shown_path(path): faults.grouped()}, "Nothing was written.")
    return models


def _map_lines(path: Path) -> list[tuple[int, list[str]]]:
    """(number, values) of each line. DataError with every line that is not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = list(enumerate(file, 1))
    escaped, faults = re.compile("[\udc80-\udcff]"), LineFaults()
    for number, line in lines:
        if not line.isascii() and escaped.search(line):
            faults.add(number, "", "is not UTF-8; save the file as UTF-8")
    if faults:
        raise DataError({shown_path(path): faults.grouped()}, "Nothing was written.")
    return [(number, line.split()) for number, line in lines]
