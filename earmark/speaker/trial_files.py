"""Read trial lists, score files, speaker maps and enrolment maps in all common formats.

The format of a list is detected from its content:

  label enrol test                     VoxCeleb, CASE, TidyVoice dev
  enrol test label                     Kaldi, WeSpeaker, TidyVoice keys
  enrol test                           TidyVoice eval, unlabelled
  enrol test score [label]             score files
  enrol test label score               SpeechBrain score files
  label enrol test score               labelled lists with scores
  score                                score files without names, in the order of the trial list

A label is 1 or 0 (also 1.0 and 0.0) or one of the words in LABELS, in upper or lower case. A line that does not fit the
format is an error with its line number; no line is skipped.
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
from earmark.speaker.line_faults import LineFaults, first_line_not_utf8, open_text
from earmark.speaker.trials import CHUNK_LINES, FloatArray, Trials

LABELS = {
    **dict.fromkeys(("1", "1.0", "target", "tgt", "true"), True),
    **dict.fromkeys(("0", "0.0", "nontarget", "non-target", "nontgt", "imposter", "impostor", "imp", "false"), False),
}
SNIFFED_LINES = 1000  # lines that decide the format of a list
MAX_HEADER = 10_000  # characters
SHOWN = 100  # characters of a cell in a message
SCORE_TOLERANCE = 1e-6  # relative difference up to which two columns of scores agree
# Accepted column names of tables.
COLUMN_NAMES = {
    "enrol": ("enrol", "enroll", "enrolment", "enrollment"),
    "test": ("test", "trial"),
    "score": ("score", "similarity"),
    "label": ("label", "target"),
}
_REMEDY = (
    "Nothing was written. Valid lines are `1|0 enrol test`, `enrol test target|nontarget`, `enrol test`, "
    "`enrol test score [label]` and `enrol test label score`. If names contain spaces, separate values by tabs or use "
    "a .csv file with the columns enrol, test, score, label."
)
_TABLE_REMEDY = "Nothing was written. The columns are enrol, test and optionally score and label (1|0)."
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
_UNREADABLE = (ValueError, pd.errors.ParserError, pd.errors.ParserWarning, *_DAMAGED)


def read_trials(path: Path) -> Trials:
    """Read a trial list or a score file with utterance names.

    Each utterance name is stored once, so 12 million lines take about 1 GB of memory.

    Parameters
    ----------
    path : Path
        A text file, a .csv with a header (columns enrol, test and optionally score and label), or either as .gz.

    Returns
    -------
    Trials

    Raises
    ------
    DataError
        With all invalid lines, or if the file contains scores without utterance names.
    EarmarkError
        If a pair of utterances is both a target and a non-target trial.
    """
    content = _read(path)
    if isinstance(content, Trials):
        if conflict := content.conflicting_labels():
            first, second, n = conflict
            raise EarmarkError(
                f"{shown_path(path)}: {n:,} {'pair is' if n == 1 else 'pairs are'} labelled both target and non-target "
                f"(in either order), for example {first} and {second}. Remove the incorrect lines."
            )
        return content
    problem = "contains only scores and no utterance names; use it as --scores together with --trials FILE"
    raise DataError({shown_path(path): [Fault(1, "", problem)]}, _REMEDY)


def read_scores(path: Path, trials: Trials) -> Trials:
    """Read the score file of a trial list.

    Parameters
    ----------
    path : Path
        A score file with utterance names, or with one score per line in the order of the list.
    trials : Trials
        The list.

    Returns
    -------
    Trials
        The trials of the score file, with scores; the given list with scores if the file has no names.

    Raises
    ------
    DataError
        With all invalid lines, if the file has no scores, or if it has scores without names and their number is not
        the number of trials.
    """
    content = _read(path)
    fault, remedy = "", "Valid lines are `enrol test score`, or a single score for each line of the trial list."
    if isinstance(content, Trials) and content.scores is None:
        fault = "contains no scores"
        if content.labels is not None:
            fault += ": all values next to the names are labels (1 and 0, or words)"
            remedy = f"If the values are scores, use a .csv file with the columns enrol, test, score. {remedy}"
    elif isinstance(content, np.ndarray) and len(content) != len(trials):
        fault = f"has no names; its number of scores is {len(content):,}, but the list has {len(trials):,} trials"
    if fault:
        raise DataError({shown_path(path): [Fault(1, "", fault)]}, remedy)
    return content if isinstance(content, Trials) else trials.with_scores(content)


def _read(path: Path) -> Trials | FloatArray:
    """Read a list, or the scores of a file without names."""
    try:
        if path.name.endswith((".csv", ".csv.gz")) and not _is_number(_first_line(path)):
            return _read_table(path)
        layouts = _layouts(path)
    except _DAMAGED as error:
        raise DataError({shown_path(path): [Fault(1, "", f"cannot be decompressed ({error})")]}, _REMEDY) from error
    errors = []
    for layout in layouts:
        try:
            return _read_lines(path, layout)
        except _UNREADABLE as error:
            errors.append(error)
    faults = _faults(path, layouts[0]) or [Fault(1, "", str(errors[0]))]
    raise DataError({shown_path(path): faults}, _REMEDY) from errors[0]


class _NumericNamesError(Exception):
    """The parser took the names of a chunk for numbers, which loses leading zeros."""


def _read_lines(path: Path, layout: "_Layout") -> Trials | FloatArray:
    try:
        return _parse_lines(path, layout, "category")
    except _NumericNamesError:
        return _parse_lines(path, layout, object)


def _parse_lines(path: Path, layout: "_Layout", names_dtype: Any) -> Trials | FloatArray:
    """Parse a list; with the dtype "category", every distinct name of a chunk is stored once, not once per cell."""
    dtypes = {"score": float, "label": object}
    parser = _TrialParser()
    chunks = pd.read_csv(
        path,
        sep=layout.separator or r"\s+",
        header=None,
        names=layout.columns,
        dtype={name: dtypes.get(name, names_dtype) for name in layout.columns},
        quoting=csv.QUOTE_NONE,
        na_filter=False,
        skip_blank_lines=False,
        index_col=False,
        encoding="utf-8-sig",
        chunksize=CHUNK_LINES,
        low_memory=False,  # otherwise the categories of many small parts are merged
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a line with too many values
        for chunk in chunks:
            parser.add(chunk)
    return parser.whole()


# --- lists without a header ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Format of a list: its columns, and the separator of values (tab, or None for any white space)."""

    columns: list[str]
    separator: str | None

    def cells(self, line: str) -> list[str]:
        return [cell.strip() for cell in line.split(self.separator)]


def _first_line(path: Path) -> str:
    """First line that is not blank; empty if there is none."""
    with open_text(path) as file:
        while line := file.readline(MAX_HEADER):
            if line.strip():
                return line.strip("\r\n")
    return ""


def _layouts(path: Path) -> list[_Layout]:
    """Possible formats of a list, inferred from its first lines, most likely first."""
    with open_text(path) as file:
        lines = [line for line in islice(file, SNIFFED_LINES) if line.strip()]
    separator = "\t" if lines and all(1 <= line.rstrip("\r\n").count("\t") <= 3 for line in lines) else None
    rows = [_Layout([], separator).cells(line) for line in lines]
    if not rows:
        raise DataError({shown_path(path): [Fault(1, "", "the file contains no trials")]}, _REMEDY)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    candidates = _columns(list(zip(*(row for row in rows if len(row) == width), strict=True)))
    if not candidates:
        raise DataError({shown_path(path): [Fault(1, "", f"'{' '.join(rows[0])[:SHOWN]}' is not a trial")]}, _REMEDY)
    return [_Layout(columns, separator) for columns in candidates]


def _columns(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Possible names of the columns, most likely first; empty if the cells are not trials."""
    pair = ["enrol", "test"]
    labels, numbers = (
        [_mostly(column, _is_label) for column in cells],
        [_mostly(column, _is_number) for column in cells],
    )
    # Some scores may be exactly 0 or 1; a column of numeric labels contains no other number.
    pure = [is_label and not _has_other_numbers(column) for is_label, column in zip(labels, cells, strict=True)]
    pure = [is_pure or _mostly(column, _is_word) for is_pure, column in zip(pure, cells, strict=True)]
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
    # If both columns could be labels, a column of words is the label; two columns of numbers are score and label.
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
        raise ValueError(f"'{name}' is not a label")
    return LABELS[name.lower()]


class _TrialParser:
    """Builds a list chunk by chunk, replacing names by integer codes so that no text of earlier chunks is stored."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._columns: dict[str, list[NDArray[Any]]] = {}

    def add(self, chunk: pd.DataFrame) -> None:
        """Append a chunk of text columns. ValueError for an invalid cell."""
        for column in chunk.columns:
            self._columns.setdefault(column, []).append(self._typed(column, chunk[column]))

    def _typed(self, column: str, cells: pd.Series) -> NDArray[Any]:
        if column == "score":
            scores = cells.to_numpy(dtype=float)
            if not np.isfinite(scores).all():
                raise ValueError("a score is not finite")
            return scores
        local, names = _factorized(cells)
        if column == "label":
            return np.array([_label(name) for name in names], dtype=bool)[local]
        if "" in names:
            raise ValueError("a line is empty or too short")
        return np.array([self._codes.setdefault(name, len(self._codes)) for name in names], dtype=np.int32)[local]

    def whole(self) -> Trials | FloatArray:
        """The whole list, or only the scores if there are no names."""
        # Column by column, so that the parts of only one are in memory twice.
        whole = {column: np.concatenate(self._columns.pop(column)) for column in list(self._columns)}
        if "enrol" not in whole:
            return whole["score"]
        names = np.array(list(self._codes), dtype=object)
        return Trials(names, whole["enrol"], whole["test"], whole.get("label"), whole.get("score"))


def _factorized(cells: "pd.Series[Any]") -> tuple[NDArray[np.intp], Sequence[str]]:
    """Number of each cell's text, and the distinct texts by first occurrence."""
    if not isinstance(cells.dtype, pd.CategoricalDtype):
        codes, texts = pd.factorize(cells)
        return codes, list(texts)
    texts = cells.cat.categories
    if len(texts) and not isinstance(texts[0], str):
        raise _NumericNamesError
    codes, used = pd.factorize(cells.cat.codes.to_numpy())
    return codes, texts.take(used).tolist()


def _faults(path: Path, layout: _Layout) -> list[Fault]:
    """Find all invalid lines; slow, so only called after reading has failed."""
    faults = LineFaults()
    if (invalid := first_line_not_utf8(path)) is not None:
        faults.add(invalid, "", "is not UTF-8; save it as UTF-8")
        return faults.grouped()
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            cells = layout.cells(line)
            if len(cells) != len(layout.columns):
                faults.add(number, "", f"has {len(cells)} values, expected {len(layout.columns)}")
                continue
            for column, cell in zip(layout.columns, cells, strict=True):
                if problem := _cell_fault(column, cell):
                    faults.add(number, column, problem)
    return faults.grouped()


def _cell_fault(column: str, cell: str, decimal: str = ".") -> str:
    """The fault of a cell; empty for a valid cell."""
    if column == "label" and not _is_label(cell):
        return f"'{cell[:SHOWN]}' is not one of 1, 0, target, nontarget"
    if column == "score" and not _is_number(cell.replace(decimal, ".")):
        return f"'{cell[:SHOWN]}' is not a finite number"
    return "is empty" if column in ("enrol", "test") and not cell else ""


# --- tables with a header -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """Format of a table.

    Attributes
    ----------
    columns : list of str
        The header.
    separator : str
    positions : mapping
        {enrol, test, score or label: positions of the columns with an accepted name}.
    """

    columns: list[str]
    separator: str
    positions: Mapping[str, Sequence[int]]

    @property
    def decimal(self) -> str:
        return "," if self.separator == ";" else "."


def _table_from_header(path: Path) -> _Table:
    """Detect the format of a table. DataError if the columns enrol or test are missing."""
    header = _first_line(path)
    separator = max(",;\t", key=header.count)
    columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    positions = {
        name: [i for i, column in enumerate(columns) if column.lower() in accepted]
        for name, accepted in COLUMN_NAMES.items()
    }
    positions = {name: matches for name, matches in positions.items() if matches}
    missing = [name for name in ("enrol", "test") if name not in positions]
    if missing and list(positions) != ["score"]:
        problem = f"is missing; the columns are {', '.join(columns)}"[: SHOWN * 10]
        raise DataError({shown_path(path): [Fault(1, name, problem) for name in missing]}, _TABLE_REMEDY)
    return _Table(columns, separator, positions)


def _read_table(path: Path) -> Trials | FloatArray:
    parser = _TrialParser()
    try:
        table = _table_from_header(path)
        with pd.read_csv(
            path, sep=table.separator, dtype=object, na_filter=False, encoding="utf-8-sig", chunksize=CHUNK_LINES
        ) as parts:
            for part in parts:
                parser.add(_named_columns(part, table))
        return parser.whole()
    except (*_UNREADABLE, KeyError) as error:
        faults = _table_faults(path) or [
            Fault(1, "", "contains no trials" if isinstance(error, KeyError) else str(error))
        ]
        raise DataError({shown_path(path): faults}, _TABLE_REMEDY) from error


def _named_columns(part: pd.DataFrame, table: _Table) -> pd.DataFrame:
    """Select the columns of trials by name. ValueError for an invalid cell, or two columns that disagree."""
    columns = {}
    for name, positions in table.positions.items():
        first, *others = (part.iloc[:, position] for position in positions)
        if name == "score":
            first, *others = (_numbers(column, table.decimal) for column in (first, *others))
        for other in others:
            if not _agree(name, first.to_numpy(), other.to_numpy()):
                raise ValueError(f"two columns of {name} disagree")
        columns[name] = first
    return pd.DataFrame(columns)


def _agree(name: str, first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether two columns for the same name have the same values."""
    if name == "score":
        return bool(np.isclose(first, second, rtol=SCORE_TOLERANCE, atol=0).all())
    if name == "label":
        return all(_label(a) == _label(b) for a, b in set(zip(first, second, strict=True)))
    return bool((first == second).all())


def _numbers(column: "pd.Series[Any]", decimal: str) -> "pd.Series[Any]":
    return pd.to_numeric(column.str.replace(decimal, "."))


def _table_faults(path: Path) -> list[Fault]:
    """Find all invalid lines; slow, so only called after reading has failed."""
    faults = LineFaults()
    try:
        if (invalid := first_line_not_utf8(path)) is not None:
            faults.add(invalid, "", "is not UTF-8; save it as UTF-8")
            return faults.grouped()
        table = _table_from_header(path)
        with open_text(path) as file:
            rows = csv.reader(file, delimiter=table.separator)
            line, unnamed = 1, None
            header = False
            for cells in rows:
                if cells and header:
                    # Tables written by R have a first column without a name in the header.
                    unnamed = int(len(cells) == len(table.columns) + 1) if unnamed is None else unnamed
                    _add_faults_of_row(faults, line, cells[unnamed:], table)
                header = header or bool(cells)
                line = rows.line_num + 1
    except csv.Error as error:
        faults.add(rows.line_num, "", f"cannot be read as CSV: {error}")
    except _DAMAGED as error:
        faults.add(1, "", f"cannot be decompressed ({error})")
    return faults.grouped()


def _add_faults_of_row(faults: LineFaults, line: int, cells: Sequence[str], table: _Table) -> None:
    if len(cells) != len(table.columns):
        faults.add(line, "", f"has {len(cells)} values, but the header has {len(table.columns)} columns")
        return
    for name, positions in table.positions.items():
        values = [cells[position] for position in positions]
        header = [table.columns[position] for position in positions]
        problems = [_cell_fault(name, value, table.decimal) for value in values]
        for column, problem in zip(header, problems, strict=True):
            if problem:
                faults.add(line, column, problem)
        if len(values) > 1 and not any(problems) and _disagree(name, values, table.decimal):
            pairs = " and ".join(f"{column} '{value[:SHOWN]}'" for column, value in zip(header, values, strict=True))
            faults.add(line, "", f"the columns {' and '.join(header)} disagree: {pairs}; remove one of them")


def _disagree(name: str, values: Sequence[str], decimal: str) -> bool:
    typed = [float(value.replace(decimal, ".")) for value in values] if name == "score" else list(values)
    return not all(_agree(name, np.array(typed[:1]), np.array([value])) for value in typed[1:])


# --- speaker maps and enrolment maps ------------------------------------------------------------------------


def read_pairs(path: Path, value: str = "speaker") -> list[tuple[int, str, str]]:
    """Read a file with two values per line.

    Parameters
    ----------
    path : Path
        A UTF-8 text file, values separated by white space.
    value : str
        What the second value is, for messages.

    Returns
    -------
    list of (int, str, str)
        Line number and the two values.

    Raises
    ------
    DataError
        With all lines that do not have two values or are not UTF-8.
    """
    pairs, faults = [], LineFaults()
    for number, cells in _map_lines(path):
        if len(cells) == 2:
            pairs.append((number, cells[0], cells[1]))
        else:
            faults.add(number, "", f"has {len(cells)} values, expected `utterance {value}`")
    if faults:
        raise DataError(
            {shown_path(path): faults.grouped()}, f"Nothing was written. Valid lines are `utterance {value}`."
        )
    return pairs


def read_speakers(path: Path) -> dict[str, str]:
    """Read a map of `utterance speaker` lines.

    Parameters
    ----------
    path : Path
        A UTF-8 text file.

    Returns
    -------
    dict
        {utterance: speaker}.

    Raises
    ------
    DataError
        With all invalid lines, or all utterances that have two speakers.
    """
    return speakers_from_pairs(read_pairs(path), path)


def speakers_from_pairs(pairs: Sequence[tuple[int, str, str]], path: Path, value: str = "speaker") -> dict[str, str]:
    """Convert the lines that `read_pairs` returns to {utterance: speaker}.

    Parameters
    ----------
    pairs : sequence of (int, str, str)
        Line number, utterance, speaker.
    path : Path
        The file, for messages.
    value : str
        What each utterance has, for messages.

    Returns
    -------
    dict
        {utterance: speaker}.

    Raises
    ------
    DataError
        With all utterances that have two speakers.
    """
    speakers: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults = LineFaults()
    for line, utterance, speaker in pairs:
        if speakers.setdefault(utterance, speaker) == speaker:
            lines.setdefault(utterance, line)
        else:
            before = f"'{speakers[utterance][:SHOWN]}' on line {lines[utterance]}"
            faults.add(line, "", f"'{utterance[:SHOWN]}' has the {value} '{speaker[:SHOWN]}', but {before}")
    if faults:
        remedy = f"Nothing was written. Valid lines are `utterance {value}`, with one {value} per utterance."
        raise DataError({shown_path(path): faults.grouped()}, remedy)
    return speakers


def read_enrolments(path: Path) -> dict[str, list[str]]:
    """Read the utterances of enrolment models from a Kaldi spk2utt file.

    A line is `model utterance utterance …`. A model may have several lines, for example one per
    utterance.

    Parameters
    ----------
    path : Path
        A UTF-8 text file.

    Returns
    -------
    dict
        {model: its utterances}.

    Raises
    ------
    DataError
        With all lines that have fewer than two values, repeat an utterance of a model or are not UTF-8, or if the file
        is empty.
    """
    models: dict[str, list[str]] = {}
    faults = LineFaults()
    for number, cells in _map_lines(path):
        if len(cells) < 2:
            faults.add(number, "", "has fewer than 2 values")
            continue
        model, *utterances = cells
        known = models.setdefault(model, [])
        for utterance in utterances:
            if utterance in known:
                faults.add(number, "", f"'{utterance}' is repeated in '{model}'")
            known.append(utterance)
    if not models and not faults:
        faults.add(1, "", "the file contains no models")
    if faults:
        remedy = "Nothing was written. Valid lines are `model utterance utterance …`."
        raise DataError({shown_path(path): faults.grouped()}, remedy)
    return models


def _map_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and values of each line. DataError with all lines that are not UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = list(enumerate(file, 1))
    escaped, faults = re.compile("[\udc80-\udcff]"), LineFaults()
    for number, line in lines:
        if not line.isascii() and escaped.search(line):
            faults.add(number, "", "is not UTF-8; save the file as UTF-8")
    if faults:
        raise DataError({shown_path(path): faults.grouped()}, "Nothing was written.")
    return [(number, line.split()) for number, line in lines]
