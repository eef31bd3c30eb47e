"""What gives trials their scores: embeddings and what is done to them, or a file that holds the scores already."""

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

Made = Iterable[tuple[Path, Embedding]]
TrackProgress = Callable[[Made, int], Made]
SHOWN = 20  # names of a list in a message
MANY = 1000  # scores that are looked at before all are
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Embeddings:
    """vectors: {utterance: (d,)}. missing: the other utterances, each with the reason."""

    vectors: dict[str, ArrayLike]
    missing: list[str]


@dataclass(frozen=True)
class Scores:
    """values: (n,) of a list's trials, NaN where there is none. missing: what they would need, in words. notes: what
    the user should know of them.
    """

    values: FloatArray
    missing: list[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cohort:
    """Utterances of other speakers. vectors: {utterance: (d,)}. speakers: {utterance: speaker}."""

    vectors: Mapping[str, ArrayLike]
    speakers: Mapping[str, str]


@dataclass(frozen=True)
class BackEnd:
    """What happens between embeddings and scores; nothing but the cosine unless it is asked for.

    models: {enrolment: utterances} whose embeddings are averaged. mean: (d,), taken off every embedding. cohort:
    (k, d) means of speakers, less that mean, for AS-norm with the top_n nearest.
    """

    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mean: FloatArray | None = None
    cohort: FloatArray | None = None
    top_n: int = TOP_N

    @classmethod
    def from_options(
        cls, models: Mapping[str, Sequence[str]], mean: str, cohort: Cohort | None, top_n: int = TOP_N
    ) -> "BackEnd":
        """From what a user asks for. mean: none, cohort, or a .npy file.

        EarmarkError or ValueError for a mean that does not fit, MissingError for a mean of a cohort that is not given.
        """
        taken_off = None
        if mean == COHORT_MEAN and cohort is None:
            raise MissingError("--subtract-mean cohort needs --cohort FILE, with lines `utterance speaker`.")
        if mean not in (NO_MEAN, COHORT_MEAN):
            taken_off = read_mean(Path(mean))
        if cohort is None:
            return cls(models, taken_off, None, top_n)
        matrix, _ = embedding_matrix(list(cohort.vectors), cohort.vectors)
        if mean == COHORT_MEAN:
            taken_off = matrix.mean(axis=0)
        if taken_off is not None:
            matrix = subtract_mean(matrix, taken_off)
        means, _ = speaker_means(matrix, [cohort.speakers[name] for name in cohort.vectors])
        return cls(models, taken_off, means, min(top_n, len(means)))

    def scores(self, trials: Trials, vectors: Mapping[str, ArrayLike]) -> FloatArray:
        """The score of every trial, NaN where an embedding is missing.

        ValueError for embeddings that are no embeddings: see `back_end.embedding_matrix`.
        """
        utterances = required_utterances(trials, self.models)
        matrix, missing = embedding_matrix(utterances, vectors)
        if len(missing) == len(utterances):
            return np.full(len(trials), np.nan)
        if self.mean is not None:
            matrix = subtract_mean(matrix, self.mean)
        rows = pool_enrolments(trials, self.models, utterances, matrix)
        found = cosine_scores(trials, rows)
        if self.cohort is not None:
            found = adaptive_s_norm(trials, found, rows, self.cohort, self.top_n)
        return found

    def description(self, mean: str) -> dict[str, Any]:
        """What a summary records. mean: as the user named it."""
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
    """What scores trials: an encoder with its back end, or a score file, or neither, for lists that hold their scores.

    watch: given the embeddings as they are made and how many there will be, passes them on; for a progress bar.
    calibration: turns scores into log-likelihood ratios. calibration_pairs_in_trials: how many pairs of its list are
    evaluated too.
    """

    encoder: Encoder | PrecomputedEmbeddings | None = None
    score_file: Path | None = None
    store: EmbeddingCache | None = None
    batch_size: int = 16
    track_progress: TrackProgress = lambda found, total: found
    back_end: BackEnd = BackEnd()
    calibration: LinearCalibration | None = None
    calibration_pairs_in_trials: int = 0

    @property
    def device(self) -> str:
        """Where it runs, as a summary records it."""
        return str(self.encoder.description.get("device", "cpu")) if self.encoder is not None else "cpu"

    def summary(self, asked: BackEndOptions, cohort_speakers_in_trials: int | None) -> BackEndSummary:
        """What a summary records of the way to scores. asked: the back end as the user named it."""
        described: dict[str, Any] = {"scores": "given"}
        if self.encoder is not None:
            described = self.back_end.description(asked.subtract_mean)
        if asked.cohort_embeddings:
            described["cohort_embeddings"] = asked.cohort_embeddings.name
        if self.calibration_pairs_in_trials:
            described["calibration_pairs_in_trials"] = self.calibration_pairs_in_trials
        return BackEndSummary(
            **described,
            calibration=Calibration.from_fit(self.calibration),
            cohort_speakers_in_trials=cohort_speakers_in_trials,
        )

    def missing_utterances(self, names: Iterable[str], root: Path) -> list[str]:
        """The utterances, each with the reason, that cannot be embedded for there is nothing of that name.

        It opens no file, so it is known at once; what cannot be read is known when it is embedded.
        """
        if self.encoder is None:
            return []
        found = []
        for name in names:
            path = audio_path(root, name)
            if isinstance(self.encoder, PrecomputedEmbeddings):
                known = name in self.encoder.rows or any(
                    one.vector is not None for _, one in self.encoder.embed_paths([path], root)
                )
                reason = f"is not among the {len(self.encoder.rows):,} ids of {self.encoder.name}"
            else:
                known, reason = path.exists(), "is not there"
            if not known:
                found.append(f"{name} ({reason})")
        return found

    def embeddings(self, names: Iterable[str], root: Path) -> Embeddings:
        """Of utterances whose audio lies below root; the store keeps them."""
        assert self.encoder is not None and self.store is not None
        spelt: dict[Path, list[str]] = {}  # a file may be called by several names
        for name in names:
            spelt.setdefault(audio_path(root, name), []).append(name)
        made = self.store.embed(self.encoder, list(spelt), batch_size=self.batch_size, audio_root=root)
        vectors: dict[str, ArrayLike] = {}
        missing = []
        for path, embedding in self.track_progress(made, len(spelt)):
            for name in spelt[path]:
                if embedding.vector is None:
                    missing.append(f"{name} ({embedding.error.removeprefix(f'{path.name}: ')})")
                else:
                    vectors[name] = embedding.vector
        return Embeddings(vectors, missing)

    def scores(self, trials: Trials, root: Path) -> Scores:
        """The scores of a list's trials. root: of the audio.

        MissingError where nothing gives scores; ValueError for embeddings that are none.
        """
        if self.encoder is not None:
            embedded = self.embeddings(required_utterances(trials, self.back_end.models), root)
            found = Scores(self.back_end.scores(trials, embedded.vectors), embedded.missing)
        elif self.score_file is not None:
            found = scores_from_file(trials, self.score_file)
        elif trials.scores is not None:
            found = Scores(trials.scores, [], binary_score_notes(trials.scores, "the list"))
        else:
            raise MissingError("--encoder SPEC, --embeddings FILE or --scores FILE: the list has no scores of its own")
        return found if self.calibration is None else replace(found, values=self.calibration(found.values))


@contextmanager
def prefixed_errors(what: str) -> Iterator[None]:
    """Data that some metric or back end cannot take becomes an error that names them."""
    try:
        yield
    except ValueError as error:
        raise EarmarkError(f"{what}: {error}") from error


@dataclass(frozen=True)
class MissingInputs:
    """What a list needs and has not.

    names: of what is missing, each with the reason. root: of the audio, where that is what can be missing. allowed:
    whether --allow-missing was given; None where the flag has no say.
    """

    names: Sequence[str]
    needed_by: Path
    root: Path | None = None
    allowed: bool | None = None


def require_complete(
    missing: Sequence[str], needed_by: Path, *, root: Path | None = None, allowed: bool | None = None
) -> None:
    """EarmarkError with the list of what is missing, and what to do, unless it is allowed; see `MissingInputs`."""
    require_all_complete([MissingInputs(missing, needed_by, root, allowed)])


def require_all_complete(lists: Sequence[MissingInputs]) -> None:
    """EarmarkError with what all lists lack and may not, and what to do."""
    lacking = [one for one in lists if one.names and not one.allowed]
    if not lacking:
        return
    lines = []
    shown = max(SHOWN // len(lacking), 3)
    for one in lacking:
        n = len(one.names)
        lines.append(f"{shown_path(one.needed_by)}: {n:,} {'is' if n == 1 else 'are'} missing:")
        lines += [f"  {name}" for name in one.names[:shown]]
        lines += [f"  and {n - shown:,} more"] if n > shown else []
    roots = dict.fromkeys(shown_path(one.root) for one in lacking if one.root is not None)
    if roots:
        lines.append(f"Paths are taken below {'/, '.join(roots)}/; --audio-root DIR says otherwise.")
    if any(one.allowed is not None for one in lacking):
        lines.append("--allow-missing leaves their trials out and counts them.")
    raise EarmarkError("\n".join(lines))


def read_mean(path: Path) -> FloatArray:
    """A mean embedding, (d,), of a .npy file."""
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} does not exist; --subtract-mean takes none, cohort or a .npy file.")
    try:
        mean = np.load(path, allow_pickle=False)
        return np.asarray(mean, dtype=float).reshape(-1) if mean.size == max(mean.shape, default=0) else _no_mean(path)
    except (ValueError, OSError, EOFError, AttributeError) as error:
        raise EarmarkError(f"{shown_path(path)}: is no .npy file of one vector ({error}).") from error


def _no_mean(path: Path) -> FloatArray:
    raise EarmarkError(f"{shown_path(path)}: holds more than one vector.")


def audio_path(root: Path, name: str) -> Path:
    """Where the audio of an utterance is: as named, if that is a file; lists of TidyVoice leave the `.wav` out."""
    path = root / name
    return path if path.suffix.lower() in SUFFIXES or path.is_file() else path.with_name(f"{path.name}.wav")


def scores_from_file(trials: Trials, path: Path) -> Scores:
    """The scores of the list's trials in a score file; missing: the trials that it does not hold.

    A file of scores alone holds them in the list's order. EarmarkError where it gives one pair two different scores,
    or holds the pairs the other way round.
    """
    given = read_scores(path, trials)
    assert given.scores is not None
    notes = binary_score_notes(given.scores, shown_path(path))
    if _same_pairs(trials, given):
        return Scores(given.scores, [], (*notes, *_other_labels(trials, given.labels, path)))
    index = pd.MultiIndex.from_arrays([given.names[given.enrolment], given.names[given.test]])
    wanted = pd.MultiIndex.from_arrays([trials.names[trials.enrolment], trials.names[trials.test]])
    _require_one_score(pd.Series(given.scores, index=index), path)
    once = ~index.duplicated()
    index = index[once]
    place = index.get_indexer(wanted)
    there = place >= 0
    absent = wanted[~there].unique()
    if len(absent) and (index.get_indexer(absent.swaplevel()) >= 0).all():
        raise EarmarkError(f"{shown_path(path)}: holds pairs the other way round; a line is `enrol test score`.")
    if given.labels is not None:
        notes += _other_labels(trials.take(there), given.labels[once][place[there]], path)
    scores = np.where(there, given.scores[once][place], np.nan)
    return Scores(scores, [f"{enrol} {test}" for enrol, test in absent], notes)


def binary_score_notes(scores: FloatArray, where: str) -> tuple[str, ...]:
    """What the user should know of scores. where: they are, for the message."""
    if not len(scores) or not np.isin(scores[:MANY], (0, 1)).all() or not np.isin(scores, (0, 1)).all():
        return ()
    return (f"{where}: its scores are nothing but 0 and 1. Are these labels or decisions? Error rates need scores.",)


def _other_labels(trials: Trials, labels: BoolArray | None, path: Path) -> tuple[str, ...]:
    """Where the labels in a score file are others than the list's, which count."""
    if labels is None or trials.labels is None or labels is trials.labels:
        return ()
    differ = np.flatnonzero(labels != trials.labels)
    if not len(differ):
        return ()
    first = int(differ[0])
    pair = f"{trials.names[trials.enrolment[first]]} {trials.names[trials.test[first]]}"
    return (f"{shown_path(path)}: {len(differ):,} of its labels are not the list's, as of {pair}; the list's count.",)


def _require_one_score(by_pair: "pd.Series[float]", path: Path) -> None:
    repeated = by_pair[by_pair.index.duplicated(keep=False)]
    spread = repeated.groupby(level=[0, 1]).agg(["min", "max"])
    differ = spread[spread["min"] != spread["max"]]
    if len(differ):
        pair, (low, high) = " ".join(differ.index[0]), differ.iloc[0].tolist()
        raise EarmarkError(
            f"{shown_path(path)}: {len(differ):,} pairs have several scores, as {pair} has {low:g} and {high:g}. "
            "Keep one score for each pair."
        )


def _same_pairs(one: Trials, other: Trials) -> bool:
    """Whether two lists hold the same pairs in the same order, as score files mostly do."""
    return (
        np.array_equal(one.names, other.names)
        and np.array_equal(one.enrolment, other.enrolment)
        and np.array_equal(one.test, other.test)
    )
