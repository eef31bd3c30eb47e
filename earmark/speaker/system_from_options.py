"""The system that a user names by flags: an encoder, embeddings or scores, with its back end and calibration."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from earmark.cli import Invocation
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.metrics import calibration
from earmark.metrics.calibration import LinearCalibration
from earmark.models.encoders.from_options import loaded_encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.options import NO_MEAN, StatisticsOptions, TrialsOptions
from earmark.speaker.system import BackEnd, Cohort, System, naming, require_complete
from earmark.speaker.trial_files import read_enrolments, read_speakers, read_trials
from earmark.speaker.trials import Trials, shared_pairs


def system_of(options: EncoderOptions, invocation: Invocation, scores: Path | None = None) -> System:
    """What --encoder, --embeddings or --scores names, with its back end still empty."""
    if not options.spec:
        return System(score_file=scores)
    encoder = loaded_encoder(options)
    return System(
        encoder,
        store=EmbeddingStore(options.store),
        batch_size=options.batch_size,
        watch=lambda made, n: invocation.progress(made, total=n, what=encoder.name, unit="clip"),
    )


def whole_system(options: TrialsOptions, invocation: Invocation) -> System:
    """The system with what --mean, --cohort, --enrolments and --calibrate ask for."""
    system, asked = system_of(options.encoder_options, invocation, options.scores), options.back_end
    if system.encoder is None and (asked.mean != NO_MEAN or asked.cohort or asked.enrolments):
        raise MissingError(
            "--mean, --cohort and --enrolments need --encoder SPEC or --embeddings FILE: scores hold no embeddings."
        )
    models = read_enrolments(asked.enrolments) if asked.enrolments else {}
    cohort = embedded_cohort(asked.cohort, system, options) if asked.cohort else None
    with naming(shown_path(asked.cohort) if asked.cohort else "--mean"):
        system = replace(system, back_end=BackEnd.of(models, asked.mean, cohort, asked.top_n))
    if not asked.calibrate:
        return system
    trials = read_trials(asked.calibrate)
    shared = calibration_pairs_in_trials(trials, asked.calibrate, options.trials, invocation)
    own = replace(system, score_file=asked.calibrate) if trials.scores is not None else system
    fitted = fitted_calibration(scored(trials, asked.calibrate, own, options), asked.calibrate)
    return replace(system, calibration=fitted, calibration_pairs_in_trials=shared)


def embedded_cohort(path: Path, system: System, options: TrialsOptions) -> Cohort:
    """The cohort of a file of `utterance speaker` lines, all of which have to be there."""
    speakers, root = read_speakers(path), options.audio_root or path.parent
    found = system.embeddings(speakers, root)
    require_complete(found.missing, path, root=root)
    return Cohort(found.vectors, speakers)


def calibration_pairs_in_trials(calibrate: Trials, path: Path, evaluated: Path | None, invocation: Invocation) -> int:
    """How many pairs of the calibration list are to be evaluated, whichever way round and wherever in the list.

    A warning where there are any; EarmarkError where they are half of the trials or more. path: of the calibration
    list.
    """
    if not evaluated:
        return 0
    trials = read_trials(evaluated)
    both = shared_pairs(calibrate, trials)
    if both >= len(trials) / 2:
        raise EarmarkError(
            f"{shown_path(path)}: is the list to be evaluated, or holds {both:,} of its pairs; calibrate on another."
        )
    if both:
        invocation.warn(f"{shown_path(path)}: {both:,} of its pairs are in the trials, which flatters actDCF and Cllr.")
    return both


def fitted_calibration(trials: Trials, path: Path) -> LinearCalibration:
    """The calibration that a labelled, scored list gives. EarmarkError names its file where there is none."""
    with naming(shown_path(path)):
        complete = trials.take(~np.isnan(np.asarray(trials.scores)))
        found = calibration.fit(np.asarray(complete.scores), np.asarray(complete.labels))
    if found.scale <= 0:
        raise EarmarkError(f"{shown_path(path)}: higher scores are not more likely targets there.")
    return found


def scored(trials: Trials, path: Path, system: System, options: TrialsOptions) -> Trials:
    """A labelled list with the scores of all its trials that have one. path: its file."""
    if trials.labels is None:
        raise EarmarkError(f"{shown_path(path)}: has no labels, so no error rate can be computed")
    root = options.audio_root or path.parent
    with naming(shown_path(path)):
        found = system.scores(trials, root)
    of_audio = root if system.encoder is not None else None
    require_complete(found.missing, path, root=of_audio, allowed=options.statistics.allow_missing)
    if np.isnan(found.values).any() and not found.missing:
        n = int(np.isnan(found.values).sum())
        raise EarmarkError(f"{shown_path(path)}: {n:,} trials have no score, though nothing is missing.")
    return trials.with_scores(found.values)


def warn_of_bootstrap(options: StatisticsOptions, invocation: Invocation) -> None:
    """Say where a flag of an earlier state does nothing any more."""
    if options.bootstrap:
        invocation.warn("--bootstrap has no effect: intervals over speakers need no resampling.")
