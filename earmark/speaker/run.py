"""`evaluate_speaker.py trials` and `tidyvoice`: any trial list, and TidyVoice's breakdown and submission."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.files.runs import Content, runs_folder
from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.detection import METRICS, det_curve, roc
from earmark.metrics.detection_intervals import Difference
from earmark.metrics.estimate import Estimate
from earmark.report.plots import det_chart
from earmark.report.provenance import data_hash, exclusions, input_records, parameters_hash, provenance, shown_text
from earmark.report.render import render
from earmark.report.schema import Input, to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv_gz, to_tex
from earmark.speaker.back_end import find_cohort_speakers
from earmark.speaker.evaluation import (
    SpeakerSource,
    VerificationResult,
    compare_systems,
    evaluate,
    reversed_score_notes,
)
from earmark.speaker.options import EvaluationLists, TidyVoiceOptions, TrialsOptions
from earmark.speaker.saved_runs import save_run, system_name, system_state
from earmark.speaker.schema import Calibration, ComparedSystem, LanguageBreakdown, SpeakerSummary
from earmark.speaker.speakers import SpeakerOrigin, Speakers, resolve_speakers
from earmark.speaker.system import System, prefixed_errors, require_complete, scores_from_file
from earmark.speaker.system_from_options import (
    InputLists,
    add_scores,
    fit_calibration,
    prepare_system,
    warn_bootstrap_ignored,
)
from earmark.speaker.tidyvoice.evaluation import language_breakdown
from earmark.speaker.tidyvoice.submission import check_submission, submission_bytes
from earmark.speaker.trials import Trials

TRIALS, TIDYVOICE = "trials", "tidyvoice"  # suites, as signatures name them
ONLY_ONE_CALIBRATED = (
    "one system is calibrated and the other is not; --compare-with-calibration FILE gives the other's scores on the "
    "calibration list"
)
SUBMISSION = "submission.zip"
OUTPUT_FILES = ("summary.json", "report.md", "report.tex", "det.svg", "scores.csv.gz", SUBMISSION)  # what a run writes
INTERVAL_METHODS = {
    SpeakerSource.SPEAKERS: "speaker-dyadic",
    SpeakerSource.LINKED: "linked-utterance-dyadic",
    SpeakerSource.UTTERANCES: "utterance-dyadic",
}


@dataclass(frozen=True)
class EvaluatedList:
    """A list, its speakers where they are known, and what it amounts to.

    left_out: {reason: trials}. cohort_speakers: of the cohort, in the trials too; None where nobody can tell. notes:
    what the user was warned about.
    """

    trials: Trials
    speakers: Speakers
    notes: tuple[str, ...]
    left_out: dict[str, int]
    cohort_speakers: int | None
    found: VerificationResult
    against: ComparedSystem | None
    languages: LanguageBreakdown | None


@dataclass(frozen=True)
class EvaluatedRun:
    """What is written of an evaluated list. contents: {file below its folder: content}. state: of the system."""

    report: str
    contents: dict[str, Content]
    state: str


def run_trials(options: TrialsOptions, invocation: Invocation) -> int:
    """Any list, evaluated."""
    warn_bootstrap_ignored(options.statistics, invocation)
    require_comparison_flags(options)
    system, lists = prepare_system(options, invocation)
    name, folder = system_name(system, options), options.output_dir
    with locked([folder]):
        found = evaluate_list(TRIALS, system, lists, options, invocation)
        save_run(folder, found.contents, invocation, suite=TRIALS, name=name, state=found.state, owned=OUTPUT_FILES)
        cli.show(found.report)
    return cli.COMPLETE


def run_tidyvoice(options: TidyVoiceOptions, invocation: Invocation) -> int:
    """A labelled list by language, a submission of the evaluation lists, or both."""
    labelled, evaluation = options.labelled, options.evaluation
    warn_bootstrap_ignored(labelled.statistics, invocation)
    if len(evaluation.files) == 1 or not (evaluation.files or labelled.trials):
        raise MissingError("--trials FILE (a labelled list), or both --eval-a FILE and --eval-u FILE for a submission")
    if evaluation.files and not labelled.encoder_options.spec:
        raise MissingError("--encoder SPEC or --embeddings FILE: evaluation lists have no scores yet")
    require_comparison_flags(labelled)
    system, lists = prepare_system(labelled, invocation, evaluation)
    name = system_name(system, labelled)
    folder = labelled.output_dir / name
    runs = runs_folder(labelled.output_dir)
    with locked([folder]):
        submission: dict[str, Content] = {}
        if evaluation.files:
            submission = write_submission(evaluation, lists, system, labelled.audio_root, folder / SUBMISSION)
            # In a folder of its own: an evaluation of the same system afterwards leaves it there.
            save_run(folder, submission, invocation, suite=f"{TIDYVOICE}/submission", name=name, runs=runs,
                 state=system_state(system, labelled, {}), owned=())  # fmt: skip
        if labelled.trials:
            found = evaluate_list(TIDYVOICE, system, lists, labelled, invocation)
            save_run(folder, found.contents | submission, invocation, suite=TIDYVOICE, name=name, runs=runs,
                 state=found.state, owned=OUTPUT_FILES)  # fmt: skip
            cli.show(found.report)
    return cli.COMPLETE


def require_comparison_flags(options: TrialsOptions) -> None:
    """MissingError for --compare-with-calibration without what it belongs to."""
    if options.compare_with_calibration and not (options.compare_with and options.back_end.calibrate):
        raise MissingError(
            "--compare-with-calibration FILE belongs to --compare-with FILE and --calibrate FILE; give all three."
        )


def write_submission(
    evaluation: EvaluationLists, lists: InputLists, system: System, audio_root: Path | None, path: Path
) -> dict[str, Content]:
    """The ZIP of both evaluation lists, checked after it is written; returns {its name: its bytes}."""
    scores = {}
    for name, trials in lists.evaluation.items():
        file = evaluation.files[name]
        root = audio_root or file.parent
        with prefixed_errors(shown_path(file)):
            found = system.scores(trials, root)
        require_complete(found.missing, file, root=root)  # a submission has a score for every trial
        scores[name] = found.values
    packed = submission_bytes(scores)
    write_together({path: packed})
    counts = {name: len(values) for name, values in scores.items()}
    if broken := check_submission(path, counts, scores):
        raise EarmarkError("\n  ".join([f"{shown_path(path)} breaks the rules:", *broken]))
    cli.show(f"{shown_path(path)}: {counts['A']:,} scores of eval A, {counts['U']:,} of eval U, checked.")
    return {path.name: packed}


# --- a labelled list ----------------------------------------------------------------------------------------


def evaluate_list(
    suite: str, system: System, lists: InputLists, options: TrialsOptions, invocation: Invocation
) -> EvaluatedRun:
    """The labelled list of --trials, evaluated. suite: TIDYVOICE adds languages."""
    assert options.trials is not None and lists.trials is not None
    every, notes = add_scores(lists.trials, options.trials, system, options)
    trials, left_out = exclude_trials(every, without_self=options.no_self_trials)
    speakers = resolve_speakers(trials, options.speakers, system.back_end.models)
    shared = count_cohort_overlap(trials, speakers.names, lists.cohort, invocation)
    intervals, p_target = options.statistics.intervals, options.statistics.p_target
    with prefixed_errors(shown_path(options.trials)):
        found = evaluate(
            trials,
            speakers.names,
            intervals=intervals,
            p_target=p_target,
            track_progress=lambda groups, n: invocation.progress(groups, total=n, label="jackknife", unit="group"),
        )
        against, notes_on_other = compare_with_other_system(trials, speakers.names, found, system, lists, options)
        languages = None
        if suite == TIDYVOICE:
            languages = language_breakdown(trials, speakers.names, p_target, intervals=intervals).summary
    curve = roc(np.asarray(trials.scores), np.asarray(trials.labels))
    source = shown_path(options.score_file) if system.encoder is None and options.score_file else "the scores"
    distances = reversed_score_notes(curve, found.counts.n_target, found.counts.n_nontarget, source)
    notes = (*speakers.notes, *notes, *distances, *notes_on_other)
    for note in notes:
        invocation.warn(note)
    evaluated = EvaluatedList(trials, speakers, notes, left_out, shared, found, against, languages)
    inputs = hashed_inputs(evaluated, options)
    summary = summarise(suite, evaluated, inputs, system, options, invocation)
    report, tables = render("trials.md.j2", s=summary)
    contents: dict[str, Content] = {
        "summary.json": to_json(summary),
        "report.md": report,
        "report.tex": to_tex(tables),
        "det.svg": det_chart({"": [det_curve(curve)]}),
    }
    if system.encoder is not None:  # scores that came from a file are there already
        contents["scores.csv.gz"] = to_csv_gz(trials.tables())
    hashes = {path: one.sha256 for path, one in inputs.items()}
    return EvaluatedRun(report, contents, system_state(system, options, hashes))


def exclude_trials(trials: Trials, *, without_self: bool) -> tuple[Trials, dict[str, int]]:
    """The trials that are evaluated, and {reason: how many are left out}."""
    missing = np.isnan(np.asarray(trials.scores))
    left_out = {"without a score": int(missing.sum())}
    trials = trials.take(~missing)
    if without_self:
        left_out["of a file against itself"] = int(trials.is_self.sum())
        trials = trials.take(~trials.is_self)
    return trials.compact(), left_out


def count_cohort_overlap(
    trials: Trials, speakers: Sequence[str] | None, cohort: Mapping[str, str] | None, invocation: Invocation
) -> int | None:
    """How many of the cohort's speakers are in the trials too; a warning where there are any.

    0 without a cohort, None where nobody can tell since the trials' speakers are not known.
    """
    if not cohort:
        return 0
    both = find_cohort_speakers(map(str, trials.names), speakers, cohort)
    if both:
        invocation.warn(
            f"{len(both):,} speakers are in the cohort and in the trials ({', '.join(both[:3])}, …): their own scores "
            "look ordinary against themselves, and error rates come out wrong."
        )
    return None if both is None else len(both)


def compare_with_other_system(
    trials: Trials,
    speakers: list[str] | None,
    found: VerificationResult,
    system: System,
    lists: InputLists,
    options: TrialsOptions,
) -> tuple[ComparedSystem | None, tuple[str, ...]]:
    """The other system on the same trials, by how much this one differs, and what the user should know of its scores.

    Where this system is calibrated, the other is calibrated on the same list (--compare-with-calibration), or metrics
    that depend on calibration are not compared.
    """
    if not options.compare_with:
        return None, ()
    scores, notes = complete_scores(trials, options.compare_with)
    curve, counts = roc(np.asarray(scores.scores), np.asarray(scores.labels)), found.counts
    notes += reversed_score_notes(curve, counts.n_target, counts.n_nontarget, shown_path(options.compare_with))
    calibrated = calibration_of_other(lists, options)
    if calibrated is not None:
        scores = scores.with_scores(calibrated(np.asarray(scores.scores)))
    statistics = options.statistics
    other = evaluate(scores, speakers, intervals=statistics.intervals, p_target=statistics.p_target)
    differences = compare_systems(found, other)
    if (system.calibration is None) != (calibrated is None):
        none = Difference(Estimate(None, n=len(trials), why=ONLY_ONE_CALIBRATED), None)
        differences |= {name: none for name in differences if METRICS[name].needs_llr}
    against = ComparedSystem(
        name=options.compare_with.name,
        metrics=other.metrics,
        differences={name: difference.estimate for name, difference in differences.items()},
        p_values={name: difference.p for name, difference in differences.items()},
        calibration=Calibration.from_fit(calibrated),
    )
    return against, notes


def complete_scores(trials: Trials, path: Path) -> tuple[Trials, tuple[str, ...]]:
    """The list with the scores of a file, which has to hold all of them, and what the user should know of them."""
    found = scores_from_file(trials, path)
    require_complete(found.missing, path)
    return trials.with_scores(found.values), found.notes


def calibration_of_other(lists: InputLists, options: TrialsOptions) -> LinearCalibration | None:
    """What the other system's scores on the calibration list amount to, where they are given."""
    if not options.compare_with_calibration or lists.calibration is None:
        return None
    labelled, _ = complete_scores(lists.calibration, options.compare_with_calibration)
    return fit_calibration(labelled, options.compare_with_calibration)


def hashed_inputs(evaluated: EvaluatedList, options: TrialsOptions) -> dict[Path, Input]:
    """Every file that was read, with its hash and how many rows it has."""
    rows = {path: count_lines(path) for path in options.inputs}
    if options.trials:
        rows[options.trials] = evaluated.found.counts.n_trials + sum(evaluated.left_out.values())
    return dict(zip(rows, input_records(rows), strict=True))


def speaker_origins(evaluated: EvaluatedList) -> dict[str, int]:
    """{what says whose utterances are: how many of them}."""
    if evaluated.speakers.names is not None:
        return {str(origin): n for origin, n in evaluated.speakers.origins.items()}
    linked = evaluated.found.speakers == SpeakerSource.LINKED
    return {str(SpeakerOrigin.LINKED if linked else SpeakerOrigin.ITSELF): len(evaluated.trials.names)}


def summarise(
    suite: str,
    evaluated: EvaluatedList,
    read: Mapping[Path, Input],
    system: System,
    options: TrialsOptions,
    invocation: Invocation,
) -> SpeakerSummary:
    """summary.json: where the numbers came from, then the numbers. read: the files, as `hashed_inputs` has them."""
    found, encoder, inputs = evaluated.found, system.encoder, list(read.values())
    back_end = system.summary(options.back_end, evaluated.cohort_speakers)
    return SpeakerSummary.from_common(
        provenance(
            invocation,
            device=system.device,
            inputs=inputs,
            parameters=options.parameters,
            exclusions=exclusions(evaluated.left_out),
            signature=Signature.from_parts(
                suite=suite,
                protocol="earmark",
                metric="eer",
                ci=INTERVAL_METHODS[found.speakers] if options.statistics.intervals else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters | back_end.parameters),
                data=data_hash(inputs),
                **({"model": encoder.identity} if encoder is not None else {}),
            ),
        ),
        **asdict(found.counts),
        resampled=found.resampled,
        units=str(found.speakers),
        speakers_from=speaker_origins(evaluated),
        notes=[shown_text(note) for note in evaluated.notes],
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
