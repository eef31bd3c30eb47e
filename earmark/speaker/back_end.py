"""Back end of speaker verification: from embeddings to scores.

  required_utterances, embedding_matrix   the utterances that a list needs, and their embeddings in one array
  subtract_mean                           optional: subtract the mean of other data
  pool_enrolments                         one row per name; the embeddings of an enrolment model are averaged
  cosine_scores                           one score per trial
  adaptive_s_norm                         optional: normalise the scores with a cohort of other speakers

An embedding matrix is (n, d) float64 with one row per utterance. The row of a missing embedding is NaN, and so are the
scores that depend on it; missing embeddings raise no error here, because the caller has their list.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earmark.models.encoders.base import SAME_EMBEDDING_TOLERANCE
from earmark.speaker.options import TOP_N
from earmark.speaker.trials import Trials

FloatArray = NDArray[np.float64]

CHUNK_VALUES = 1 << 21  # numbers that are processed at a time: 16 MB
MIN_DEVIATION = 1e-9  # standard deviations of cosines up to this are treated as zero


# --- embeddings ---------------------------------------------------------------------------------------------


def required_utterances(trials: Trials, models: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """List the utterances whose embeddings a trial list needs.

    Parameters
    ----------
    trials : Trials
        The list. An enrolment that is not in `models` is an utterance.
    models : mapping, optional
        {enrolment model: its utterances}, as `trial_files.read_enrolments` returns it.

    Returns
    -------
    list of str
        Unique names in the order of `trials.names`; an enrolment model is replaced by its utterances.

    Raises
    ------
    ValueError
        If a model is on the test side of a trial, where it could be confused with an utterance of that name.
    """
    models = models or {}
    as_test = next((str(name) for name in trials.names[np.unique(trials.test)] if name in models), None)
    if as_test is not None:
        raise ValueError(f"{as_test}: an enrolment model is on the test side of a trial")
    return list(dict.fromkeys(part for name in trials.names for part in models.get(name, [str(name)])))


def embedding_matrix(names: Iterable[str], embeddings: Mapping[str, ArrayLike]) -> tuple[FloatArray, list[str]]:
    """Stack embeddings in the order of `names`.

    Parameters
    ----------
    names : iterable of str
        Utterances, one per row of the result.
    embeddings : mapping
        {utterance: (d,) embedding}; utterances may be missing.

    Returns
    -------
    matrix : (n, d) float
        NaN rows for missing utterances; d is 1 if all are missing.
    missing : list of str
        The names without an embedding.

    Raises
    ------
    ValueError
        If an embedding has another dimension, is not finite or is all zeros, or if there are several embeddings and
        all have the same direction: then every score would be the same.

    Examples
    --------
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
            raise ValueError(f"{names[row]}: the embedding has shape {vector.shape}, expected {dimension}")
        if not np.isfinite(vector).all():
            raise ValueError(f"{names[row]}: the embedding is not finite")
        if not vector.any():
            raise ValueError(f"{names[row]}: the embedding is all zeros")
        matrix[row] = vector
    if len(rows) > 1 and _all_identical(matrix):
        raise ValueError("all embeddings are identical up to scale, so the encoder cannot separate speakers")
    return matrix, missing


def _all_identical(matrix: FloatArray) -> bool:
    """Whether all rows have the same direction: all unit vectors are within SAME_EMBEDDING_TOLERANCE of the first."""
    first: FloatArray | None = None
    for part in _chunks(len(matrix), matrix.shape[1]):
        unit = length_normalise(matrix[part])
        unit = unit[~np.isnan(unit[:, 0])]
        first = unit[0] if first is None and len(unit) else first
        if first is not None and (np.linalg.norm(unit - first, axis=1) > SAME_EMBEDDING_TOLERANCE).any():
            return False
    return True


def length_normalise(matrix: FloatArray) -> FloatArray:
    """Scale the rows to unit length.

    Parameters
    ----------
    matrix : (n, d) float
        NaN rows stay NaN.

    Returns
    -------
    (n, d) float

    Raises
    ------
    ValueError
        If a row is all zeros.

    Examples
    --------
    >>> length_normalise(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    # Dividing by the largest value first keeps the squares from overflow and underflow.
    largest = np.abs(matrix).max(axis=1, keepdims=True, initial=0)
    if (largest == 0).any():
        raise ValueError(f"row {int(np.argmin(largest))} is all zeros and has no direction")
    scaled = matrix / largest
    return scaled / np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]


def subtract_mean(matrix: FloatArray, mean: ArrayLike) -> FloatArray:
    """Subtract a mean embedding, before any length normalisation.

    Parameters
    ----------
    matrix : (n, d) float
        Embeddings.
    mean : (d,) array_like
        Mean of other data or of the cohort.

    Returns
    -------
    (n, d) float

    Raises
    ------
    ValueError
        If the mean has another dimension or is not finite.
    """
    m = np.asarray(mean, dtype=float)
    if m.shape != matrix.shape[1:]:
        raise ValueError(f"the mean has shape {m.shape}, but embeddings have {matrix.shape[1:]}")
    if not np.isfinite(m).all():
        raise ValueError("the mean is not finite")
    return matrix - m


def pool_enrolments(
    trials: Trials, models: Mapping[str, Sequence[str]] | None, utterances: Sequence[str], matrix: FloatArray
) -> FloatArray:
    """Embedding of each name of a list: that of its utterance, or the mean over the utterances of its enrolment model.

    The mean of a model is taken over length-normalised embeddings.

    Parameters
    ----------
    trials : Trials
        The list.
    models : mapping or None
        {enrolment model: its utterances}.
    utterances : (n,) sequence of str
        Utterances of the rows of `matrix`, as `required_utterances` returns them.
    matrix : (n, d) float
        Their embeddings, NaN where missing.

    Returns
    -------
    (m, d) float
        One row for each of `trials.names`. The row of a model is NaN if any of its utterances is missing.

    Raises
    ------
    ValueError
        If the embeddings of a model sum to zero.
    """
    models = models or {}
    row = {name: i for i, name in enumerate(utterances)}
    pooled = np.empty((len(trials.names), matrix.shape[1]))
    for i, name in enumerate(trials.names):
        parts = [row[part] for part in models.get(name, [name])]
        pooled[i] = length_normalise(matrix[parts]).mean(axis=0) if name in models else matrix[parts[0]]
        if not pooled[i].any():
            raise ValueError(f"{name}: the embeddings of its utterances sum to zero")
    return pooled


# --- scores -------------------------------------------------------------------------------------------------


def cosine_scores(trials: Trials, matrix: FloatArray) -> FloatArray:
    """Cosine similarity of each trial.

    Memory use is bounded: the result, one copy of `matrix` and a chunk of trials.

    Parameters
    ----------
    trials : Trials
        The list; n trials.
    matrix : (m, d) float
        One embedding for each of `trials.names`, NaN where missing.

    Returns
    -------
    (n,) float
        In [−1, 1]; NaN where an embedding is missing.

    Raises
    ------
    ValueError
        If an embedding is all zeros.

    Examples
    --------
    >>> trials = Trials(np.array(["a", "b"], dtype=object), np.array([0, 0]), np.array([0, 1]))
    >>> cosine_scores(trials, np.array([[3.0, 4.0], [2.0, 0.0]])).round(6).tolist()
    [1.0, 0.6]
    """
    unit = length_normalise(matrix)
    scores = np.empty(len(trials))
    for part in _chunks(len(trials), matrix.shape[1]):
        np.einsum("nd,nd->n", unit[trials.enrolment[part]], unit[trials.test[part]], out=scores[part])
    return scores


def speaker_means(matrix: FloatArray, speakers: Sequence[str]) -> tuple[FloatArray, list[str]]:
    """Mean of the length-normalised embeddings of each speaker.

    Parameters
    ----------
    matrix : (n, d) float
        Embeddings; NaN rows are ignored.
    speakers : (n,) sequence of str
        The speaker of each row.

    Returns
    -------
    means : (k, d) float
    names : list of str
        The k speakers with at least one embedding, sorted.

    Raises
    ------
    ValueError
        If there is not one speaker per row.

    Examples
    --------
    >>> means, names = speaker_means(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]]), ["a", "a", "b"])
    >>> means.tolist(), names
    ([[0.5, 0.5], [0.0, 1.0]], ['a', 'b'])
    """
    if len(speakers) != len(matrix):
        raise ValueError(f"{len(speakers):,} speakers for {len(matrix):,} embeddings")
    known = ~np.isnan(matrix).any(axis=1)
    names, code = np.unique(np.asarray(speakers, dtype=object)[known].astype(str), return_inverse=True)
    sums = np.zeros((len(names), matrix.shape[1]))
    np.add.at(sums, code, length_normalise(matrix[known]))
    return sums / np.bincount(code, minlength=len(names))[:, None], names.tolist()


def adaptive_s_norm(
    trials: Trials, scores: FloatArray, matrix: FloatArray, cohort: FloatArray, top_n: int = TOP_N
) -> FloatArray:
    """Adaptive symmetric score normalisation (AS-norm): ½ [(s − μ_e) / σ_e + (s − μ_t) / σ_t].

    For the enrolment side e and the test side t, μ and σ are the mean and the population standard deviation of the
    `top_n` highest cosines between that side's embedding and the cohort.

    Parameters
    ----------
    trials : Trials
        The list; n trials.
    scores : (n,) float
        Cosines of the trials.
    matrix : (m, d) float
        One embedding for each of `trials.names`, NaN where missing.
    cohort : (k, d) float
        Mean embeddings of cohort speakers, as `speaker_means` returns them, after the same mean subtraction as
        `matrix`.
    top_n : int
        Number of cohort speakers per side, from 2 to k.

    Returns
    -------
    (n,) float
        NaN where an embedding or the score is missing.

    Raises
    ------
    ValueError
        If `top_n` is out of range, the cohort has missing rows or another dimension, or the highest cosines of an
        utterance are all equal, so that σ is zero.

    References
    ----------
    Matějka et al. (2017), Analysis of score normalization in multilingual speaker recognition, Interspeech,
    section 3: adaptive S-norm in which each side selects its own cohort.
    """
    if not 2 <= top_n <= len(cohort):
        raise ValueError(f"top_n is {top_n}; it must be from 2 to {len(cohort):,}, the number of cohort speakers")
    if np.isnan(cohort).any() or cohort.shape[1] != matrix.shape[1]:
        raise ValueError(
            f"the cohort of shape {cohort.shape} has missing rows or a dimension other than {matrix.shape[1]}"
        )
    unit, others = length_normalise(matrix), length_normalise(cohort).T.copy()
    mean, deviation = np.empty(len(unit)), np.empty(len(unit))
    for part in _chunks(len(unit), len(cohort)):
        cosines = unit[part] @ others
        cosines.partition(len(cohort) - top_n, axis=1)
        top = cosines[:, len(cohort) - top_n :]
        mean[part], deviation[part] = top.mean(axis=1), top.std(axis=1)
    if (deviation <= MIN_DEVIATION).any():
        name = trials.names[int(np.argmax(deviation <= MIN_DEVIATION))]
        raise ValueError(f"{name}: its {top_n} highest cosines with the cohort are all equal")
    normalised = np.empty(len(trials))
    for part in _chunks(len(trials), 1):
        sides = trials.enrolment[part], trials.test[part]
        normalised[part] = sum((scores[part] - mean[side]) / deviation[side] for side in sides) / 2
    return normalised


def shared_speakers(trial_speakers: Iterable[str], cohort_speakers: Iterable[str]) -> list[str]:
    """Sorted list of the speakers that are both in the trials and in the cohort.

    AS-norm lowers the scores of such speakers, because the cohort contains their own voice.

    Examples
    --------
    >>> shared_speakers(["ann", "ben", "ann"], ["cara", "ann"])
    ['ann']
    """
    return sorted(set(trial_speakers) & set(cohort_speakers))


def find_cohort_speakers(
    names: Iterable[str], speakers: Sequence[str] | None, cohort: Mapping[str, str]
) -> list[str] | None:
    """Find the cohort speakers that are also in the trials, by speaker name or by a shared utterance.

    Parameters
    ----------
    names : iterable of str
        Utterances of the trials.
    speakers : sequence of str or None
        Speakers of `names`; None if unknown.
    cohort : mapping
        {cohort utterance: its speaker}.

    Returns
    -------
    list of str or None
        Cohort speakers, sorted. None if the speakers of the trials are unknown and no utterance is shared, so that
        the answer is unknown.

    Examples
    --------
    >>> find_cohort_speakers(["a/1", "b/1", "c/1"], ["ann", "ben", "cem"], {"a/1": "A", "x": "ben", "y": "dan"})
    ['A', 'ben']
    >>> find_cohort_speakers(["a/1", "b/1"], None, {"x": "ann"}) is None
    True
    """
    by_utterance = {cohort[name] for name in names if name in cohort}
    if speakers is None:
        return sorted(by_utterance) or None
    return sorted(by_utterance | set(shared_speakers(speakers, cohort.values())))


def _chunks(n: int, values_per_row: int) -> list[slice]:
    """Slices of n rows with about CHUNK_VALUES numbers in each."""
    rows = max(1, CHUNK_VALUES // max(values_per_row, 1))
    return [slice(start, start + rows) for start in range(0, n, rows)]
