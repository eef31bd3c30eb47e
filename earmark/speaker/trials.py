"""Speaker verification trials, and what they say of speakers.

A trial is a pair of utterances, enrolment and test; a target trial has one speaker on both sides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FloatArray = NDArray[np.float64]
CHUNK_LINES = 1_000_000  # of a list at a time


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

    def conflicting_labels(self) -> tuple[str, str, int] | None:
        """The names of a pair that is both a target and a non-target trial, either way round, and how many are."""
        if self.labels is None or not len(self):
            return None
        low, high = np.minimum(self.enrolment, self.test), np.maximum(self.enrolment, self.test)
        pair = low.astype(np.int64) * len(self.names) + high
        targets = pd.Index(np.unique(pair[self.labels]))  # the few are sorted and the many looked up: ten times faster
        place = targets.get_indexer(pair[~self.labels])
        both = targets[np.unique(place[place >= 0])]
        if not len(both):
            return None
        first, second = divmod(int(both[0]), len(self.names))
        return str(self.names[first]), str(self.names[second]), len(both)

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


def speaker_from_path(name: str) -> str | None:
    """The speaker that a path `spk/…` names: its first folder. None where it has none.

    >>> speaker_from_path("ann/en/1.wav"), speaker_from_path("1.wav")
    ('ann', None)
    """
    folder, slash, _ = name.partition("/")
    return folder if slash else None


def speakers_from_paths(names: Iterable[str]) -> list[str] | None:
    """The speaker of every utterance, by paths `spk/…`; None where some path names none."""
    found = [speaker_from_path(name) for name in names]
    return None if None in found else [str(speaker) for speaker in found]


def count_shared_pairs(one: Trials, other: Trials) -> int:
    """How many pairs of utterances two lists have in common, whichever side the utterances are on.

    >>> names = np.array(["a", "b", "c"], dtype=object)
    >>> one, other = Trials(names, np.array([0]), np.array([1])), Trials(names[::-1], np.array([1]), np.array([2]))
    >>> count_shared_pairs(one, other)
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
    labels, code = np.asarray(trials.labels), linked_components(trials)
    if (code[trials.enrolment[~labels]] == code[trials.test[~labels]]).any():
        return None
    _, first = np.unique(code, return_index=True)
    return [str(trials.names[first[each]]) for each in code]


def linked_components(trials: Trials) -> NDArray[np.int64]:
    """A number for each of trials.names, the same for utterances that target trials link, directly or through others.

    >>> trials = Trials(np.array(["a", "b", "c"], object), np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    >>> linked_components(trials).tolist()
    [0, 0, 1]
    """
    labels, n = np.asarray(trials.labels), len(trials.names)
    linked = coo_array((np.ones(labels.sum()), (trials.enrolment[labels], trials.test[labels])), shape=(n, n))
    return np.asarray(connected_components(linked, directed=False)[1], dtype=np.int64)


def contradicting_trials(trials: Trials, speakers: Sequence[str]) -> NDArray[np.int64]:
    """The trials whose labels say that these are not the speakers: target trials of two, non-target trials of one.

    speakers: of trials.names.
    """
    code = np.unique(np.asarray(speakers), return_inverse=True)[1]
    return np.flatnonzero(np.asarray(trials.labels) != (code[trials.enrolment] == code[trials.test]))
