"""`evaluate_speaker.py trials` and `tidyvoice`: any trial list, and TidyVoice's breakdown and submission."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.detection import det_curve, roc
from earmark.metrics.estimate import Estimate
from earmark.report.plots import det_chart
from earmark.report.provenance import data_hash, exclusions, file_name, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv_gz, to_tex
from earmark.speaker.back_end import cohort_in_trials
from earmark.speaker.evaluation import SpeakerSource, Verification, compared, evaluate
from earmark.speaker.options import (
    device_of,
    fitted_calibration,
    naming,
    require_complete,
    scored,
    system_of,
    wants_intervals,
    warn_of_bootstrap,
    with_back_end,
)
from earmark.speaker.schema import SpeakerSummary
from earmark.speaker.system import System, scores_of_file
from earmark.speaker.tidyvoice import evaluation
from earmark.speaker.trials import Trials, contradicted, read_speakers, read_trials, speakers_of

NEEDS_CALIBRATION = ("act_dcf", "cllr")
ONE_IS_CALIBRATED = (
    "one system is calibrated and the other is not; --against-calibrate FILE gives the other's scores on the "
    "calibration list"
)
SIGNED = {
    SpeakerSource.SPEAKERS: "speaker-dyadic",
    SpeakerSource.LINKED: "linked-utterance-dyadic",
    SpeakerSource.UTTERANCES: "utterance-dyadic",
}


def tell_trials(arguments: Namespace) -> int:
    """Any list, evaluated."""
    warn_of_bootstrap(arguments)
    require_against(arguments)
    system = with_back_end(system_of(arguments), arguments)
    with locked([arguments.output_dir]):
        cli.show(verified(system, arguments, arguments.output_dir))
    return cli.COMPLETE


def tell_tidyvoice(arguments: Namespace) -> int:
    """A labelled list by language, a submission of the evaluation lists, or both."""
    warn_of_bootstrap(arguments)
    lists = {name: path for name, path in (("A", arguments.eval_a), ("U", arguments.eval_u)) if path}
    if len(lists) == 1 or not (lists or arguments.trials):
        raise MissingError("--trials FILE (a labelled list), or both --eval-a FILE and --eval-u FILE for a submission")
    if lists and not (arguments.encoder or arguments.embeddings):
        raise MissingError("--encoder SPEC or --embeddings FILE: evaluation lists have no scores yet")
    require_against(arguments)
    system = with_back_end(system_of(arguments), arguments)
    name = system.encoder.name if system.encoder is not None else (arguments.scores or arguments.trials).stem
    folder = arguments.output_dir / file_name(name)
    with locked([folder]):
        if lists:
            cli.show(submit(lists, system, arguments, folder / "submission.zip"))
        if arguments.trials:
            cli.show(verified(system, arguments, folder, by_language=True))
    return cli.COMPLETE


def require_against(arguments: Namespace) -> None:
    """MissingError for --against-calibrate without what it belongs to."""
    if arguments.against_calibrate and not (arguments.against and arguments.calibrate):
        raise MissingError("--against-calibrate FILE belongs to --against FILE and --calibrate FILE; give all three.")


def submit(lists: Mapping[str, Path], system: System, arguments: Namespace, path: Path) -> str:
    """The ZIP of both evaluation lists, checked after it is written."""
    scores = {}
    for name, file in lists.items():
        trials = read_trials(file)
        with naming(shown_path(file)):
            scores[name], missing = system.scores(trials, arguments.audio_root or file.parent)
        require_complete(missing, arguments, file, may_be_left_out=False)  # a submission has a score for every trial
    write_together({path: evaluation.submission_bytes(scores)})
    counts = {name: len(found) for name, found in scores.items()}
    if broken := evaluation.check_submission(path, counts, scores):
        raise EarmarkError("\n  ".join([f"{shown_path(path)} breaks the rules:", *broken]))
    return f"{shown_path(path)}: {counts['A']:,} scores of eval A, {counts['U']:,} of eval U, checked."


def verified(system: System, arguments: Namespace, folder: Path, by_language: bool = False) -> str:
    """A labelled list, evaluated and written; returns the report."""
    trials = scored(arguments.trials, system, arguments)
    missing = np.isnan(np.asarray(trials.scores))
    left_out = {"without a score": int(missing.sum())}
    trials = trials.take(~missing)
    if arguments.no_self_trials:
        left_out["of a file against itself"] = int(trials.is_self.sum())
        trials = trials.take(~trials.is_self)
    trials = trials.compact()
    known = read_speakers(arguments.speakers) if arguments.speakers else None
    speakers = speakers_of(trials.names, speakers_of_models(trials, system, known))
    if speakers is not None and contradicted(trials, speakers):
        cli.warn(
            "The labels contradict the speakers (a target trial has two, or a non-target trial one): they are taken as "
            "not known. --speakers FILE maps utterances to them.",
            arguments,
        )
        speakers = None
    shared = shared_with_cohort(trials, speakers, arguments)
    with naming(shown_path(arguments.trials)):
        found = evaluate(
            trials,
            speakers,
            intervals=wants_intervals(arguments),
            p_target=arguments.p_target,
            watch=lambda groups, n: cli.progress(groups, arguments, total=n, what="jackknife", unit="group"),
        )
        extra = {
            "against": against(trials, speakers, found, system, arguments),
            "languages": languages(trials, speakers, arguments) if by_language else None,
        }
    summary = summarise(found, system, left_out, arguments, cohort_speakers_in_trials=shared, **extra)
    report, tables = render("trials.md.j2", s=summary.model_dump())
    curve = det_curve(roc(np.asarray(trials.scores), np.asarray(trials.labels)))
    contents: dict[Path, str | bytes | None] = {
        folder / "summary.json": to_json(summary),
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables),
        folder / "det.svg": det_chart({"": [curve]}),
        # Scores that came from a file are there already; those of an earlier run would be another system's.
        folder / "scores.csv.gz": None if system.encoder is None else to_csv_gz(trials.tables()),
    }
    write_together(contents)
    return report


def speakers_of_models(trials: Trials, system: System, known: dict[str, str] | None) -> dict[str, str] | None:
    """The map of speakers with those of enrolment models: the speaker of all their utterances, where there is one."""
    models = system.back_end.models
    if not models:
        return known
    of_utterances = known or dict(zip(trials.names, speakers_of(trials.names) or [], strict=False))
    found = dict(of_utterances)
    for model, utterances in models.items():
        speakers = set(speakers_of(utterances, known) or [])
        if model not in found and len(speakers) == 1:
            found |= {model: speakers.pop()}
    plain = [str(name) for name in trials.names if name not in models and name not in found]
    return found | dict(zip(plain, speakers_of(plain) or [], strict=False))


def shared_with_cohort(trials: Trials, speakers: Sequence[str] | None, arguments: Namespace) -> int | None:
    """How many of the cohort's speakers are in the trials too; a warning where there are any.

    0 without a cohort, None where nobody can tell since the trials' speakers are not known.
    """
    if not arguments.cohort:
        return 0
    both = cohort_in_trials(map(str, trials.names), speakers, read_speakers(arguments.cohort))
    if both:
        cli.warn(
            f"{len(both):,} speakers are in the cohort and in the trials ({', '.join(both[:3])}, …): their own scores "
            "look ordinary against themselves, and error rates come out wrong.",
            arguments,
        )
    return None if both is None else len(both)


def against(
    trials: Trials, speakers: list[str] | None, found: Verification, system: System, arguments: Namespace
) -> dict[str, Any] | None:
    """The other system on the same trials, and by how much this one differs.

    Where this system is calibrated, the other is calibrated on the same list (--against-calibrate), or metrics that
    depend on calibration are not compared.
    """
    if not arguments.against:
        return None
    scores, missing = scores_of_file(trials, arguments.against)
    require_complete(missing, arguments, arguments.against, may_be_left_out=False)
    calibrated = calibration_of_other(arguments) if arguments.against_calibrate else None
    if calibrated is not None:
        scores = calibrated(scores)
    intervals = wants_intervals(arguments)
    other = evaluate(trials.with_scores(scores), speakers, intervals=intervals, p_target=arguments.p_target)
    differences = compared(found, other)
    if (system.calibration is None) != (calibrated is None):
        for name in NEEDS_CALIBRATION:
            differences[name] = (Estimate(None, n=len(trials), why=ONE_IS_CALIBRATED), None)
    return {
        "name": arguments.against.name,
        "metrics": other.metrics,
        "differences": {name: difference for name, (difference, _) in differences.items()},
        "p_values": {name: p for name, (_, p) in differences.items()},
        "calibration": calibrated and {"scale": calibrated.scale, "offset": calibrated.offset},
    }


def calibration_of_other(arguments: Namespace) -> LinearCalibration:
    """What the other system's scores on the calibration list amount to."""
    labelled = read_trials(arguments.calibrate)
    scores, missing = scores_of_file(labelled, arguments.against_calibrate)
    require_complete(missing, arguments, arguments.against_calibrate, may_be_left_out=False)
    return fitted_calibration(labelled.with_scores(scores), arguments.against_calibrate)


def languages(trials: Trials, speakers: list[str] | None, arguments: Namespace) -> dict[str, Any]:
    """TidyVoice's breakdown, and the published baseline."""
    found = evaluation.breakdown(trials, speakers, arguments.p_target, intervals=wants_intervals(arguments))
    groups = [{key: None if value != value else value for key, value in vars(group).items()} for group in found.groups]
    return {
        "why": found.why,
        "groups": groups,
        "conditions": [vars(condition) for condition in found.conditions],
        "baseline": evaluation.facts()["baseline"],
    }


def summarise(
    found: Verification,
    system: System,
    left_out: Mapping[str, int],
    arguments: Namespace,
    cohort_speakers_in_trials: int | None,
    **extra: Any,
) -> SpeakerSummary:
    """summary.json: where the numbers came from, then the numbers."""
    flags = (
        *("trials", "scores", "embeddings", "against", "against_calibrate", "calibrate"),
        *("cohort", "enrolments", "speakers", "mean"),
    )
    given = [Path(value) for flag in flags if (value := getattr(arguments, flag))]
    inputs = {path: count_lines(path) for path in given if path.is_file()}
    inputs[arguments.trials] = found.counts["n_trials"] + sum(left_out.values())
    names = ("p_target", "no_self_trials", "allow_missing")
    fitted = system.calibration and {"scale": system.calibration.scale, "offset": system.calibration.offset}
    parameters = {key: getattr(arguments, key) for key in names} | {"intervals": wants_intervals(arguments)}
    described = system.back_end.description(arguments.mean) if system.encoder is not None else {"scores": "given"}
    back_end: dict[str, Any] = described | {"calibration": fitted}
    if system.calibration_pairs_in_trials:
        back_end["calibration_pairs_in_trials"] = system.calibration_pairs_in_trials
    return SpeakerSummary.extending(
        provenance(
            Invocation(arguments.script, tuple(arguments.argv), arguments.seed),
            device=device_of(system),
            inputs=inputs,
            parameters=parameters,
            exclusions=exclusions(left_out),
            signature=Signature.of(
                suite="tidyvoice" if arguments.tell is tell_tidyvoice else "trials",
                protocol="earmark",
                metric="eer",
                ci=SIGNED[found.speakers] if parameters["intervals"] else "none",
                seed=arguments.seed,
                parameters=parameters_hash(parameters | back_end),
                data=data_hash(list(inputs)),
                **({"model": system.encoder.identity} if system.encoder is not None else {}),
            ),
        ),
        **found.counts,
        resampled=found.resampled,
        units=str(found.speakers),
        threshold=found.threshold,
        metrics=found.metrics,
        encoder=system.encoder.description if system.encoder is not None else {},
        back_end=back_end | {"cohort_speakers_in_trials": cohort_speakers_in_trials},
        **extra,
    )


def count_lines(path: Path) -> int:
    """Lines of a text file; 0 of any other."""
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        first = next(blocks, b"")
        return 0 if b"\0" in first or path.suffix == ".gz" else first.count(b"\n") + sum(b.count(b"\n") for b in blocks)
