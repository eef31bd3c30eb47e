"""Speaker verification trials and the speaker labels that they imply.

A trial is a pair of utterances, enrolment and test. In a target trial, both are of the same speaker; in a non-target
trial, they are of different speakers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from earmark.report.tables import csv_cell

FloatArray = NDArray[np.float64]
Positions = NDArray[np.integer[Any]]
CHUNK_LINES = 1_000_000  # lines of a list that are processed at a time


@dataclass(frozen=True)
class Trials:
    """A trial list.

    Attributes
    ----------
    names : (m,) object
        Unique utterance names.
    enrolment, test : (n,) int
        Positions of the two sides in `names`. Lists that are read from files have 32-bit integers: convert them to 64
        bits before multiplying.
    labels : (n,) bool or None
        True for target trials; None for an unlabelled list.
    scores : (n,) float or None
        Higher means more likely the same speaker, NaN where the score is missing; None for a list without scores.
    """

    names: NDArray[np.object_]
    enrolment: Positions
    test: Positions
    labels: NDArray[np.bool_] | None = None
    scores: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.enrolment)

    @property
    def is_self(self) -> NDArray[np.bool_]:
        """(n,) True for self-trials, which compare an utterance with itself."""
        return self.enrolment == self.test

    @cached_property
    def is_repeated(self) -> NDArray[np.bool_]:
        """(n,) True for trials that repeat an earlier trial."""
        pairs = np.empty(len(self), dtype=np.int64)
        for part in self.parts():
            pairs[part] = self._pairs(part)
        pairs.sort()  # faster than a hash table of all pairs, and without its memory
        twice = pd.Index(np.unique(pairs[1:][pairs[1:] == pairs[:-1]]))
        del pairs
        result = np.zeros(len(self), dtype=bool)
        if len(twice):
            found = [part.start + np.flatnonzero(twice.get_indexer(self._pairs(part)) >= 0) for part in self.parts()]
            rows = np.concatenate(found)
            result[rows] = pd.Series(self._pairs(rows)).duplicated().to_numpy()
        return result

    def parts(self) -> Iterator[slice]:
        """Yield the list as slices of at most `CHUNK_LINES` trials, for arrays that need not be held whole."""
        for start in range(0, len(self), CHUNK_LINES):
            yield slice(start, min(start + CHUNK_LINES, len(self)))

    def _pairs(self, part: slice | NDArray[np.int64], *, ordered: bool = True) -> NDArray[np.int64]:
        """A number for the pair of each of these trials; without `ordered`, the same for both orders of its sides."""
        first, second = self.enrolment[part], self.test[part]
        if not ordered:
            first, second = np.minimum(first, second), np.maximum(first, second)
        return first.astype(np.int64) * len(self.names) + second

    def conflicting_labels(self) -> tuple[str, str, int] | None:
        """Find pairs that are both a target and a non-target trial, in either order of the two utterances.

        Returns
        -------
        tuple of (str, str, int) or None
            The names of one such pair and the number of such pairs; None if there are none.
        """
        if self.labels is None or not len(self):
            return None
        # Sorting the few targets and looking the many non-targets up is ten times faster than sorting all.
        targets = pd.Index(np.unique(self._pairs(np.flatnonzero(self.labels), ordered=False)))
        found = []
        for part in self.parts():
            positions = targets.get_indexer(self._pairs(part, ordered=False)[~self.labels[part]])
            found.append(np.unique(positions[positions >= 0]))
        both = targets[np.unique(np.concatenate(found))]
        if not len(both):
            return None
        first, second = divmod(int(both[0]), len(self.names))
        return str(self.names[first]), str(self.names[second]), len(both)

    def take(self, mask: NDArray[np.bool_]) -> "Trials":
        """Select the trials where the (n,) mask is True; `names` stays complete."""
        if mask.all():
            return self
        return Trials(
            self.names,
            self.enrolment[mask],
            self.test[mask],
            None if self.labels is None else self.labels[mask],
            None if self.scores is None else self.scores[mask],
        )

    def compact(self) -> "Trials":
        """Drop the names that no trial uses."""
        used = np.zeros(len(self.names), dtype=bool)
        used[self.enrolment] = used[self.test] = True
        if used.all():
            return self
        position = (np.cumsum(used) - 1).astype(self.enrolment.dtype)
        return Trials(self.names[used], position[self.enrolment], position[self.test], self.labels, self.scores)

    def with_scores(self, scores: FloatArray) -> "Trials":
        """Replace the scores by these (n,) values."""
        return Trials(self.names, self.enrolment, self.test, self.labels, scores)

    def csv_parts(self) -> Iterator[str]:
        r"""Format the list as CSV, at most `CHUNK_LINES` rows at a time.

        Yields
        ------
        str
            First the header: enrol, test, and score and label if the list has them. Missing scores are empty cells.

        Examples
        --------
        >>> names = np.array(["a", "b,c"], dtype=object)
        >>> "".join(Trials(names, np.array([0]), np.array([1]), np.array([True]), np.array([0.5])).csv_parts())
        'enrol,test,score,label\na,"b,c",0.5,1\n'
        """
        columns = ["enrol", "test"]
        columns += ["score"] * (self.scores is not None) + ["label"] * (self.labels is not None)
        yield ",".join(columns) + "\n"
        # The cell of a name is formatted once, not once per trial.
        cells = np.array([csv_cell(str(name)) for name in self.names], dtype=object)
        for part in self.parts():
            rows = [cells[self.enrolment[part]].tolist(), cells[self.test[part]].tolist()]
            if self.scores is not None:
                scores = list(map(repr, self.scores[part].tolist()))
                for row in np.flatnonzero(np.isnan(self.scores[part])).tolist():
                    scores[row] = ""
                rows.append(scores)
            if self.labels is not None:
                rows.append(np.where(self.labels[part], "1", "0").tolist())
            yield _csv_text(rows)


def _csv_text(columns: Sequence[Sequence[str]]) -> str:
    """Join columns of cells to lines, without a string for each line."""
    n, width = len(columns[0]), 2 * len(columns)
    texts = [","] * (width * n)
    for place, cells in enumerate(columns):
        texts[2 * place :: width] = cells
    texts[width - 1 :: width] = ["\n"] * n
    return "".join(texts)


def speaker_from_path(name: str) -> str | None:
    """Speaker of a path `spk/…`: its first folder, or None for a path without a folder.

    Examples
    --------
    >>> speaker_from_path("ann/en/1.wav"), speaker_from_path("1.wav")
    ('ann', None)
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else None


def speakers_from_paths(names: Iterable[str]) -> list[str] | None:
    """Speaker of every path `spk/…`, or None if any path has no folder."""
    speakers = [speaker_from_path(name) for name in names]
    return None if None in speakers else [str(speaker) for speaker in speakers]


def language_from_path(name: str) -> str | None:
    """Language of a path `spk/lang/file`: the folder of the file; None for other paths.

    Examples
    --------
    >>> language_from_path("id0001/de/a.wav"), language_from_path("a.wav")
    ('de', None)
    """
    parts = name.split("/")
    return parts[-2] if len(parts) >= 3 and parts[-2] else None


def count_shared_pairs(first: Trials, second: Trials) -> int:
    """Count the pairs of utterances that are in both lists, in either order of the two utterances.

    Parameters
    ----------
    first, second : Trials
        Labels and scores are ignored.

    Examples
    --------
    >>> names = np.array(["a", "b", "c"], dtype=object)
    >>> first = Trials(names, np.array([0]), np.array([1]))
    >>> count_shared_pairs(first, Trials(names[::-1], np.array([1]), np.array([2])))
    1
    """
    position = {name: number for number, name in enumerate(first.names)}
    positions = np.array([position.get(name, -1) for name in second.names], dtype=np.int64)
    enrolment, test = positions[second.enrolment], positions[second.test]
    known = (enrolment >= 0) & (test >= 0)
    pairs = _unordered_pairs(first.enrolment, first.test, len(first.names))
    return len(np.intersect1d(pairs, _unordered_pairs(enrolment[known], test[known], len(first.names))))


def _unordered_pairs(first: Positions, second: Positions, n: int) -> NDArray[np.int64]:
    return np.unique(np.minimum(first, second).astype(np.int64) * n + np.maximum(first, second))


def linked_speakers(trials: Trials) -> list[str] | None:
    """Infer speakers from target trials: utterances linked by target trials, directly or through others, share one.

    An utterance without a target trial is a speaker of its own.

    Parameters
    ----------
    trials : Trials
        A labelled list.

    Returns
    -------
    list of str or None
        For each of `trials.names`, the first utterance of its speaker. None if target trials link the two utterances
        of a non-target trial: then the labels are inconsistent with any assignment of speakers.

    Examples
    --------
    >>> trials = Trials(np.array(["a", "b", "c"], object), np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    >>> linked_speakers(trials)
    ['a', 'a', 'c']
    """
    labels, code = np.asarray(trials.labels), linked_components(trials)
    if (code[trials.enrolment[~labels]] == code[trials.test[~labels]]).any():
        return None
    _, first = np.unique(code, return_index=True)
    return [str(trials.names[first[component]]) for component in code]


def linked_components(trials: Trials) -> NDArray[np.int64]:
    """Connected components of the utterances of a labelled list, where target trials are the edges.

    Parameters
    ----------
    trials : Trials
        A labelled list with m names.

    Returns
    -------
    (m,) int
        The component of each of `trials.names`.

    Examples
    --------
    >>> trials = Trials(np.array(["a", "b", "c"], object), np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    >>> linked_components(trials).tolist()
    [0, 0, 1]
    """
    labels, n = np.asarray(trials.labels), len(trials.names)
    linked = coo_array((np.ones(labels.sum()), (trials.enrolment[labels], trials.test[labels])), shape=(n, n))
    return np.asarray(connected_components(linked, directed=False)[1], dtype=np.int64)


def contradicting_trials(trials: Trials, speakers: Sequence[str]) -> NDArray[np.int64]:
    """Find the trials whose labels contradict the speakers: target trials of two speakers, non-target trials of one.

    Parameters
    ----------
    trials : Trials
        A labelled list.
    speakers : (m,) sequence of str
        The speaker of each of `trials.names`.

    Returns
    -------
    (k,) int
        Indices of these trials.
    """
    code = np.unique(np.asarray(speakers), return_inverse=True)[1]
    labels = np.asarray(trials.labels)
    found = [
        part.start + np.flatnonzero(labels[part] != (code[trials.enrolment[part]] == code[trials.test[part]]))
        for part in trials.parts()
    ]
    return np.concatenate([np.empty(0, np.int64), *found])
