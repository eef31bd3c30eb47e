"""What gives trials their scores: embeddings and what is done to them, or a file that holds the scores already."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from earmark.audio.decode import SUFFIXES
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.metrics.calibration import LinearCalibration
from earmark.models.embedding import Embedding
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.speaker.back_end import (
    FloatArray,
    adaptive_s_norm,
    centred,
    cosine_scores,
    embedding_matrix,
    speaker_means,
    trial_rows,
    utterances_of,
)
from earmark.speaker.options import MEAN_OF_COHORT, NO_MEAN, TOP_N
from earmark.speaker.schema import BackEndSummary, Calibration
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials

Made = Iterable[tuple[Path, Embedding]]
Watch = Callable[[Made, int], Made]
SHOWN = 20  # names of a list in a message


@dataclass(frozen=True)
class Embeddings:
    """vectors: {utterance: (d,)}. missing: the other utterances, each with the reason."""

    vectors: dict[str, ArrayLike]
    missing: list[str]


@dataclass(frozen=True)
class Scores:
    """values: (n,) of a list's trials, NaN where there is none. missing: what they would need, in words."""

    values: FloatArray
    missing: list[str]


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
    def of(cls, models: Mapping[str, Sequence[str]], mean: str, cohort: Cohort | None, top_n: int = TOP_N) -> "BackEnd":
        """From what a user asks for. mean: none, cohort, or a .npy file.

        EarmarkError or ValueError for a mean that does not fit, MissingError for a mean of a cohort that is not given.
        """
        taken_off = None
        if mean == MEAN_OF_COHORT and cohort is None:
            raise MissingError("--mean cohort needs --cohort FILE, with lines `utterance speaker`.")
        if mean not in (NO_MEAN, MEAN_OF_COHORT):
            taken_off = read_mean(Path(mean))
        if cohort is None:
            return cls(models, taken_off, None, top_n)
        matrix, _ = embedding_matrix(list(cohort.vectors), cohort.vectors)
        if mean == MEAN_OF_COHORT:
            taken_off = matrix.mean(axis=0)
        if taken_off is not None:
            matrix = centred(matrix, taken_off)
        means, _ = speaker_means(matrix, [cohort.speakers[name] for name in cohort.vectors])
        return cls(models, taken_off, means, min(top_n, len(means)))

    def scores(self, trials: Trials, vectors: Mapping[str, ArrayLike]) -> FloatArray:
        """The score of every trial, NaN where an embedding is missing.

        ValueError for embeddings that are no embeddings: see `back_end.embedding_matrix`.
        """
        utterances = utterances_of(trials, self.models)
        matrix, missing = embedding_matrix(utterances, vectors)
        if len(missing) == len(utterances):
            return np.full(len(trials), np.nan)
        if self.mean is not None:
            matrix = centred(matrix, self.mean)
        rows = trial_rows(trials, self.models, utterances, matrix)
        found = cosine_scores(trials, rows)
        if self.cohort is not None:
            found = adaptive_s_norm(trials, found, rows, self.cohort, self.top_n)
        return found

    def description(self, mean: str) -> dict[str, Any]:
        """What a summary records. mean: as the user named it."""
        cohort = None if self.cohort is None else len(self.cohort)
        return {
            "scores": "cosine" if cohort is None else "AS-norm of cosines",
            "mean": mean if mean in (NO_MEAN, MEAN_OF_COHORT) else Path(mean).name,
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

    encoder: Encoder | GivenEmbeddings | None = None
    score_file: Path | None = None
    store: EmbeddingStore | None = None
    batch_size: int = 16
    watch: Watch = lambda found, total: found
    back_end: BackEnd = BackEnd()
    calibration: LinearCalibration | None = None
    calibration_pairs_in_trials: int = 0

    @property
    def device(self) -> str:
        """Where it runs, as a summary records it."""
        return str(self.encoder.description.get("device", "cpu")) if self.encoder is not None else "cpu"

    def summary(self, mean: str, cohort_speakers_in_trials: int | None) -> BackEndSummary:
        """What a summary records of the way to scores. mean: as the user named it."""
        described: dict[str, Any] = {"scores": "given"}
        if self.encoder is not None:
            described = self.back_end.description(mean)
        if self.calibration_pairs_in_trials:
            described["calibration_pairs_in_trials"] = self.calibration_pairs_in_trials
        return BackEndSummary(
            **described,
            calibration=Calibration.of(self.calibration),
            cohort_speakers_in_trials=cohort_speakers_in_trials,
        )

    def embeddings(self, names: Iterable[str], root: Path) -> Embeddings:
        """Of utterances whose audio lies below root; the store keeps them."""
        assert self.encoder is not None and self.store is not None
        spelt: dict[Path, list[str]] = {}  # a file may be called by several names
        for name in names:
            spelt.setdefault(audio_path(root, name), []).append(name)
        made = self.store.embed(self.encoder, list(spelt), batch_size=self.batch_size, audio_root=root)
        vectors: dict[str, ArrayLike] = {}
        missing = []
        for path, embedding in self.watch(made, len(spelt)):
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
            embedded = self.embeddings(utterances_of(trials, self.back_end.models), root)
            found = Scores(self.back_end.scores(trials, embedded.vectors), embedded.missing)
        elif self.score_file is not None:
            found = scores_of_file(trials, self.score_file)
        elif trials.scores is not None:
            found = Scores(trials.scores, [])
        else:
            raise MissingError("--encoder SPEC, --embeddings FILE or --scores FILE: the list has no scores of its own")
        return found if self.calibration is None else Scores(self.calibration(found.values), found.missing)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Data that some metric or back end cannot take becomes an error that names them."""
    try:
        yield
    except ValueError as error:
        raise EarmarkError(f"{what}: {error}") from error


def require_complete(
    missing: Sequence[str], needed_by: Path, *, root: Path | None = None, allowed: bool | None = None
) -> None:
    """EarmarkError with the list of what is missing, and what to do, unless it is allowed to be.

    root: of the audio, where that is what can be missing. allowed: whether --allow-missing was given; None where the
    flag has no say.
    """
    if not missing or allowed:
        return
    lines = [f"{shown_path(needed_by)}: {len(missing):,} {'is' if len(missing) == 1 else 'are'} missing:"]
    lines += [f"  {name}" for name in missing[:SHOWN]]
    lines += [f"  and {len(missing) - SHOWN:,} more"] if len(missing) > SHOWN else []
    if root is not None:
        lines.append(f"Paths are taken below {shown_path(root)}/; --audio-root DIR says otherwise.")
    if allowed is not None:
        lines.append("--allow-missing leaves their trials out and counts them.")
    raise EarmarkError("\n".join(lines))


def read_mean(path: Path) -> FloatArray:
    """A mean embedding, (d,), of a .npy file."""
    if not path.is_file():
        raise MissingError(f"{shown_path(path)} is not there; --mean takes none, cohort, or a .npy file of one vector.")
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


def scores_of_file(trials: Trials, path: Path) -> Scores:
    """The scores of the list's trials in a score file; missing: the trials that it does not hold.

    EarmarkError where it gives one pair two different scores, or holds the pairs the other way round.
    """
    given = read_trials(path)
    if given.scores is None:
        raise DataError({shown_path(path): [Fault(1, "", "holds no scores")]}, "A line is `enrol test score`.")
    if _same_pairs(trials, given):
        return Scores(given.scores, [])
    index = pd.MultiIndex.from_arrays([given.names[given.enrolment], given.names[given.test]])
    wanted = pd.MultiIndex.from_arrays([trials.names[trials.enrolment], trials.names[trials.test]])
    by_pair = pd.Series(given.scores, index=index)
    _require_one_score(by_pair, path)
    by_pair = by_pair[~by_pair.index.duplicated()]
    scores = by_pair.reindex(wanted).to_numpy()
    absent = wanted[np.isnan(scores)].unique()
    if len(absent) and not by_pair.reindex(absent.swaplevel()).isna().any():
        raise EarmarkError(f"{shown_path(path)}: holds pairs the other way round; a line is `enrol test score`.")
    return Scores(scores, [f"{enrol} {test}" for enrol, test in absent])


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
