"""The back end of speaker verification: from embeddings to scores.

  utterances, matrix   which utterances a list needs, and their embeddings in one array
  centred              optional: less the mean of some other data
  pool_enrolments           one row for each name of the list; a model of several utterances becomes their mean
  cosine_scores        one score for each trial
  adaptive_s_norm      optional: scores relative to those against a cohort of other speakers

matrix: (n, d) float64, a row for each utterance, NaN where its embedding is missing; what depends on such a row is
NaN too, never an error, for the caller has the list of those missing.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.models.encoders.base import SAME_EMBEDDING_TOLERANCE
from earmark.speaker.options import TOP_N
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]

CHUNK_VALUES = 1 << 21  # numbers worked on at once: 16 MB
FLAT = 1e-9  # cosines that spread less than this are one and the same


# --- embeddings ---------------------------------------------------------------------------------------------


def required_utterances(trials: Trials, models: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """The utterances whose embeddings a list needs, each once: its names, or those that its models are made of.

    models: {model: utterances}, as `trial_files.read_enrolments` reads them. Enrolments that are no model stand for
    themselves. ValueError for a model on the test side, where it would hide an utterance of that name.
    """
    models = models or {}
    as_test = next((str(name) for name in trials.names[np.unique(trials.test)] if name in models), None)
    if as_test is not None:
        raise ValueError(f"{as_test}: a model for enrolment stands on the test side of a trial")
    return list(dict.fromkeys(part for name in trials.names for part in models.get(name, [str(name)])))


def embedding_matrix(names: Iterable[str], embeddings: Mapping[str, ArrayLike]) -> tuple[FloatArray, list[str]]:
    """Embeddings in the order of names, (n, d), and the names that have none; their rows are NaN.

    embeddings: {utterance: (d,)}; without any, d is 1. ValueError names the utterance of a wrong dimension, a number
    that is not finite, or only zeros. Two or more embeddings that all point the same way are a ValueError: such an
    encoder separates nobody, and its error rates would mean nothing.

    >>> matrix, missing = embedding_matrix(["a", "b", "c"], {"a": [3.0, 4.0], "b": [0.0, 1.0]})
    >>> matrix.tolist(), missing
    ([[3.0, 4.0], [0.0, 1.0], [nan, nan]], ['c'])
    """
    names = list(map(str, names))
    missing = [name for name in names if name not in embeddings]
    rows = [row for row, name in enumerate(names) if name in embeddings]
    if not rows:
        return np.full((len(names), 1), np.nan), missing
    dimension = np.shape(embeddings[names[rows[0]]])[-1:]
    matrix = np.full((len(names), *dimension), np.nan)
    for row in rows:
        vector = np.asarray(embeddings[names[row]], dtype=float)
        if vector.shape != dimension or not dimension:
            raise ValueError(f"{names[row]}: the embedding has shape {vector.shape} where {dimension} is expected")
        if not np.isfinite(vector).all():
            raise ValueError(f"{names[row]}: the embedding is not finite")
        if not vector.any():
            raise ValueError(f"{names[row]}: the embedding is all zeros")
        matrix[row] = vector
    if len(rows) > 1 and _alike(matrix):
        raise ValueError("all embeddings are alike; such an encoder separates nobody")
    return matrix, missing


def _alike(matrix: FloatArray) -> bool:
    """Whether all rows point the same way: no unit vector is further than SAME from the first."""
    first: FloatArray | None = None
    for part in _parts(len(matrix), matrix.shape[1]):
        unit = length_normalise(matrix[part])
        unit = unit[~np.isnan(unit[:, 0])]
        first = unit[0] if first is None and len(unit) else first
        if first is not None and (np.linalg.norm(unit - first, axis=1) > SAME_EMBEDDING_TOLERANCE).any():
            return False
    return True


def length_normalise(matrix: FloatArray) -> FloatArray:
    """Rows scaled to length 1; NaN rows stay NaN. ValueError for a row of zeros, which points nowhere.

    >>> length_normalise(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    # Relative to the largest number first, so that squares neither overflow nor vanish.
    largest = np.abs(matrix).max(axis=1, keepdims=True, initial=0)
    if (largest == 0).any():
        raise ValueError(f"row {int(np.argmin(largest))} is all zeros and has no direction")
    scaled = matrix / largest
    return scaled / np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]


def subtract_mean(matrix: FloatArray, mean: ArrayLike) -> FloatArray:
    """Embeddings less a mean, (d,), of other data or of the cohort; before any length normalisation.

    ValueError for a mean of another dimension or with numbers that are not finite.
    """
    m = np.asarray(mean, dtype=float)
    if m.shape != matrix.shape[1:]:
        raise ValueError(f"the mean has shape {m.shape} where embeddings have {matrix.shape[1:]}")
    if not np.isfinite(m).all():
        raise ValueError("the mean is not finite")
    return matrix - m


def pool_enrolments(
    trials: Trials, models: Mapping[str, Sequence[str]] | None, utterances: Sequence[str], matrix: FloatArray
) -> FloatArray:
    """A row for each of trials.names: its utterance's, or its model's, the mean of length-normalised embeddings.

    utterances: names of the rows of matrix, as `required_utterances` gives them. A model that lacks one of its
    utterances is NaN, not a mean of fewer. ValueError for a model whose embeddings cancel out.
    """
    models = models or {}
    row = {name: i for i, name in enumerate(utterances)}
    of_names = np.empty((len(trials.names), matrix.shape[1]))
    for i, name in enumerate(trials.names):
        parts = [row[part] for part in models.get(name, [name])]
        of_names[i] = length_normalise(matrix[parts]).mean(axis=0) if name in models else matrix[parts[0]]
        if not of_names[i].any():
            raise ValueError(f"{name}: the embeddings of its utterances cancel out")
    return of_names


# --- scores -------------------------------------------------------------------------------------------------


def cosine_scores(trials: Trials, matrix: FloatArray) -> FloatArray:
    """The cosine of every trial, (n,) in [−1, 1]; NaN where a side is missing.

    matrix: a row for each of trials.names. Memory beyond the result and one copy of matrix is bounded.

    >>> trials = Trials(np.array(["a", "b"], dtype=object), np.array([0, 0]), np.array([0, 1]))
    >>> cosine_scores(trials, np.array([[3.0, 4.0], [2.0, 0.0]])).round(6).tolist()
    [1.0, 0.6]
    """
    unit = length_normalise(matrix)
    scores = np.empty(len(trials))
    for part in _parts(len(trials), matrix.shape[1]):
        np.einsum("nd,nd->n", unit[trials.enrolment[part]], unit[trials.test[part]], out=scores[part])
    return scores


def speaker_means(matrix: FloatArray, speakers: Sequence[str]) -> tuple[FloatArray, list[str]]:
    """The mean of each speaker's length-normalised embeddings, (k, d), and the k speakers, sorted.

    speakers: of the rows. Missing rows are left out; so is a speaker without any other.

    >>> means, who = speaker_means(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), ["a", "a", "b"])
    >>> means.tolist(), who
    ([[0.5, 0.5], [0.0, 1.0]], ['a', 'b'])
    """
    if len(speakers) != len(matrix):
        raise ValueError(f"{len(speakers):,} speakers for {len(matrix):,} embeddings")
    known = ~np.isnan(matrix).any(axis=1)
    who, code = np.unique(np.asarray(speakers, dtype=object)[known].astype(str), return_inverse=True)
    sums = np.zeros((len(who), matrix.shape[1]))
    np.add.at(sums, code, length_normalise(matrix[known]))
    return sums / np.bincount(code, minlength=len(who))[:, None], who.tolist()


def adaptive_s_norm(
    trials: Trials, scores: FloatArray, matrix: FloatArray, cohort: FloatArray, top_n: int = TOP_N
) -> FloatArray:
    """Adaptive symmetric normalisation: ½ [(s − μ_e) / σ_e + (s − μ_t) / σ_t], (n,).

    μ and σ (population) are of the top_n highest cosines between a side's embedding and the cohort; they are computed
    once for each utterance, in chunks. NaN where a side or the score is missing.

    scores: (n,) cosines of the trials. matrix: a row for each of trials.names. cohort: (k, d) means of speakers, as
    `speaker_means` makes them, treated (centred) as matrix is, without missing rows.
    ValueError for top_n below 2, or above k: a smaller cohort than asked for is the caller's decision, so that what
    is reported is what was done; and for an utterance whose top cosines are all the same, which has no σ.
    Source: Matějka et al. (2017), Analysis of score normalization in multilingual speaker recognition, Interspeech,
    section 3 (adaptive S-norm, each side with its own cohort).
    """
    if not 2 <= top_n <= len(cohort):
        raise ValueError(
            f"top_n is {top_n}, and the cohort has {len(cohort):,} speakers; it takes from 2 to all of them"
        )
    if np.isnan(cohort).any() or cohort.shape[1] != matrix.shape[1]:
        raise ValueError(f"the cohort {cohort.shape} has missing rows, or not the {matrix.shape[1]} dimensions")
    unit, others = length_normalise(matrix), length_normalise(cohort).T.copy()
    mean, deviation = np.empty(len(unit)), np.empty(len(unit))
    for part in _parts(len(unit), len(cohort)):
        cosines = unit[part] @ others
        cosines.partition(len(cohort) - top_n, axis=1)
        top = cosines[:, len(cohort) - top_n :]
        mean[part], deviation[part] = top.mean(axis=1), top.std(axis=1)
    if (deviation <= FLAT).any():
        name = trials.names[int(np.argmax(deviation <= FLAT))]
        raise ValueError(f"{name}: its {top_n} highest cosines with the cohort are all the same")
    normalised = np.empty(len(trials))
    for part in _parts(len(trials), 1):
        sides = trials.enrolment[part], trials.test[part]
        normalised[part] = sum((scores[part] - mean[side]) / deviation[side] for side in sides) / 2
    return normalised


def shared_speakers(trial_speakers: Iterable[str], cohort_speakers: Iterable[str]) -> list[str]:
    """Speakers who are in both, sorted. One of them in the cohort makes his own scores look ordinary.

    >>> shared_speakers(["ann", "ben", "ann"], ["cara", "ann"])
    ['ann']
    """
    return sorted(set(trial_speakers) & set(cohort_speakers))


def find_cohort_speakers(
    names: Iterable[str], speakers: Sequence[str] | None, cohort: Mapping[str, str]
) -> list[str] | None:
    """The cohort's speakers who are in the trials too: by name, and by an utterance that is in both.

    names: of the trials' utterances. speakers: of the names; None where not known. cohort: {utterance: speaker}. None
    where no utterance is in both and the trials' speakers are not known, so that nobody can tell.

    >>> find_cohort_speakers(["a/1", "b/1", "c/1"], ["ann", "ben", "cem"], {"a/1": "A", "x": "ben", "y": "dan"})
    ['A', 'ben']
    >>> find_cohort_speakers(["a/1", "b/1"], None, {"x": "ann"}) is None
    True
    """
    by_utterance = {cohort[name] for name in names if name in cohort}
    if speakers is None:
        return sorted(by_utterance) or None
    return sorted(by_utterance | set(shared_speakers(speakers, cohort.values())))


def _parts(n: int, values_each: int) -> list[slice]:
    """Slices of n rows with about CHUNK_VALUES numbers in each."""
    rows = max(1, CHUNK_VALUES // max(values_each, 1))
    return [slice(start, start + rows) for start in range(0, n, rows)]
