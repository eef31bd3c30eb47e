"""What gives trials their scores: embeddings and what is done to them, or a file that holds the scores already."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    TOP_N,
    FloatArray,
    adaptive_s_norm,
    centred,
    cosine_scores,
    embedding_matrix,
    speaker_means,
    trial_rows,
    utterances_of,
)
from earmark.speaker.trials import Trials, read_trials

Made = Iterable[tuple[Path, Embedding]]
Watch = Callable[[Made, int], Made]
NO_MEAN, MEAN_OF_COHORT = "none", "cohort"


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
    def of(
        cls,
        models: Mapping[str, Sequence[str]],
        mean: str,
        cohort: tuple[Mapping[str, ArrayLike], Mapping[str, str]] | None,
        top_n: int,
    ) -> "BackEnd":
        """From what a user asks for. mean: none, cohort, or a .npy file. cohort: ({utterance: vector}, its speakers).

        EarmarkError or ValueError for a mean that does not fit, MissingError for a mean of a cohort that is not given.
        """
        taken_off = None
        if mean == MEAN_OF_COHORT and cohort is None:
            raise MissingError("--mean cohort needs --cohort FILE, with lines `utterance speaker`.")
        if mean not in (NO_MEAN, MEAN_OF_COHORT):
            taken_off = read_mean(Path(mean))
        if cohort is None:
            return cls(models, taken_off, None, top_n)
        vectors, speakers = cohort
        matrix, _ = embedding_matrix(list(vectors), vectors)
        if mean == MEAN_OF_COHORT:
            taken_off = matrix.mean(axis=0)
        if taken_off is not None:
            matrix = centred(matrix, taken_off)
        means, _ = speaker_means(matrix, [speakers[name] for name in vectors])
        return cls(models, taken_off, means, min(top_n, len(means)))

    def scores(self, trials: Trials, vectors: Mapping[str, ArrayLike]) -> tuple[FloatArray, list[str]]:
        """The score of every trial, NaN where an embedding is missing; and the utterances that have none.

        ValueError for embeddings that are no embeddings: see `backend.embedding_matrix`.
        """
        utterances = utterances_of(trials, self.models)
        matrix, missing = embedding_matrix(utterances, vectors)
        if len(missing) == len(utterances):
            return np.full(len(trials), np.nan), missing
        if self.mean is not None:
            matrix = centred(matrix, self.mean)
        rows = trial_rows(trials, self.models, utterances, matrix)
        found = cosine_scores(trials, rows)
        if self.cohort is not None:
            found = adaptive_s_norm(trials, found, rows, self.cohort, self.top_n)
        return found, missing

    def description(self, mean: str) -> dict[str, Any]:
        """What a summary records."""
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

    def embeddings(self, names: Iterable[str], root: Path) -> tuple[dict[str, ArrayLike], list[str]]:
        """The embedding of every utterance that has one, which the store keeps; and the others, with the reason."""
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
        return vectors, missing

    def scores(self, trials: Trials, root: Path) -> tuple[FloatArray, list[str]]:
        """The score of every trial, NaN where there is none, and what is missing. root: of the audio.

        MissingError where nothing gives scores; ValueError for embeddings that are none.
        """
        if self.encoder is not None:
            vectors, missing = self.embeddings(utterances_of(trials, self.back_end.models), root)
            found, _ = self.back_end.scores(trials, vectors)
        elif self.score_file is not None:
            found, missing = scores_of_file(trials, self.score_file)
        elif trials.scores is not None:
            found, missing = trials.scores, []
        else:
            raise MissingError("--encoder SPEC, --embeddings FILE or --scores FILE: the list has no scores of its own")
        return found if self.calibration is None else self.calibration(found), missing


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
    """Where the audio of an utterance is; lists of TidyVoice leave the `.wav` out."""
    path = root / name
    return path if path.suffix.lower() in SUFFIXES else path.with_name(f"{path.name}.wav")


def scores_of_file(trials: Trials, path: Path) -> tuple[FloatArray, list[str]]:
    """The scores of the list's trials in a score file, and the trials that it does not hold.

    EarmarkError where it gives one pair two different scores, or holds the pairs the other way round.
    """
    given = read_trials(path)
    if given.scores is None:
        raise DataError({shown_path(path): [Fault(1, "", "holds no scores")]}, "A line is `enrol test score`.")
    if _same_pairs(trials, given):
        return given.scores, []
    index = pd.MultiIndex.from_arrays([given.names[given.enrolment], given.names[given.test]])
    wanted = pd.MultiIndex.from_arrays([trials.names[trials.enrolment], trials.names[trials.test]])
    by_pair = pd.Series(given.scores, index=index)
    _require_one_score(by_pair, path)
    by_pair = by_pair[~by_pair.index.duplicated()]
    scores = by_pair.reindex(wanted).to_numpy()
    absent = wanted[np.isnan(scores)].unique()
    if len(absent) and not by_pair.reindex(absent.swaplevel()).isna().any():
        raise EarmarkError(f"{shown_path(path)}: holds pairs the other way round; a line is `enrol test score`.")
    return scores, [f"{enrol} {test}" for enrol, test in absent]


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
