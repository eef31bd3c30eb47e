"""Speaker verification trials: lists in every shape in circulation, scores, and what they amount to.

A trial is a pair of utterances, enrolment and test; a target trial has one speaker on both sides. Lists are told
apart by their content:

  1|0 enrol test                       VoxCeleb, CASE, TidyVoice dev
  enrol test target|nontarget          Kaldi, WeSpeaker, TidyVoice keys
  enrol test                           TidyVoice eval, unlabelled
  enrol test score [label]             score files

A line that fits none of them is an error with its number, never skipped.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.errors import DataError, Fault, shown_path
from earmark.metrics import detection
from earmark.metrics.resampling import Bootstrap, Estimate, multiplicities, summarise

FloatArray = NDArray[np.float64]
LABELS = {"1": True, "0": False, "target": True, "nontarget": False, "imposter": False, "impostor": False}
SNIFFED_LINES = 1000
CHUNK_LINES = 1_000_000
NO_INTERVAL = "one speaker or utterance cannot be resampled"


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


# --- reading ------------------------------------------------------------------------------------------------


def read_trials(path: Path) -> Trials:
    """A trial list or score file. DataError with every wrong line.

    Twelve million lines take about a gigabyte: utterance names are held once.
    """
    columns = _columns(path)
    reading = _Reading()
    try:
        chunks = pd.read_csv(
            path,
            sep=r"\s+",
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
        for chunk in chunks:
            reading.add(chunk)
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError({shown_path(path): _faults(path, columns) or [Fault(1, "", str(error))]}, _REMEDY) from error
    return reading.trials()


_REMEDY = (
    "Nothing was written. A line is `1|0 enrol test`, `enrol test target|nontarget`, `enrol test` or "
    "`enrol test score [label]`."
)


def _columns(path: Path) -> list[str]:
    """What the columns of a list are, by its first lines."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        rows = [line.split() for line, _ in zip(file, range(SNIFFED_LINES), strict=False) if line.strip()]
    if not rows:
        raise DataError({shown_path(path): [Fault(1, "", "the file holds no trials")]}, _REMEDY)
    widths = [len(row) for row in rows]
    width = max(set(widths), key=widths.count)
    typical = [row for row in rows if len(row) == width]
    if width == 2:
        return ["enrol", "test"]
    if width == 3 and _mostly(typical, 0, lambda cell: cell in ("0", "1")):
        return ["label", "enrol", "test"]
    if width == 3 and _mostly(typical, 2, lambda cell: cell in LABELS and not cell.isdigit()):
        return ["enrol", "test", "label"]
    if width in (3, 4) and _mostly(typical, 2, _is_number):
        return ["enrol", "test", "score", "label"][:width]
    raise DataError({shown_path(path): [Fault(1, "", f"'{' '.join(rows[0])}' is no trial")]}, _REMEDY)


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


def _label(name: str) -> bool:
    if name not in LABELS:
        raise ValueError(f"'{name}' is no label")
    return LABELS[name]


def _faults(path: Path, columns: list[str]) -> list[Fault]:
    """Every line that does not fit the columns; slow, for lists that are known to have such lines."""
    faults = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            cells = line.split()
            if len(cells) != len(columns):
                faults.append(Fault(number, "", f"has {len(cells)} values where the list has {len(columns)}"))
                continue
            for column, cell in zip(columns, cells, strict=True):
                if column == "label" and cell not in LABELS:
                    faults.append(Fault(number, "label", f"'{cell}' is not one of 1, 0, target, nontarget"))
                if column == "score" and not _is_number(cell):
                    faults.append(Fault(number, "score", f"'{cell}' is not a finite number"))
    return faults


def read_speakers(path: Path) -> dict[str, str]:
    """{utterance: speaker} of a map with one pair on each line."""
    pairs, faults = {}, []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            cells = line.split()
            if len(cells) != 2:
                faults.append(Fault(number, "", f"has {len(cells)} values; a line is `utterance speaker`"))
            else:
                pairs[cells[0]] = cells[1]
    if faults:
        raise DataError({shown_path(path): faults}, "Nothing was written.")
    return pairs


def speakers_of(names: Iterable[str], known: Mapping[str, str] | None = None) -> list[str] | None:
    """The speaker of every utterance: from a map, or the first folder of a path `spk/…`.

    None where some utterance has neither, so that speakers are not known.
    """
    if known is not None:
        found = [known.get(name) for name in names]
    else:
        found = [name.split("/", 1)[0] if "/" in name else None for name in names]
    return None if any(speaker is None for speaker in found) else [str(speaker) for speaker in found]


# --- scoring ------------------------------------------------------------------------------------------------


def cosine_scores(trials: Trials, embeddings: Mapping[str, FloatArray]) -> tuple[FloatArray, list[str]]:
    """The cosine of every trial, NaN where an utterance has no embedding; and those that have none.

    embeddings: {utterance: (d,)}. ValueError for a wrong dimension, a value that is not finite, or vectors that are
    all alike: a constant encoder separates nobody.
    """
    missing = [str(name) for name in trials.names if name not in embeddings]
    known = [embeddings[name] for name in trials.names if name in embeddings]
    if not known:
        return np.full(len(trials), np.nan), missing
    dimension = len(known[0])
    matrix = np.full((len(trials.names), dimension), np.nan)
    for row, name in enumerate(trials.names):
        if name in embeddings:
            vector = np.asarray(embeddings[name], dtype=float)
            if vector.shape != (dimension,):
                raise ValueError(f"{name}: the embedding has shape {vector.shape} where others have ({dimension},)")
            if not np.isfinite(vector).all():
                raise ValueError(f"{name}: the embedding is not finite")
            matrix[row] = vector
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise ValueError(f"{trials.names[int(np.argmin(lengths))]}: the embedding is all zeros")
    unit = matrix / lengths
    spread = np.nanmax(unit, axis=0) - np.nanmin(unit, axis=0)
    if len(known) > 1 and spread.max() < 1e-9:
        raise ValueError("all embeddings are alike; such an encoder separates nobody")
    scores = np.empty(len(trials))
    for start in range(0, len(trials), 1 << 16):
        part = slice(start, start + (1 << 16))
        scores[part] = np.einsum("nd,nd->n", unit[trials.enrolment[part]], unit[trials.test[part]])
    return scores, missing


# --- metrics ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verification:
    """What a labelled, scored list amounts to. metrics: estimates by name. threshold: at the EER on the hull."""

    metrics: dict[str, Estimate]
    counts: dict[str, int]
    threshold: float
    resampled: str


def evaluate(
    trials: Trials, speakers: list[str] | None, *, replicates: int, rng: np.random.Generator, p_target: float = 0.01
) -> Verification:
    """Every metric of `metrics.detection`, with intervals over speakers where they are known, else utterances.

    trials: labelled and scored. speakers: of trials.names. Raises ValueError without targets or non-targets.
    """
    if trials.labels is None or trials.scores is None:
        raise ValueError("metrics need labels and scores")
    curve = detection.roc(trials.scores, trials.labels)
    eer = detection.equal_error_rate(curve)
    values = {
        "eer": eer.rate,
        "eer_interpolated": detection.interpolated_equal_error_rate(curve).rate,
        "min_dcf": detection.min_dcf(curve, p_target).rate,
        "act_dcf": detection.actual_dcf(trials.scores, trials.labels, p_target).rate,
        "cllr": detection.cllr(trials.scores, trials.labels),
        "min_cllr": detection.min_cllr(trials.scores, trials.labels),
    }
    units = speakers if speakers is not None else list(map(str, trials.names))
    drawn = Bootstrap.of(units, 0, rng)
    found = np.empty((0, len(values)))
    if replicates and drawn.n_units > 1:
        sides = drawn.unit[trials.enrolment], drawn.unit[trials.test]
        weights = detection.pair_weights(multiplicities(drawn.n_units, replicates, rng), *sides)
        found = detection.SortedTrials.of(trials.scores, trials.labels).replicates(weights, p_target)
    metrics = {
        name: summarise(value, column, n=len(trials))
        for (name, value), column in zip(values.items(), found.T, strict=True)
    }
    metrics["eer_case"] = Estimate(detection.case_equal_error_rate(trials.scores, trials.labels).rate, n=len(trials))
    ordered = {name: metrics[name] for name in detection.METRICS}
    return Verification(ordered, _counts(trials, speakers), eer.threshold, "speakers" if speakers else "utterances")


def _counts(trials: Trials, speakers: list[str] | None) -> dict[str, int]:
    labels = trials.labels if trials.labels is not None else np.zeros(len(trials), dtype=bool)
    return {
        "n_trials": len(trials),
        "n_target": int(labels.sum()),
        "n_nontarget": int((~labels).sum()),
        "n_speakers": len(set(speakers)) if speakers is not None else 0,
        "n_self_trials": int(trials.is_self.sum()),
        "n_repeated_trials": int(trials.is_repeated.sum()),
    }
