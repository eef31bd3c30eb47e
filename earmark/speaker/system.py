"""Systems that score trials: an encoder with a back end, or a score file."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from earmark.audio.decode import SUFFIXES
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.metrics.calibration import LinearCalibration
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.speaker.back_end import (
    FloatArray,
    adaptive_s_norm,
    cosine_scores,
    embedding_matrix,
    pool_enrolments,
    required_utterances,
    speaker_means,
    subtract_mean,
)
from earmark.speaker.options import COHORT_MEAN, NO_MEAN, TOP_N, BackEndOptions
from earmark.speaker.schema import BackEndSummary, Calibration
from earmark.speaker.trial_files import read_scores
from earmark.speaker.trials import Trials

EmbeddedFiles = Iterable[tuple[Path, Embedding]]
TrackProgress = Callable[[EmbeddedFiles, int], EmbeddedFiles]
MAX_SHOWN = 20  # names of a list in a message
FIRST_SCORES = 1000  # scores that are checked before all are
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of utterances.

    Attributes
    ----------
    vectors : dict
        {utterance: (d,) embedding}.
    missing : list of str
        The other utterances, each with the reason in parentheses.
    """

    vectors: dict[str, ArrayLike]
    missing: list[str]


@dataclass(frozen=True)
class Scores:
    """Scores of a trial list.

    Attributes
    ----------
    values : (n,) float
        One score per trial, NaN where missing.
    missing : list of str
        The utterances or trials without which scores are missing.
    notes : tuple of str
        Warnings for the user.
    """

    values: FloatArray
    missing: list[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cohort:
    """Utterances of other speakers, for mean subtraction and AS-norm.

    Attributes
    ----------
    vectors : mapping
        {utterance: (d,) embedding}.
    speakers : mapping
        {utterance: speaker}.
    """

    vectors: Mapping[str, ArrayLike]
    speakers: Mapping[str, str]


@dataclass(frozen=True)
class BackEnd:
    """Computes scores from embeddings. By default, the score is the cosine of the two embeddings.

    Attributes
    ----------
    models : mapping
        {enrolment model: utterances whose embeddings are averaged}.
    mean : (d,) float or None
        Subtracted from every embedding.
    cohort : (k, d) float or None
        Mean embeddings of cohort speakers after mean subtraction, for AS-norm.
    top_n : int
        Number of most similar cohort speakers that AS-norm uses.
    """

    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mean: FloatArray | None = None
    cohort: FloatArray | None = None
    top_n: int = TOP_N

    @classmethod
    def from_options(
        cls, models: Mapping[str, Sequence[str]], mean: str, cohort: Cohort | None, top_n: int = TOP_N
    ) -> "BackEnd":
        """Build a back end from the options of a command.

        Parameters
        ----------
        models : mapping
            {enrolment model: its utterances}.
        mean : str
            none, cohort, or the path of a .npy file.
        cohort : Cohort or None
        top_n : int
            Limited to the number of cohort speakers.

        Raises
        ------
        MissingError
            If the mean of a cohort is requested without a cohort, or the file of the mean does not exist.
        EarmarkError
            If the file is not a .npy file of one vector.
        ValueError
            If the mean has another dimension or cohort embeddings are invalid.
        """
        mean_vector = None
        if mean == COHORT_MEAN and cohort is None:
            raise MissingError("--subtract-mean cohort needs --cohort FILE, a file of `utterance speaker` lines.")
        if mean not in (NO_MEAN, COHORT_MEAN):
            mean_vector = read_mean(Path(mean))
        if cohort is None:
            return cls(models, mean_vector, None, top_n)
        matrix, _ = embedding_matrix(list(cohort.vectors), cohort.vectors)
        if mean == COHORT_MEAN:
            mean_vector = matrix.mean(axis=0)
        if mean_vector is not None:
            matrix = subtract_mean(matrix, mean_vector)
        means, _ = speaker_means(matrix, [cohort.speakers[name] for name in cohort.vectors])
        return cls(models, mean_vector, means, min(top_n, len(means)))

    def scores(self, trials: Trials, vectors: Mapping[str, ArrayLike]) -> FloatArray:
        """Score trials.

        Parameters
        ----------
        trials : Trials
            The list; n trials.
        vectors : mapping
            {utterance: (d,) embedding}; utterances may be missing.

        Returns
        -------
        (n,) float
            NaN where an embedding is missing.

        Raises
        ------
        ValueError
            If an embedding is invalid (see `back_end.embedding_matrix`) or AS-norm is undefined.
        """
        utterances = required_utterances(trials, self.models)
        matrix, missing = embedding_matrix(utterances, vectors)
        if len(missing) == len(utterances):
            return np.full(len(trials), np.nan)
        if self.mean is not None:
            matrix = subtract_mean(matrix, self.mean)
        rows = pool_enrolments(trials, self.models, utterances, matrix)
        scores = cosine_scores(trials, rows)
        if self.cohort is not None:
            scores = adaptive_s_norm(trials, scores, rows, self.cohort, self.top_n)
        return scores

    def description(self, mean: str) -> dict[str, Any]:
        """Settings for summary.json; `mean` is the value of --subtract-mean."""
        cohort = None if self.cohort is None else len(self.cohort)
        return {
            "scores": "cosine" if cohort is None else "AS-norm of cosines",
            "mean": mean if mean in (NO_MEAN, COHORT_MEAN) else Path(mean).name,
            "cohort_speakers": cohort,
            "top_n": None if cohort is None else self.top_n,
            "enrolment_models": len(self.models),
        }


@dataclass(frozen=True)
class System:
    """Scores trials with an encoder and a back end, or reads scores from a file.

    Without an encoder and a score file, the scores of the list itself are used.

    Attributes
    ----------
    encoder : Encoder or PrecomputedEmbeddings or None
    score_file : Path or None
    embedding_cache : EmbeddingCache or None
        Required with an encoder.
    batch_size : int
        Clips per batch.
    track_progress : callable
        Wraps the iterator over new embeddings, given their number; for a progress bar.
    back_end : BackEnd
    calibration : LinearCalibration or None
        Converts scores into log-likelihood ratios.
    calibration_pairs_in_trials : int
        Number of pairs of the calibration list that are also evaluated.
    """

    encoder: Encoder | PrecomputedEmbeddings | None = None
    score_file: Path | None = None
    embedding_cache: EmbeddingCache | None = None
    batch_size: int = 16
    track_progress: TrackProgress = lambda embedded, total: embedded
    back_end: BackEnd = BackEnd()
    calibration: LinearCalibration | None = None
    calibration_pairs_in_trials: int = 0

    @property
    def device(self) -> str:
        """Device of the encoder, such as cuda; cpu without an encoder."""
        return str(self.encoder.description.get("device", "cpu")) if self.encoder is not None else "cpu"

    def summary(self, options: BackEndOptions, cohort_speakers_in_trials: int | None) -> BackEndSummary:
        """Describe how scores are computed, for summary.json."""
        described: dict[str, Any] = {"scores": "given"}
        if self.encoder is not None:
            described = self.back_end.description(options.subtract_mean)
        if options.cohort_embeddings:
            described["cohort_embeddings"] = options.cohort_embeddings.name
        if self.calibration_pairs_in_trials:
            described["calibration_pairs_in_trials"] = self.calibration_pairs_in_trials
        return BackEndSummary(
            **described,
            calibration=Calibration.from_fit(self.calibration),
            cohort_speakers_in_trials=cohort_speakers_in_trials,
        )

    def missing_utterances(self, names: Iterable[str], root: Path) -> list[str]:
        """Find utterances without an audio file or precomputed embedding.

        The check opens no audio file, so it is fast; unreadable files are found when they are embedded.

        Parameters
        ----------
        names : iterable of str
            Utterances.
        root : Path
            Folder of the audio.

        Returns
        -------
        list of str
            Missing utterances, each with the reason in parentheses; empty for a system without an encoder.
        """
        if self.encoder is None:
            return []
        missing = []
        for name in names:
            path = audio_path(root, name)
            if isinstance(self.encoder, PrecomputedEmbeddings):
                known = name in self.encoder.rows or any(
                    embedding.vector is not None for _, embedding in self.encoder.embed_paths([path], root)
                )
                reason = f"not among the {len(self.encoder.rows):,} ids of {self.encoder.name}"
            else:
                known, reason = path.exists(), "not found"
            if not known:
                missing.append(f"{name} ({reason})")
        return missing

    def embeddings(self, names: Iterable[str], root: Path) -> Embeddings:
        """Embed utterances, using the embedding cache.

        Parameters
        ----------
        names : iterable of str
            Utterances; several names may refer to one file.
        root : Path
            Folder of the audio.

        Returns
        -------
        Embeddings
            Utterances that cannot be embedded are in `missing`, with the reason.
        """
        assert self.encoder is not None and self.embedding_cache is not None
        names_of_file: dict[Path, list[str]] = {}
        for name in names:
            names_of_file.setdefault(audio_path(root, name), []).append(name)
        files = list(names_of_file)
        embedded = self.embedding_cache.embed(self.encoder, files, batch_size=self.batch_size, audio_root=root)
        vectors: dict[str, ArrayLike] = {}
        missing = []
        for path, embedding in self.track_progress(embedded, len(files)):
            for name in names_of_file[path]:
                if embedding.vector is None:
                    missing.append(f"{name} ({embedding.error.removeprefix(f'{path.name}: ')})")
                else:
                    vectors[name] = embedding.vector
        return Embeddings(vectors, missing)

    def scores(self, trials: Trials, root: Path) -> Scores:
        """Score a trial list.

        Parameters
        ----------
        trials : Trials
            The list.
        root : Path
            Folder of the audio.

        Returns
        -------
        Scores
            After calibration, if there is one.

        Raises
        ------
        MissingError
            If there are no scores and no encoder.
        EarmarkError
            If the score file is invalid.
        ValueError
            If embeddings are invalid.
        """
        if self.encoder is not None:
            embedded = self.embeddings(required_utterances(trials, self.back_end.models), root)
            scores = Scores(self.back_end.scores(trials, embedded.vectors), embedded.missing)
        elif self.score_file is not None:
            scores = scores_from_file(trials, self.score_file)
        elif trials.scores is not None:
            scores = Scores(trials.scores, [], binary_score_notes(trials.scores, "the list"))
        else:
            raise MissingError("The list contains no scores. Use --encoder SPEC, --embeddings FILE or --scores FILE.")
        return scores if self.calibration is None else replace(scores, values=self.calibration(scores.values))


@contextmanager
def prefixed_errors(source: str) -> Iterator[None]:
    """Convert a ValueError in the `with` block into an EarmarkError whose message starts with the source of the data.

    Examples
    --------
    >>> with prefixed_errors("list.txt"):
    ...     raise ValueError("no target trials")
    Traceback (most recent call last):
    earmark.errors.EarmarkError: list.txt: no target trials
    """
    try:
        yield
    except ValueError as error:
        raise EarmarkError(f"{source}: {error}") from error


@dataclass(frozen=True)
class MissingInputs:
    """Missing utterances or scores of a list.

    Attributes
    ----------
    names : sequence of str
        The missing utterances or trials, with reasons.
    needed_by : Path
        The list.
    root : Path or None
        Folder of the audio, if audio files may be missing.
    allowed : bool or None
        The flag --allow-missing; None if it does not apply to the list.
    """

    names: Sequence[str]
    needed_by: Path
    root: Path | None = None
    allowed: bool | None = None


def require_complete(
    missing: Sequence[str], needed_by: Path, *, root: Path | None = None, allowed: bool | None = None
) -> None:
    """Raise EarmarkError if inputs of one list are missing and not allowed to be; parameters as in `MissingInputs`."""
    require_all_complete([MissingInputs(missing, needed_by, root, allowed)])


def require_all_complete(lists: Sequence[MissingInputs]) -> None:
    """Raise EarmarkError with the missing inputs of all lists, except lists for which they are allowed."""
    incomplete = [inputs for inputs in lists if inputs.names and not inputs.allowed]
    if not incomplete:
        return
    lines = []
    shown = max(MAX_SHOWN // len(incomplete), 3)
    for inputs in incomplete:
        n = len(inputs.names)
        lines.append(f"{shown_path(inputs.needed_by)}: {n:,} missing:")
        lines += [f"  {name}" for name in inputs.names[:shown]]
        lines += [f"  and {n - shown:,} more"] if n > shown else []
    roots = dict.fromkeys(shown_path(inputs.root) for inputs in incomplete if inputs.root is not None)
    if roots:
        lines.append(f"Paths are relative to {'/, '.join(roots)}/; use --audio-root DIR to change that.")
    if any(inputs.allowed is not None for inputs in incomplete):
        lines.append("Use --allow-missing to exclude the trials that need them.")
    raise EarmarkError("\n".join(lines))


def read_mean(path: Path) -> FloatArray:
    """Read a mean embedding.

    Parameters
    ----------
    path : Path
        A .npy file of one vector, of shape (d,) or with further axes of length 1.

    Returns
    -------
    (d,) float

    Raises
    ------
    MissingError
        If the file does not exist.
    EarmarkError
        If it is not a .npy file of one vector.
    """
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} does not exist. --subtract-mean accepts none, cohort or a .npy file.")
    try:
        mean = np.load(path, allow_pickle=False)
        return (
            np.asarray(mean, dtype=float).reshape(-1)
            if mean.size == max(mean.shape, default=0)
            else _reject_several_vectors(path)
        )
    except (ValueError, OSError, EOFError, AttributeError) as error:
        raise EarmarkError(f"{shown_path(path)}: not a .npy file of one vector ({error}).") from error


def _reject_several_vectors(path: Path) -> FloatArray:
    raise EarmarkError(f"{shown_path(path)}: contains more than one vector. The mean is a single vector.")


def audio_path(root: Path, name: str) -> Path:
    """Path of the audio of an utterance.

    Parameters
    ----------
    root : Path
        Folder of the audio.
    name : str
        Name of the utterance, relative to `root`.

    Returns
    -------
    Path
        The name as it is if it has an audio suffix or is a file, else with `.wav` appended, which TidyVoice lists omit.

    Examples
    --------
    >>> audio_path(Path("audio"), "id1/de/7").as_posix(), audio_path(Path("audio"), "id1/de/7.flac").as_posix()
    ('audio/id1/de/7.wav', 'audio/id1/de/7.flac')
    """
    path = root / name
    return path if path.suffix.lower() in SUFFIXES or path.is_file() else path.with_name(f"{path.name}.wav")


def scores_from_file(trials: Trials, path: Path) -> Scores:
    """Look up the scores of a trial list in a score file.

    Parameters
    ----------
    trials : Trials
        The list.
    path : Path
        A score file, as `trial_files.read_scores` reads it.

    Returns
    -------
    Scores
        `missing` are the trials that the file does not contain.

    Raises
    ------
    DataError
        If the file is invalid.
    EarmarkError
        If the file has different scores for one pair, or has enrolment and test swapped.
    """
    scored = read_scores(path, trials)
    assert scored.scores is not None
    notes = binary_score_notes(scored.scores, shown_path(path))
    if _same_pairs(trials, scored):
        return Scores(scored.scores, [], (*notes, *_label_conflict_notes(trials, scored.labels, path)))
    index = pd.MultiIndex.from_arrays([scored.names[scored.enrolment], scored.names[scored.test]])
    requested = pd.MultiIndex.from_arrays([trials.names[trials.enrolment], trials.names[trials.test]])
    _require_one_score(pd.Series(scored.scores, index=index), path)
    first = ~index.duplicated()
    index = index[first]
    position = index.get_indexer(requested)
    present = position >= 0
    absent = requested[~present].unique()
    if len(absent) and (index.get_indexer(absent.swaplevel()) >= 0).all():
        raise EarmarkError(f"{shown_path(path)}: enrolment and test are swapped. Write `enrol test score`.")
    if scored.labels is not None:
        notes += _label_conflict_notes(trials.take(present), scored.labels[first][position[present]], path)
    scores = np.where(present, scored.scores[first][position], np.nan)
    return Scores(scores, [f"{enrol} {test}" for enrol, test in absent], notes)


def binary_score_notes(scores: FloatArray, source: str) -> tuple[str, ...]:
    """Return a warning if all scores are 0 or 1, which suggests labels or decisions.

    Parameters
    ----------
    scores : (n,) float
    source : str
        Name of the scores for the message.

    Returns
    -------
    tuple of str
        One message, or none.
    """
    if not len(scores) or not np.isin(scores[:FIRST_SCORES], (0, 1)).all() or not np.isin(scores, (0, 1)).all():
        return ()
    return (f"{source}: all scores are 0 or 1. Check that they are scores and not labels or decisions.",)


def _label_conflict_notes(trials: Trials, labels: BoolArray | None, path: Path) -> tuple[str, ...]:
    """Return a warning if labels of a score file differ from those of the list, which are used."""
    if labels is None or trials.labels is None or labels is trials.labels:
        return ()
    differ = np.flatnonzero(labels != trials.labels)
    if not len(differ):
        return ()
    first = int(differ[0])
    pair = f"{trials.names[trials.enrolment[first]]} {trials.names[trials.test[first]]}"
    verb = "differs" if len(differ) == 1 else "differ"
    return (
        f"{shown_path(path)}: {len(differ):,} of its labels {verb} from the list, for example for {pair}. The labels "
        "of the list are used.",
    )


def _require_one_score(by_pair: "pd.Series[float]", path: Path) -> None:
    repeated = by_pair[by_pair.index.duplicated(keep=False)]
    spread = repeated.groupby(level=[0, 1]).agg(["min", "max"])
    differ = spread[spread["min"] != spread["max"]]
    if len(differ):
        pair, (low, high) = " ".join(differ.index[0]), differ.iloc[0].tolist()
        raise EarmarkError(
            f"{shown_path(path)}: {len(differ):,} {'pair has' if len(differ) == 1 else 'pairs have'} several scores, "
            f"for example {pair}: {low:g} and {high:g}. Keep one score per pair."
        )


def _same_pairs(first: Trials, second: Trials) -> bool:
    """Whether two lists have the same pairs in the same order, as most score files have."""
    return (
        np.array_equal(first.names, second.names)
        and np.array_equal(first.enrolment, second.enrolment)
        and np.array_equal(first.test, second.test)
    )
