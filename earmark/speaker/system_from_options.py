"""Load a system and its input lists from the options of a command.

All inputs are read and checked before anything is embedded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from earmark.cli import NO_RAY, Invocation, RayOptions
from earmark.cluster.cache import embedding_cache
from earmark.cluster.worker import EncoderFromOptions
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.remote import require_reachable
from earmark.metrics import calibration
from earmark.metrics.calibration import LinearCalibration
from earmark.models.encoders import precomputed
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.speaker.back_end import required_utterances
from earmark.speaker.keys import with_key
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

Content = TypeVar("Content")


@dataclass(frozen=True)
class InputLists:
    """Contents of the input files.

    Attributes
    ----------
    trials, calibration : Trials or None
        Labelled lists.
    evaluation : mapping
        {A or U: unlabelled TidyVoice list}.
    models : mapping
        {enrolment model: its utterances}.
    cohort : mapping or None
        {cohort utterance: its speaker}.
    """

    trials: Trials | None = None
    calibration: Trials | None = None
    evaluation: Mapping[str, Trials] = field(default_factory=dict)
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cohort: Mapping[str, str] | None = None


def read_lists(options: TrialsOptions, evaluation: EvaluationLists = NO_EVALUATION) -> InputLists:
    """Read all lists and maps.

    Parameters
    ----------
    options : TrialsOptions
    evaluation : EvaluationLists
        The unlabelled lists of TidyVoice, if any.

    Raises
    ------
    EarmarkError
        With all files that do not exist, or if a list that needs labels has none.
    DataError
        With all faults of all files.
    """
    files = [*options.lists, *evaluation.files.values()]
    if absent := [shown_path(path) for path in dict.fromkeys(files) if not path.exists()]:
        raise EarmarkError(
            "\n  ".join([f"{len(absent)} input {'file does' if len(absent) == 1 else 'files do'} not exist:", *absent])
        )
    back_end, errors = options.back_end, []

    def read(reader: Callable[[Path], Content], path: Path | None) -> Content | None:
        try:
            return reader(path) if path else None
        except DataError as error:
            errors.append(error)
            return None

    lists = InputLists(
        trials=read(read_trials, options.trials),
        calibration=read(read_trials, back_end.calibrate),
        evaluation={name: trials for name, path in evaluation.files.items() if (trials := read(read_trials, path))},
        models=read(read_enrolments, back_end.enrolments) or {},
        cohort=read(read_speakers, back_end.cohort),
    )
    if errors:
        raise DataError.merged(errors)
    if options.key and lists.trials is not None and options.trials:
        lists = replace(lists, trials=with_key(lists.trials, options.trials, options.key))
    for trials, path in ((lists.trials, options.trials), (lists.calibration, back_end.calibrate)):
        if trials is not None and path:
            require_labels(trials, path)
    return lists


def require_labels(trials: Trials, path: Path) -> None:
    """Raise EarmarkError if a list has no labels."""
    if trials.labels is None:
        read_as = (
            " The last values are read as scores, because not all are 1 or 0." if trials.scores is not None else ""
        )
        raise EarmarkError(f"{shown_path(path)}: has no labels, which error rates require.{read_as}")


def load_system(
    options: EncoderOptions, invocation: Invocation, scores: Path | None = None, cluster: RayOptions = NO_RAY
) -> System:
    """Load the system of --encoder, --embeddings or --scores, with the default back end.

    Parameters
    ----------
    options : EncoderOptions
    invocation : Invocation
        For the progress bar.
    scores : Path, optional
        The score file of a system without an encoder.
    cluster : RayOptions
        The connected Ray cluster that embeds clips.
    """
    if not options.spec:
        return System(score_file=scores)
    require_reachable(options.embedding_cache)
    encoder = load_encoder_from_options(options)
    if isinstance(encoder, Encoder):
        for note in encoder.notes:
            invocation.warn(note)
    return System(
        encoder,
        embedding_cache=embedding_cache(
            options.embedding_cache, cluster, invocation, lambda: EncoderFromOptions(options), options.device
        ),
        batch_size=options.batch_size,
        track_progress=lambda embedded, n: invocation.progress(embedded, total=n, label=encoder.name, unit="clip"),
    )


def prepare_system(
    options: TrialsOptions, invocation: Invocation, evaluation: EvaluationLists = NO_EVALUATION
) -> tuple[System, InputLists]:
    """Load a system with its back end and calibration, and all its lists.

    Missing files and utterances of all lists are reported before anything is embedded.

    Parameters
    ----------
    options : TrialsOptions
    invocation : Invocation
        For progress bars and warnings.
    evaluation : EvaluationLists
        The unlabelled lists of TidyVoice, if any.

    Returns
    -------
    system : System
        Ready to score trials.
    lists : InputLists

    Raises
    ------
    MissingError
        If the back end needs an option that is not set.
    EarmarkError
        If files, utterances or scores are missing, embeddings or the mean are invalid, or the calibration list
        contains half of the evaluated pairs or more.
    DataError
        With all faults of all files.
    """
    system = load_system(options.encoder_options, invocation, options.scores, options.cluster)
    back_end = options.back_end
    require_usable_back_end(back_end, system)
    lists = read_lists(options, evaluation)
    cohort_source = cohort_system(back_end, system)
    require_utterances(lists, system, cohort_source, options, evaluation)
    pairs = calibration_pairs_in_trials(lists, options, invocation)
    cohort = None
    if back_end.cohort and lists.cohort is not None:
        root = options.audio_root or back_end.cohort.parent
        embedded = cohort_source.embeddings(lists.cohort, root)
        require_complete(embedded.missing, back_end.cohort, root=root)
        cohort = Cohort(embedded.vectors, lists.cohort)
    with prefixed_errors(shown_path(back_end.cohort) if back_end.cohort else "--subtract-mean"):
        system = replace(
            system, back_end=BackEnd.from_options(lists.models, back_end.subtract_mean, cohort, back_end.top_n)
        )
    if not back_end.calibrate or lists.calibration is None:
        return system, lists
    trials = lists.calibration
    scorer = replace(system, score_file=back_end.calibrate) if trials.scores is not None else system
    trials, notes = add_scores(trials, back_end.calibrate, scorer, options)
    for note in notes:
        invocation.warn(note)
    fitted = fit_calibration(trials, back_end.calibrate)
    return replace(system, calibration=fitted, calibration_pairs_in_trials=pairs), lists


def require_usable_back_end(options: BackEndOptions, system: System) -> None:
    """Raise MissingError or EarmarkError if the options of the back end are incomplete or its mean is invalid."""
    if system.encoder is None and (options.subtract_mean != NO_MEAN or options.cohort or options.enrolments):
        raise MissingError("--subtract-mean, --cohort and --enrolments need --encoder SPEC or --embeddings FILE.")
    if options.cohort_embeddings and not options.cohort:
        raise MissingError("--cohort-embeddings FILE needs --cohort FILE, a file of `utterance speaker` lines.")
    if options.subtract_mean == COHORT_MEAN and not options.cohort:
        raise MissingError("--subtract-mean cohort needs --cohort FILE, a file of `utterance speaker` lines.")
    if options.subtract_mean not in (NO_MEAN, COHORT_MEAN):
        read_mean(Path(options.subtract_mean))


def cohort_system(options: BackEndOptions, system: System) -> System:
    """Select the system that provides cohort embeddings: that of --cohort-embeddings, else the evaluated system.

    Raises
    ------
    EarmarkError
        If precomputed embeddings of the cohort and of the trials have different dimensions.
    """
    if not options.cohort_embeddings:
        return system
    encoder = precomputed.load(str(options.cohort_embeddings))
    if isinstance(system.encoder, PrecomputedEmbeddings) and encoder.dimension != system.encoder.dimension:
        raise EarmarkError(
            f"{shown_path(options.cohort_embeddings)}: has {encoder.dimension} dimensions, but {system.encoder.name} "
            f"has {system.encoder.dimension}. Use embeddings of the same encoder for both."
        )
    return replace(system, encoder=encoder)


def require_utterances(
    lists: InputLists, system: System, cohort_source: System, options: TrialsOptions, evaluation: EvaluationLists
) -> None:
    """Raise EarmarkError with the utterances of all lists that have no audio or embedding and may not be missing."""
    allow_missing, back_end = options.statistics.allow_missing, options.back_end
    missing = []

    def check(utterances: Sequence[str], path: Path, source: System = system, allowed: bool | None = None) -> None:
        root = options.audio_root or path.parent
        if not allowed:
            missing.append(MissingInputs(source.missing_utterances(utterances, root), path, root, allowed))

    for trials, path, allowed in (
        (lists.trials, options.trials, allow_missing),
        (lists.calibration, back_end.calibrate, allow_missing),
        *((trials, evaluation.files[name], None) for name, trials in lists.evaluation.items()),
    ):
        if trials is not None and path:
            with prefixed_errors(shown_path(path)):
                check(required_utterances(trials, lists.models), path, allowed=allowed)
    if lists.cohort is not None and back_end.cohort:
        check(list(lists.cohort), back_end.cohort, cohort_source)
    require_all_complete(missing)


def calibration_pairs_in_trials(lists: InputLists, options: TrialsOptions, invocation: Invocation) -> int:
    """Count the pairs of the calibration list that are also evaluated, in either order; warn if there are any.

    Returns
    -------
    int
        0 without a calibration list.

    Raises
    ------
    EarmarkError
        If they are at least half of the evaluated trials.
    """
    path = options.back_end.calibrate
    if lists.trials is None or lists.calibration is None or not path:
        return 0
    shared = count_shared_pairs(lists.calibration, lists.trials)
    if shared >= len(lists.trials) / 2:
        raise EarmarkError(
            f"{shown_path(path)}: it contains half of the evaluated trials or more ({shared:,} pairs). "
            "Calibrate on another list."
        )
    if shared:
        pairs = "pair is" if shared == 1 else "pairs are"
        invocation.warn(f"{shown_path(path)}: {shared:,} {pairs} also in the trials, so actDCF and Cllr are too low.")
    return shared


def fit_calibration(trials: Trials, path: Path) -> LinearCalibration:
    """Fit a linear calibration on a labelled, scored list.

    Parameters
    ----------
    trials : Trials
        The list; trials with a NaN score are ignored.
    path : Path
        The file of the list, for messages.

    Raises
    ------
    EarmarkError
        If there are no targets or no non-targets, or higher scores do not mean more likely targets.
    """
    with prefixed_errors(shown_path(path)):
        complete = trials.take(~np.isnan(np.asarray(trials.scores)))
        fitted = calibration.fit(np.asarray(complete.scores), np.asarray(complete.labels))
    if fitted.scale <= 0:
        raise EarmarkError(
            f"{shown_path(path)}: cannot calibrate, because higher scores do not mean more likely targets. Check the "
            "sign of the scores and the labels."
        )
    return fitted


def add_scores(trials: Trials, path: Path, system: System, options: TrialsOptions) -> tuple[Trials, tuple[str, ...]]:
    """Score a labelled list.

    Parameters
    ----------
    trials : Trials
        The list.
    path : Path
        Its file; the audio is relative to its folder unless --audio-root is set.
    system : System
    options : TrialsOptions

    Returns
    -------
    scored : Trials
        The list with scores, NaN where missing and --allow-missing is set.
    notes : tuple of str
        Warnings for the user.

    Raises
    ------
    EarmarkError
        If the list has no labels, scores are missing without --allow-missing, or embeddings are invalid.
    MissingError
        If there are no scores and no encoder.
    """
    require_labels(trials, path)
    root = options.audio_root or path.parent
    with prefixed_errors(shown_path(path)):
        scores = system.scores(trials, root)
    audio_root = root if system.encoder is not None else None
    require_complete(scores.missing, path, root=audio_root, allowed=options.statistics.allow_missing)
    if np.isnan(scores.values).any() and not scores.missing:
        n = int(np.isnan(scores.values).sum())
        raise EarmarkError(f"{shown_path(path)}: {n:,} trials have no score, although no embedding is missing.")
    return trials.with_scores(scores.values), scores.notes


def warn_bootstrap_ignored(options: StatisticsOptions, invocation: Invocation) -> None:
    """Warn that --bootstrap has no effect any more."""
    if options.bootstrap:
        invocation.warn("--bootstrap has no effect. Intervals are computed without resampling.")
