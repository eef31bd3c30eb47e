"""The system that a user names by flags: an encoder, embeddings or scores, and what happens to them."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from earmark import cli
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.metrics import calibration
from earmark.metrics.calibration import LinearCalibration
from earmark.models.encoders.from_options import loaded_encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.speaker.system import NO_MEAN, BackEnd, System
from earmark.speaker.trials import Trials, read_enrolments, read_speakers, read_trials, shared_pairs

SHOWN = 20  # names of a list in a message


def system_of(arguments: Namespace) -> System:
    """What --encoder, --embeddings or --scores names, with its back end still empty."""
    if not (arguments.embeddings or arguments.encoder):
        return System(score_file=getattr(arguments, "scores", None))
    encoder = loaded_encoder(cli.options(EncoderOptions, arguments))
    return System(
        encoder,
        store=EmbeddingStore(arguments.store),
        batch_size=arguments.batch_size,
        watch=lambda made, n: cli.progress(made, arguments, total=n, what=encoder.name, unit="clip"),
    )


def with_back_end(system: System, arguments: Namespace) -> System:
    """The system with what --mean, --cohort, --enrolments and --calibrate ask for."""
    if system.encoder is None and (arguments.mean != NO_MEAN or arguments.cohort or arguments.enrolments):
        raise MissingError(
            "--mean, --cohort and --enrolments need --encoder SPEC or --embeddings FILE: scores hold no embeddings."
        )
    models = read_enrolments(arguments.enrolments) if arguments.enrolments else {}
    cohort = None
    if arguments.cohort:
        speakers = read_speakers(arguments.cohort)
        vectors, missing = system.embeddings(speakers, arguments.audio_root or arguments.cohort.parent)
        require_complete(missing, arguments, arguments.cohort, may_be_left_out=False)
        cohort = (vectors, speakers)
    with naming(shown_path(arguments.cohort) if arguments.cohort else "--mean"):
        system = replace(system, back_end=BackEnd.of(models, arguments.mean, cohort, arguments.top_n))
    if arguments.calibrate:
        shared = calibration_pairs_in_trials(arguments)
        found = fitted_calibration(scored(arguments.calibrate, system, arguments), arguments.calibrate)
        system = replace(system, calibration=found, calibration_pairs_in_trials=shared)
    return system


def calibration_pairs_in_trials(arguments: Namespace) -> int:
    """How many pairs of the calibration list are to be evaluated, whichever way round and wherever in the list.

    A warning where there are any; EarmarkError where they are half of the trials or more.
    """
    if not arguments.trials:
        return 0
    path, evaluated = shown_path(arguments.calibrate), read_trials(arguments.trials)
    both = shared_pairs(read_trials(arguments.calibrate), evaluated)
    if both >= len(evaluated) / 2:
        raise EarmarkError(
            f"{path}: is the list to be evaluated, or holds {both:,} of its pairs; calibrate on another."
        )
    if both:
        cli.warn(f"{path}: {both:,} of its pairs are in the trials, which flatters actDCF and Cllr.", arguments)
    return both


def fitted_calibration(trials: Trials, path: Path) -> LinearCalibration:
    """The calibration that a labelled, scored list gives. EarmarkError names its file where there is none."""
    with naming(shown_path(path)):
        complete = trials.take(~np.isnan(np.asarray(trials.scores)))
        found = calibration.fit(np.asarray(complete.scores), np.asarray(complete.labels))
    if found.scale <= 0:
        raise EarmarkError(f"{shown_path(path)}: higher scores are not more likely targets there.")
    return found


def scored(path: Path, system: System, arguments: Namespace) -> Trials:
    """A labelled list with the scores of all its trials that have one."""
    trials = read_trials(path)
    if trials.labels is None:
        raise EarmarkError(f"{shown_path(path)}: has no labels, so no error rate can be computed")
    if trials.scores is not None and path == arguments.calibrate:
        system = replace(system, score_file=path)
    with naming(shown_path(path)):
        scores, missing = system.scores(trials, arguments.audio_root or path.parent)
    require_complete(missing, arguments, path)
    if np.isnan(scores).any() and not missing:
        n = int(np.isnan(scores).sum())
        raise EarmarkError(f"{shown_path(path)}: {n:,} trials have no score, though nothing is missing.")
    return trials.with_scores(scores)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Data that some metric or back end cannot take becomes an error that names them."""
    try:
        yield
    except ValueError as error:
        raise EarmarkError(f"{what}: {error}") from error


def require_complete(
    missing: Sequence[str], arguments: Namespace, needed_by: Path, may_be_left_out: bool = True
) -> None:
    """Stop with the list of what is missing, and what to do, unless it is allowed to be."""
    if not missing or (arguments.allow_missing and may_be_left_out):
        return
    lines = [f"{shown_path(needed_by)}: {len(missing):,} {'is' if len(missing) == 1 else 'are'} missing:"]
    lines += [f"  {name}" for name in missing[:SHOWN]]
    lines += [f"  and {len(missing) - SHOWN:,} more"] if len(missing) > SHOWN else []
    if arguments.encoder or arguments.embeddings:
        root = shown_path(getattr(arguments, "audio_root", None) or needed_by.parent)
        lines.append(f"Paths are taken below {root}/; --audio-root DIR says otherwise.")
    if may_be_left_out:
        lines.append("--allow-missing leaves their trials out and counts them.")
    raise EarmarkError("\n".join(lines))


def wants_intervals(arguments: Namespace) -> bool:
    """Whether intervals are asked for."""
    return not (arguments.no_intervals or arguments.bootstrap == 0)


def warn_of_bootstrap(arguments: Namespace) -> None:
    """Say where a flag of an earlier state does nothing any more."""
    if arguments.bootstrap:
        cli.warn("--bootstrap has no effect: intervals over speakers need no resampling.", arguments)


def device_of(system: System) -> str:
    """Where a system runs, as a summary records it."""
    return str(system.encoder.description.get("device", "cpu")) if system.encoder is not None else "cpu"
