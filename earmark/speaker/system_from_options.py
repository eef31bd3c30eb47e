"""The system that a user names by flags, and the lists that it is for: all read, and looked for, before it works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from earmark.cli import Invocation
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.metrics import calibration
from earmark.metrics.calibration import LinearCalibration
from earmark.models.encoders import precomputed
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.speaker.back_end import required_utterances
from earmark.speaker.options import (
    COHORT_MEAN,
    NO_EVALUATION,
    NO_MEAN,
    BackEndOptions,
    EvaluationLists,
    StatisticsOptions,
    TrialsOptions,
)
from earmark.speaker.system import (
    BackEnd,
    Cohort,
    MissingInputs,
    System,
    prefixed_errors,
    read_mean,
    require_all_complete,
    require_complete,
)
from earmark.speaker.trial_files import read_enrolments, read_speakers, read_trials
from earmark.speaker.trials import Trials, count_shared_pairs

Read = TypeVar("Read")


@dataclass(frozen=True)
class InputLists:
    """What the files that a user names say.

    trials, calibration: labelled lists. evaluation: {A or U: TidyVoice's list}. models: {enrolment: utterances}.
    cohort: {utterance: speaker}.
    """

    trials: Trials | None = None
    calibration: Trials | None = None
    evaluation: Mapping[str, Trials] = field(default_factory=dict)
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cohort: Mapping[str, str] | None = None


def read_lists(options: TrialsOptions, evaluation: EvaluationLists = NO_EVALUATION) -> InputLists:
    """Every list. EarmarkError names all that are not there, DataError all faults of all lists."""
    files = [*options.lists, *evaluation.files.values()]
    if absent := [shown_path(path) for path in dict.fromkeys(files) if not path.exists()]:
        raise EarmarkError("\n  ".join([f"{len(absent)} of the files named are not there:", *absent]))
    asked, faults = options.back_end, []

    def read(reader: Callable[[Path], Read], path: Path | None) -> Read | None:
        try:
            return reader(path) if path else None
        except DataError as error:
            faults.append(error)
            return None

    lists = InputLists(
        trials=read(read_trials, options.trials),
        calibration=read(read_trials, asked.calibrate),
        evaluation={name: found for name, path in evaluation.files.items() if (found := read(read_trials, path))},
        models=read(read_enrolments, asked.enrolments) or {},
        cohort=read(read_speakers, asked.cohort),
    )
    if faults:
        raise DataError.merged(faults)
    for trials, path in ((lists.trials, options.trials), (lists.calibration, asked.calibrate)):
        if trials is not None and path:
            require_labels(trials, path)
    return lists


def require_labels(trials: Trials, path: Path) -> None:
    """EarmarkError for a list without labels."""
    if trials.labels is None:
        read_as = (
            ", and its last value is read as a score, since not all are 1 and 0" if trials.scores is not None else ""
        )
        raise EarmarkError(f"{shown_path(path)}: has no labels, so no error rate can be computed{read_as}")


def load_system(options: EncoderOptions, invocation: Invocation, scores: Path | None = None) -> System:
    """What --encoder, --embeddings or --scores names, with its back end still empty."""
    if not options.spec:
        return System(score_file=scores)
    encoder = load_encoder_from_options(options)
    return System(
        encoder,
        store=EmbeddingCache(options.embedding_cache),
        batch_size=options.batch_size,
        track_progress=lambda made, n: invocation.progress(made, total=n, label=encoder.name, unit="clip"),
    )


def prepare_system(
    options: TrialsOptions, invocation: Invocation, evaluation: EvaluationLists = NO_EVALUATION
) -> tuple[System, InputLists]:
    """The system with what --subtract-mean, --cohort, --enrolments and --calibrate ask for, and its lists.

    Whatever is missing is named before anything is embedded: files, utterances of all lists, the mean.
    """
    system, asked = load_system(options.encoder_options, invocation, options.scores), options.back_end
    require_usable_back_end(asked, system)
    lists = read_lists(options, evaluation)
    of_cohort = cohort_system(asked, system)
    require_utterances(lists, system, of_cohort, options, evaluation)
    pairs = calibration_pairs_in_trials(lists, options, invocation)
    cohort = None
    if asked.cohort and lists.cohort is not None:
        root = options.audio_root or asked.cohort.parent
        found = of_cohort.embeddings(lists.cohort, root)
        require_complete(found.missing, asked.cohort, root=root)
        cohort = Cohort(found.vectors, lists.cohort)
    with prefixed_errors(shown_path(asked.cohort) if asked.cohort else "--subtract-mean"):
        system = replace(system, back_end=BackEnd.from_options(lists.models, asked.subtract_mean, cohort, asked.top_n))
    if not asked.calibrate or lists.calibration is None:
        return system, lists
    trials = lists.calibration
    own = replace(system, score_file=asked.calibrate) if trials.scores is not None else system
    trials, notes = add_scores(trials, asked.calibrate, own, options)
    for note in notes:
        invocation.warn(note)
    fitted = fit_calibration(trials, asked.calibrate)
    return replace(system, calibration=fitted, calibration_pairs_in_trials=pairs), lists


def require_usable_back_end(asked: BackEndOptions, system: System) -> None:
    """MissingError or EarmarkError for a back end that lacks something, before any list is read."""
    if system.encoder is None and (asked.subtract_mean != NO_MEAN or asked.cohort or asked.enrolments):
        raise MissingError("--subtract-mean, --cohort and --enrolments need --encoder SPEC or --embeddings FILE.")
    if asked.cohort_embeddings and not asked.cohort:
        raise MissingError("--cohort-embeddings FILE needs --cohort FILE, which says whose they are.")
    if asked.subtract_mean == COHORT_MEAN and not asked.cohort:
        raise MissingError("--subtract-mean cohort needs --cohort FILE, with lines `utterance speaker`.")
    if asked.subtract_mean not in (NO_MEAN, COHORT_MEAN):
        read_mean(Path(asked.subtract_mean))


def cohort_system(asked: BackEndOptions, system: System) -> System:
    """What gives the cohort's embeddings: a file of their own, or the system. EarmarkError for other dimensions."""
    if not asked.cohort_embeddings:
        return system
    given = precomputed.load(str(asked.cohort_embeddings))
    if isinstance(system.encoder, PrecomputedEmbeddings) and given.dimension != system.encoder.dimension:
        raise EarmarkError(
            f"{shown_path(asked.cohort_embeddings)}: has {given.dimension} dimensions where {system.encoder.name} has "
            f"{system.encoder.dimension}; both have to be of one encoder."
        )
    return replace(system, encoder=given)


def require_utterances(
    lists: InputLists, system: System, of_cohort: System, options: TrialsOptions, evaluation: EvaluationLists
) -> None:
    """EarmarkError with all utterances of all lists that are not there to be embedded, and may not be missing."""
    allowed, asked = options.statistics.allow_missing, options.back_end
    lacking = []

    def look(utterances: Sequence[str], path: Path, by: System = system, allowed: bool | None = None) -> None:
        root = options.audio_root or path.parent
        if not allowed:
            lacking.append(MissingInputs(by.missing_utterances(utterances, root), path, root, allowed))

    for trials, path, may in (
        (lists.trials, options.trials, allowed),
        (lists.calibration, asked.calibrate, allowed),
        *((trials, evaluation.files[name], None) for name, trials in lists.evaluation.items()),
    ):
        if trials is not None and path:
            with prefixed_errors(shown_path(path)):
                look(required_utterances(trials, lists.models), path, allowed=may)
    if lists.cohort is not None and asked.cohort:
        look(list(lists.cohort), asked.cohort, of_cohort)
    require_all_complete(lacking)


def calibration_pairs_in_trials(lists: InputLists, options: TrialsOptions, invocation: Invocation) -> int:
    """How many pairs of the calibration list are to be evaluated, whichever way round and wherever in the list.

    A warning where there are any; EarmarkError where they are half of the trials or more.
    """
    path = options.back_end.calibrate
    if lists.trials is None or lists.calibration is None or not path:
        return 0
    both = count_shared_pairs(lists.calibration, lists.trials)
    if both >= len(lists.trials) / 2:
        raise EarmarkError(
            f"{shown_path(path)}: is the list to be evaluated, or holds {both:,} of its pairs; calibrate on another."
        )
    if both:
        invocation.warn(f"{shown_path(path)}: {both:,} of its pairs are in the trials, which flatters actDCF and Cllr.")
    return both


def fit_calibration(trials: Trials, path: Path) -> LinearCalibration:
    """The calibration that a labelled, scored list gives. EarmarkError names its file where there is none."""
    with prefixed_errors(shown_path(path)):
        complete = trials.take(~np.isnan(np.asarray(trials.scores)))
        found = calibration.fit(np.asarray(complete.scores), np.asarray(complete.labels))
    if found.scale <= 0:
        raise EarmarkError(f"{shown_path(path)}: higher scores are not more likely targets there.")
    return found


def add_scores(trials: Trials, path: Path, system: System, options: TrialsOptions) -> tuple[Trials, tuple[str, ...]]:
    """A labelled list with the scores of all its trials that have one, and what the user should know of them.

    path: of the list.
    """
    require_labels(trials, path)
    root = options.audio_root or path.parent
    with prefixed_errors(shown_path(path)):
        found = system.scores(trials, root)
    of_audio = root if system.encoder is not None else None
    require_complete(found.missing, path, root=of_audio, allowed=options.statistics.allow_missing)
    if np.isnan(found.values).any() and not found.missing:
        n = int(np.isnan(found.values).sum())
        raise EarmarkError(f"{shown_path(path)}: {n:,} trials have no score, though nothing is missing.")
    return trials.with_scores(found.values), found.notes


def warn_bootstrap_ignored(options: StatisticsOptions, invocation: Invocation) -> None:
    """Say where a flag of an earlier state does nothing any more."""
    if options.bootstrap:
        invocation.warn("--bootstrap has no effect: intervals over speakers need no resampling.")
