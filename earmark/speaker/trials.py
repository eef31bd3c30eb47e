"""Speaker verification trials: lists and score files in every shape in circulation.

A trial is a pair of utterances, enrolment and test; a target trial has one speaker on both sides. Lists are told
apart by their content:

  1|0 enrol test                       VoxCeleb, CASE, TidyVoice dev
  enrol test target|nontarget          Kaldi, WeSpeaker, TidyVoice keys
  enrol test                           TidyVoice eval, unlabelled
  enrol test score [label]             score files

A line that fits none of them is an error with its number, never skipped.
"""

import csv
import gzip
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from earmark.errors import DataError, Fault, shown_path

FloatArray = NDArray[np.float64]
LABELS = {"1": True, "0": False, "target": True, "nontarget": False, "imposter": False, "impostor": False}
SNIFFED_LINES = 1000
CHUNK_LINES = 1_000_000
LONGEST_HEADER = 10_000  # characters
SHOWN = 100  # characters of a cell in a message
# What a table of scores may call its columns.
NAMES = {
    "enrol": ("enrol", "enroll", "enrolment", "enrollment"),
    "test": ("test", "trial"),
    "score": ("score", "similarity"),
    "label": ("label", "target"),
}


@dataclass(frozen=True)
class Trials:
    """A trial list. names: utterances, each once. enrolment, test: (n,) positions in names.

    labels: (n,) True for target trials, None where the list has none. scores: (n,), None likewise.
    """

    names: NDArray[np.object_]
    enrolment: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: NDArray[np.bool_] | None = None
    scores: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.enrolment)

    @property
    def is_self(self) -> NDArray[np.bool_]:
        """Trials of an utterance against itself."""
        return self.enrolment == self.test

    @property
    def is_repeated(self) -> NDArray[np.bool_]:
        """Trials that an earlier line holds already."""
        return pd.Series(self.enrolment * len(self.names) + self.test).duplicated().to_numpy()

    def take(self, kept: NDArray[np.bool_]) -> "Trials":
        """The trials where `kept` is True."""
        return Trials(
            self.names,
            self.enrolment[kept],
            self.test[kept],
            None if self.labels is None else self.labels[kept],
            None if self.scores is None else self.scores[kept],
        )

    def compact(self) -> "Trials":
        """The same list, with the names of its own trials alone."""
        used = np.zeros(len(self.names), dtype=bool)
        used[self.enrolment] = used[self.test] = True
        if used.all():
            return self
        place = np.cumsum(used) - 1
        return Trials(self.names[used], place[self.enrolment], place[self.test], self.labels, self.scores)

    def with_scores(self, scores: FloatArray) -> "Trials":
        """The same list with these scores."""
        return Trials(self.names, self.enrolment, self.test, self.labels, scores)

    def tables(self) -> Iterator[pd.DataFrame]:
        """The list as tables of at most CHUNK_LINES rows: enrol, test, then score and label where it has them."""
        for start in range(0, max(len(self), 1), CHUNK_LINES):
            part = slice(start, start + CHUNK_LINES)
            columns: dict[str, Any] = {
                "enrol": self.names[self.enrolment[part]],
                "test": self.names[self.test[part]],
            }
            if self.scores is not None:
                columns["score"] = self.scores[part]
            if self.labels is not None:
                columns["label"] = self.labels[part].astype(int)
            yield pd.DataFrame(columns)


# --- reading ------------------------------------------------------------------------------------------------


def read_trials(path: Path) -> Trials:
    """A trial list or score file. DataError with every wrong line.

    Twelve million lines take about a gigabyte: utterance names are held once. A .csv or .csv.gz with a header, such as
    the scores that Earmark writes, is read by the names of its columns: enrol, test, score, label.
    """
    if path.name.endswith((".csv", ".csv.gz")):
        return _read_table(path)
    columns, separator = _columns(path)
    reading = _Reading()
    try:
        chunks = pd.read_csv(
            path,
            sep=separator or r"\s+",
            header=None,
            names=columns,
            dtype={name: float if name == "score" else object for name in columns},
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
        faults = _faults(path, columns, separator) or [Fault(1, "", _unreadable(error))]
        raise DataError({shown_path(path): faults}, _REMEDY) from error
    return reading.trials()


_REMEDY = (
    "Nothing was written. A line is `1|0 enrol test`, `enrol test target|nontarget`, `enrol test` or "
    "`enrol test score [label]`. Names with spaces need tabs between the values, or a .csv with the columns enrol, "
    "test, score, label."
)


def _unreadable(error: Exception) -> str:
    return "is not UTF-8; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _columns(path: Path) -> tuple[list[str], str | None]:
    """What the columns of a list are, by its first lines; and the tab where that separates them, else None."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = [line for line, _ in zip(file, range(SNIFFED_LINES), strict=False) if line.strip()]
    separator = "\t" if lines and all(1 <= line.rstrip("\r\n").count("\t") <= 3 for line in lines) else None
    rows = [[cell.strip() for cell in line.split(separator)] for line in lines]
    if not rows:
        raise DataError({shown_path(path): [Fault(1, "", "the file holds no trials")]}, _REMEDY)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    typical = [row for row in rows if len(row) == width]
    if width == 2:
        return ["enrol", "test"], separator
    if width == 3 and _mostly(typical, 0, lambda cell: cell in ("0", "1")):
        return ["label", "enrol", "test"], separator
    if width == 3 and _mostly(typical, 2, lambda cell: cell in LABELS and not cell.isdigit()):
        return ["enrol", "test", "label"], separator
    if width in (3, 4) and _mostly(typical, 2, _is_number):
        return ["enrol", "test", "score", "label"][:width], separator
    raise DataError({shown_path(path): [Fault(1, "", f"'{' '.join(rows[0])[:SHOWN]}' is no trial")]}, _REMEDY)


def _mostly(rows: list[list[str]], column: int, fits: object) -> bool:
    return sum(fits(row[column]) for row in rows) >= len(rows) / 2  # type: ignore[operator]


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


class _Reading:
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
    reading = _Reading()
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


def _faults(path: Path, columns: list[str], separator: str | None) -> list[Fault]:
    """Every line that does not fit the columns; slow, for lists that are known to have such lines."""
    faults = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = line.split(separator)
            if len(cells) != len(columns):
                faults.append(Fault(number, "", f"has {len(cells)} values where the list has {len(columns)}"))
                continue
            for column, cell in zip(columns, (cell.strip() for cell in cells), strict=True):
                if column == "label" and cell not in LABELS:
                    faults.append(Fault(number, "label", f"'{cell[:SHOWN]}' is not one of 1, 0, target, nontarget"))
                if column == "score" and not _is_number(cell):
                    faults.append(Fault(number, "score", f"'{cell[:SHOWN]}' is not a finite number"))
    return faults


def read_speakers(path: Path) -> dict[str, str]:
    """{utterance: speaker} of a map with one pair on each line."""
    pairs, faults = {}, []
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            cells = line.split()
            if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
                faults.append(Fault(number, "", "is not UTF-8; save the file as UTF-8"))
            elif len(cells) != 2:
                faults.append(Fault(number, "", f"has {len(cells)} values; a line is `utterance speaker`"))
            else:
                pairs[cells[0]] = cells[1]
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
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            model, *utterances = line.split() or [""]
            if not utterances:
                faults.append(Fault(number, "", "is not `model utterance utterance …`"))
                continue
            known = models.setdefault(model, [])
            for utterance in utterances:
                if utterance in known:
                    faults.append(Fault(number, "", f"'{utterance}' is an utterance of '{model}' already"))
                known.append(utterance)
    if faults or not models:
        raise DataError(
            {shown_path(path): faults or [Fault(1, "", "the file holds no models")]}, "Nothing was written."
        )
    return models


def speakers_of(names: Iterable[str], known: Mapping[str, str] | None = None) -> list[str] | None:
    """The speaker of every utterance: from a map, or the first folder of a path `spk/…`.

    None where some utterance has neither, so that speakers are not known.
    """
    if known is not None:
        found = [known.get(name) for name in names]
    else:
        found = [name.split("/", 1)[0] if "/" in name else None for name in names]
    return None if any(speaker is None for speaker in found) else [str(speaker) for speaker in found]


def shared_pairs(one: Trials, other: Trials) -> int:
    """How many pairs of utterances two lists have in common, whichever side the utterances are on.

    >>> names = np.array(["a", "b", "c"], dtype=object)
    >>> shared_pairs(Trials(names, np.array([0]), np.array([1])), Trials(names[::-1], np.array([1]), np.array([2])))
    1
    """
    place = {name: number for number, name in enumerate(one.names)}
    theirs = np.array([place.get(name, -1) for name in other.names], dtype=np.int64)
    first, second = theirs[other.enrolment], theirs[other.test]
    known = (first >= 0) & (second >= 0)
    own = _unordered(one.enrolment, one.test, len(one.names))
    return len(np.intersect1d(own, _unordered(first[known], second[known], len(one.names))))


def _unordered(first: NDArray[np.int64], second: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return np.unique(np.minimum(first, second) * n + np.maximum(first, second))


def linked_speakers(trials: Trials) -> list[str] | None:
    """What target trials say of speakers: utterances that they link, directly or through others, have one.

    For lists whose speakers are not known. Returns a name for each of trials.names; an utterance without a target trial
    is a speaker of its own. None where a non-target trial is of two utterances that target trials link: then labels are
    not about speakers.

    >>> trials = Trials(np.array(["a", "b", "c"], object), np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    >>> linked_speakers(trials)
    ['a', 'a', 'c']
    """
    labels, n = np.asarray(trials.labels), len(trials.names)
    linked = coo_array((np.ones(labels.sum()), (trials.enrolment[labels], trials.test[labels])), shape=(n, n))
    _, code = connected_components(linked, directed=False)
    if (code[trials.enrolment[~labels]] == code[trials.test[~labels]]).any():
        return None
    _, first = np.unique(code, return_index=True)
    return [str(trials.names[first[each]]) for each in code]


def contradicted(trials: Trials, speakers: Sequence[str]) -> bool:
    """Whether labels say that these are not the speakers: a target trial of two, or a non-target trial of one.

    speakers: of trials.names.
    """
    code = np.unique(np.asarray(speakers), return_inverse=True)[1]
    return bool((np.asarray(trials.labels) != (code[trials.enrolment] == code[trials.test])).any())
