"""`evaluate_speaker.py trials` and `tidyvoice`: any trial list, and TidyVoice's breakdown and submission."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.detection import METRICS, det_curve, roc
from earmark.metrics.detection_intervals import Difference
from earmark.metrics.estimate import Estimate
from earmark.report.plots import det_chart
from earmark.report.provenance import data_hash, exclusions, file_name, hashed, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv_gz, to_tex
from earmark.speaker.back_end import cohort_in_trials
from earmark.speaker.evaluation import SpeakerSource, Verification, compared, evaluate
from earmark.speaker.options import EvaluationLists, TidyVoiceOptions, TrialsOptions
from earmark.speaker.schema import Against, Calibration, Languages, SpeakerSummary
from earmark.speaker.system import System, naming, require_complete, scores_of_file
from earmark.speaker.system_from_options import fitted_calibration, scored, warn_of_bootstrap, whole_system
from earmark.speaker.tidyvoice.evaluation import breakdown
from earmark.speaker.tidyvoice.submission import check_submission, submission_bytes
from earmark.speaker.trial_files import read_speakers, read_trials
from earmark.speaker.trials import Trials, contradicted, speakers_of

TRIALS, TIDYVOICE = "trials", "tidyvoice"  # suites, as signatures name them
ONE_IS_CALIBRATED = (
    "one system is calibrated and the other is not; --against-calibrate FILE gives the other's scores on the "
    "calibration list"
)
SIGNED = {
    SpeakerSource.SPEAKERS: "speaker-dyadic",
    SpeakerSource.LINKED: "linked-utterance-dyadic",
    SpeakerSource.UTTERANCES: "utterance-dyadic",
}


@dataclass(frozen=True)
class EvaluatedList:
    """A list, its speakers where they are known, and what it amounts to.

    left_out: {reason: trials}. cohort_speakers: of the cohort, in the trials too; None where nobody can tell.
    """

    trials: Trials
    speakers: list[str] | None
    left_out: dict[str, int]
    cohort_speakers: int | None
    found: Verification
    against: Against | None
    languages: Languages | None


def run_trials(options: TrialsOptions, invocation: Invocation) -> int:
    """Any list, evaluated."""
    warn_of_bootstrap(options.statistics, invocation)
    require_against(options)
    system = whole_system(options, invocation)
    with locked([options.output_dir]):
        cli.show(evaluate_list(TRIALS, system, options, options.output_dir, invocation))
    return cli.COMPLETE


def run_tidyvoice(options: TidyVoiceOptions, invocation: Invocation) -> int:
    """A labelled list by language, a submission of the evaluation lists, or both."""
    labelled, lists = options.labelled, options.evaluation.files
    warn_of_bootstrap(labelled.statistics, invocation)
    if len(lists) == 1 or not (lists or labelled.trials):
        raise MissingError("--trials FILE (a labelled list), or both --eval-a FILE and --eval-u FILE for a submission")
    if lists and not labelled.encoder_options.spec:
        raise MissingError("--encoder SPEC or --embeddings FILE: evaluation lists have no scores yet")
    require_against(labelled)
    system = whole_system(labelled, invocation)
    file = labelled.scores or labelled.trials
    name = system.encoder.name if system.encoder is not None else file.stem if file else ""
    folder = labelled.output_dir / file_name(name)
    with locked([folder]):
        if lists:
            cli.show(submit(options.evaluation, system, labelled.audio_root, folder / "submission.zip"))
        if labelled.trials:
            cli.show(evaluate_list(TIDYVOICE, system, labelled, folder, invocation))
    return cli.COMPLETE


def require_against(options: TrialsOptions) -> None:
    """MissingError for --against-calibrate without what it belongs to."""
    if options.against_calibrate and not (options.against and options.back_end.calibrate):
        raise MissingError("--against-calibrate FILE belongs to --against FILE and --calibrate FILE; give all three.")


def submit(lists: EvaluationLists, system: System, audio_root: Path | None, path: Path) -> str:
    """The ZIP of both evaluation lists, checked after it is written."""
    scores = {}
    for name, file in lists.files.items():
        trials, root = read_trials(file), audio_root or file.parent
        with naming(shown_path(file)):
            found = system.scores(trials, root)
        require_complete(found.missing, file, root=root)  # a submission has a score for every trial
        scores[name] = found.values
    write_together({path: submission_bytes(scores)})
    counts = {name: len(values) for name, values in scores.items()}
    if broken := check_submission(path, counts, scores):
        raise EarmarkError("\n  ".join([f"{shown_path(path)} breaks the rules:", *broken]))
    return f"{shown_path(path)}: {counts['A']:,} scores of eval A, {counts['U']:,} of eval U, checked."


# --- a labelled list ----------------------------------------------------------------------------------------


def evaluate_list(suite: str, system: System, options: TrialsOptions, folder: Path, invocation: Invocation) -> str:
    """The labelled list of --trials, evaluated and written; returns the report. suite: TIDYVOICE adds languages."""
    assert options.trials is not None
    every = scored(read_trials(options.trials), options.trials, system, options)
    trials, left_out = kept(every, without_self=options.no_self_trials)
    speakers = known_speakers(trials, system, options, invocation)
    shared = shared_with_cohort(trials, speakers, options.back_end.cohort, invocation)
    intervals, p_target = options.statistics.intervals, options.statistics.p_target
    with naming(shown_path(options.trials)):
        found = evaluate(
            trials,
            speakers,
            intervals=intervals,
            p_target=p_target,
            watch=lambda groups, n: invocation.progress(groups, total=n, what="jackknife", unit="group"),
        )
        against = compared_with_other(trials, speakers, found, system, options)
        languages = None
        if suite == TIDYVOICE:
            languages = breakdown(trials, speakers, p_target, intervals=intervals).summary
    evaluated = EvaluatedList(trials, speakers, left_out, shared, found, against, languages)
    summary = summarise(suite, evaluated, system, options, invocation)
    report, tables = render("trials.md.j2", s=summary)
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


def kept(trials: Trials, *, without_self: bool) -> tuple[Trials, dict[str, int]]:
    """The trials that are evaluated, and {reason: how many are left out}."""
    missing = np.isnan(np.asarray(trials.scores))
    left_out = {"without a score": int(missing.sum())}
    trials = trials.take(~missing)
    if without_self:
        left_out["of a file against itself"] = int(trials.is_self.sum())
        trials = trials.take(~trials.is_self)
    return trials.compact(), left_out


def known_speakers(trials: Trials, system: System, options: TrialsOptions, invocation: Invocation) -> list[str] | None:
    """The speaker of each of the list's utterances; None where they are not known, or the labels contradict them."""
    known = read_speakers(options.speakers) if options.speakers else None
    speakers = speakers_of(trials.names, speakers_of_models(trials, system, known))
    if speakers is None or not contradicted(trials, speakers):
        return speakers
    invocation.warn(
        "The labels contradict the speakers (a target trial has two, or a non-target trial one): they are taken as "
        "not known. --speakers FILE maps utterances to them."
    )
    return None


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


def shared_with_cohort(
    trials: Trials, speakers: Sequence[str] | None, cohort: Path | None, invocation: Invocation
) -> int | None:
    """How many of the cohort's speakers are in the trials too; a warning where there are any.

    0 without a cohort, None where nobody can tell since the trials' speakers are not known.
    """
    if not cohort:
        return 0
    both = cohort_in_trials(map(str, trials.names), speakers, read_speakers(cohort))
    if both:
        invocation.warn(
            f"{len(both):,} speakers are in the cohort and in the trials ({', '.join(both[:3])}, …): their own scores "
            "look ordinary against themselves, and error rates come out wrong."
        )
    return None if both is None else len(both)


def compared_with_other(
    trials: Trials, speakers: list[str] | None, found: Verification, system: System, options: TrialsOptions
) -> Against | None:
    """The other system on the same trials, and by how much this one differs.

    Where this system is calibrated, the other is calibrated on the same list (--against-calibrate), or metrics that
    depend on calibration are not compared.
    """
    if not options.against:
        return None
    scores = complete_scores(trials, options.against)
    calibrated = calibration_of_other(options)
    if calibrated is not None:
        scores = scores.with_scores(calibrated(np.asarray(scores.scores)))
    statistics = options.statistics
    other = evaluate(scores, speakers, intervals=statistics.intervals, p_target=statistics.p_target)
    differences = compared(found, other)
    if (system.calibration is None) != (calibrated is None):
        none = Difference(Estimate(None, n=len(trials), why=ONE_IS_CALIBRATED), None)
        differences |= {name: none for name in differences if METRICS[name].of_ratios}
    return Against(
        name=options.against.name,
        metrics=other.metrics,
        differences={name: difference.estimate for name, difference in differences.items()},
        p_values={name: difference.p for name, difference in differences.items()},
        calibration=Calibration.of(calibrated),
    )


def complete_scores(trials: Trials, path: Path) -> Trials:
    """The list with the scores of a file, which has to hold all of them."""
    found = scores_of_file(trials, path)
    require_complete(found.missing, path)
    return trials.with_scores(found.values)


def calibration_of_other(options: TrialsOptions) -> LinearCalibration | None:
    """What the other system's scores on the calibration list amount to, where they are given."""
    if not (options.against_calibrate and options.back_end.calibrate):
        return None
    labelled = complete_scores(read_trials(options.back_end.calibrate), options.against_calibrate)
    return fitted_calibration(labelled, options.against_calibrate)


def summarise(
    suite: str, evaluated: EvaluatedList, system: System, options: TrialsOptions, invocation: Invocation
) -> SpeakerSummary:
    """summary.json: where the numbers came from, then the numbers."""
    found, encoder = evaluated.found, system.encoder
    rows = {path: count_lines(path) for path in options.inputs}
    if options.trials:
        rows[options.trials] = found.counts.n_trials + sum(evaluated.left_out.values())
    inputs = hashed(rows)
    back_end = system.summary(options.back_end.mean, evaluated.cohort_speakers)
    return SpeakerSummary.extending(
        provenance(
            invocation,
            device=system.device,
            inputs=inputs,
            parameters=options.parameters,
            exclusions=exclusions(evaluated.left_out),
            signature=Signature.of(
                suite=suite,
                protocol="earmark",
                metric="eer",
                ci=SIGNED[found.speakers] if options.statistics.intervals else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters | back_end.parameters),
                data=data_hash(inputs),
                **({"model": encoder.identity} if encoder is not None else {}),
            ),
        ),
        **asdict(found.counts),
        resampled=found.resampled,
        units=str(found.speakers),
        threshold=found.threshold,
        metrics=found.metrics,
        encoder=encoder.description if encoder is not None else {},
        back_end=back_end,
        against=evaluated.against,
        languages=evaluated.languages,
    )


def count_lines(path: Path) -> int:
    """Lines of a text file; 0 of any other."""
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        first = next(blocks, b"")
        return 0 if b"\0" in first or path.suffix == ".gz" else first.count(b"\n") + sum(b.count(b"\n") for b in blocks)
