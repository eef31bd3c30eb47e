"""Commands `trials` and `tidyvoice` of `evaluate_speaker.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.files.hashing import file_hash
from earmark.files.runs import Content, runs_folder
from earmark.metrics.calibration import LinearCalibration
from earmark.metrics.detection import METRICS, Roc, det_curve, roc
from earmark.metrics.detection_intervals import Difference
from earmark.metrics.estimate import Estimate
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.report.hub import HUB_FILES, HubResult, HubTask, hub_files
from earmark.report.page import page
from earmark.report.plots import det_chart
from earmark.report.provenance import data_hash, exclusions, input_records, parameters_hash, provenance, shown_text
from earmark.report.render import render
from earmark.report.schema import Input, to_json
from earmark.report.signature import Signature
from earmark.report.tables import compressed
from earmark.report.tex import to_tex
from earmark.report.trackers import FinishedRun, log_run, require_trackers
from earmark.speaker.back_end import find_cohort_speakers
from earmark.speaker.conditions import (
    LANGUAGE,
    PATHS,
    AttributeSources,
    condition_breakdown,
    read_languages,
    read_utterance_table,
)
from earmark.speaker.evaluation import (
    SpeakerSource,
    VerificationResult,
    compare_systems,
    evaluate,
    reversed_score_notes,
)
from earmark.speaker.keys import with_key
from earmark.speaker.operating_points import NamedThresholds, choose_operating_points, read_thresholds, transferred
from earmark.speaker.options import EvaluationLists, TidyVoiceOptions, TrialsOptions
from earmark.speaker.page import hardest_trials, verification_figures
from earmark.speaker.saved_runs import SPEAKERS_FILE, save_run, speakers_table, system_name, system_state
from earmark.speaker.schema import (
    Calibration,
    ComparedSystem,
    ConditionBreakdown,
    LanguageBreakdown,
    OperatingPointSummary,
    SpeakerSummary,
    TransferredThresholds,
    TrialDesign,
)
from earmark.speaker.speakers import SpeakerOrigin, Speakers, resolve_speakers, resolve_speakers_of_other_labels
from earmark.speaker.system import System, prefixed_errors, require_complete, scores_from_file
from earmark.speaker.system_from_options import (
    InputLists,
    add_scores,
    fit_calibration,
    prepare_system,
    warn_bootstrap_ignored,
)
from earmark.speaker.tidyvoice.evaluation import language_breakdown
from earmark.speaker.tidyvoice.keyed import EVALUATION_FILES, evaluate_keyed, read_submission
from earmark.speaker.tidyvoice.ranking import published_kinds
from earmark.speaker.tidyvoice.submission import check_submission, submission_bytes
from earmark.speaker.trial_design import check_trial_design, read_file_facts
from earmark.speaker.trials import FloatArray, Trials

TRIALS, TIDYVOICE = "trials", "tidyvoice"  # names of suites in signatures
ONLY_ONE_CALIBRATED = (
    "only one of the systems is calibrated; use --compare-with-calibration FILE for the scores of the other system on "
    "the calibration list"
)
SUBMISSION = "submission.zip"
OUTPUT_FILES = (
    "summary.json",
    "report.md",
    "report.tex",
    "det.svg",
    "scores.csv.gz",
    SPEAKERS_FILE,
    "report.html",
    "figures/*.*",
    *HUB_FILES,
    SUBMISSION,
    *EVALUATION_FILES,
)  # files of a run
INTERVAL_METHODS = {  # names in signatures
    SpeakerSource.SPEAKERS: "speaker-dyadic",
    SpeakerSource.LINKED: "linked-utterance-dyadic",
    SpeakerSource.UTTERANCES: "utterance-dyadic",
}


@dataclass(frozen=True)
class EvaluatedList:
    """A trial list and its results.

    Attributes
    ----------
    trials : Trials
        The evaluated trials, with scores.
    speakers : Speakers
    notes : tuple of str
        Warnings that concern the metrics.
    excluded : dict
        {reason: number of excluded trials}.
    cohort_speakers : int or None
        Number of cohort speakers that are also in the trials; None if unknown.
    result : VerificationResult
    against : ComparedSystem or None
        The system of --compare-with.
    languages : LanguageBreakdown or None
        Only for TidyVoice.
    by_condition : list of ConditionBreakdown
    design : TrialDesign
    operating_points : list of OperatingPointSummary
    transferred : TransferredThresholds or None
        The thresholds of --threshold-from.
    """

    trials: Trials
    speakers: Speakers
    notes: tuple[str, ...]
    excluded: dict[str, int]
    cohort_speakers: int | None
    result: VerificationResult
    against: ComparedSystem | None
    languages: LanguageBreakdown | None
    by_condition: list[ConditionBreakdown]
    design: TrialDesign
    operating_points: list[OperatingPointSummary]
    transferred: TransferredThresholds | None


@dataclass(frozen=True)
class EvaluatedRun:
    """Output of an evaluated list.

    Attributes
    ----------
    report : str
        Markdown.
    contents : dict
        {file below the output folder: its content}.
    state : str
        Identity of the system, as returned by `saved_runs.system_state`.
    summary : SpeakerSummary
    """

    report: str
    contents: dict[str, Content]
    state: str
    summary: SpeakerSummary

    def finished(self, suite: str, saved: Path) -> FinishedRun:
        """The run for experiment trackers, with its files in a folder."""
        return FinishedRun(self.summary.model_name, suite, [hub_task(suite, self.summary)], self.summary, saved)


def run_trials(options: TrialsOptions, invocation: Invocation) -> int:
    """Evaluate a system on a trial list; returns the exit code."""
    require_trackers(options.trackers)
    warn_bootstrap_ignored(options.statistics, invocation)
    require_comparison_flags(options)
    system, lists = prepare_system(options, invocation)
    name, folder = system_name(system, options), options.output_dir
    with locked([folder]):
        run = evaluate_list(TRIALS, system, lists, options, invocation)
        saved = save_run(folder, run.contents, invocation, suite=TRIALS, name=name, state=run.state, owned=OUTPUT_FILES)
        cli.show(run.report)
    log_run(options.trackers, run.finished(TRIALS, saved), invocation)
    return cli.COMPLETE


def run_tidyvoice(options: TidyVoiceOptions, invocation: Invocation) -> int:
    """Evaluate a labelled list by language, write a submission, or both; returns the exit code."""
    labelled, evaluation = options.labelled, options.evaluation
    require_trackers(labelled.trackers)
    warn_bootstrap_ignored(labelled.statistics, invocation)
    if len(evaluation.files) == 1 or not (evaluation.files or labelled.trials):
        raise MissingError(
            "Use --trials FILE for a labelled list, or both --eval-a FILE and --eval-u FILE for a submission."
        )
    if (labelled.dataset_id or labelled.trackers.log) and not labelled.trials:
        flag = "--dataset-id" if labelled.dataset_id else "--log"
        raise MissingError(f"{flag} needs --trials FILE: without labels, there are no results.")
    require_evaluation_flags(evaluation, labelled)
    if evaluation.submission and not labelled.model_name and not labelled.encoder_options.spec:
        labelled = replace(labelled, model_name=evaluation.submission.stem)
    require_comparison_flags(labelled)
    system, lists = prepare_system(labelled, invocation, evaluation)
    name = system_name(system, labelled)
    folder = labelled.output_dir / name
    runs = runs_folder(labelled.output_dir)
    finished = None
    with locked([folder]):
        submission: dict[str, Content] = {}
        if evaluation.files:
            submission = evaluation_contents(folder, system, lists, labelled, evaluation, invocation)
            # Saved in a separate folder, which later evaluations of the system do not replace.
            save_run(folder, submission, invocation, suite=f"{TIDYVOICE}/submission", name=name, runs=runs,
                 state=submission_state(evaluation, system, labelled), owned=())  # fmt: skip
        if labelled.trials:
            run = evaluate_list(TIDYVOICE, system, lists, labelled, invocation)
            saved = save_run(folder, run.contents | submission, invocation, suite=TIDYVOICE, name=name, runs=runs,
                 state=run.state, owned=OUTPUT_FILES)  # fmt: skip
            cli.show(run.report)
            finished = run.finished(TIDYVOICE, saved)
    if finished is not None:
        log_run(labelled.trackers, finished, invocation)
    return cli.COMPLETE


def evaluation_contents(
    folder: Path,
    system: System,
    lists: InputLists,
    options: TrialsOptions,
    evaluation: EvaluationLists,
    invocation: Invocation,
) -> dict[str, Content]:
    """Score the evaluation lists, write a submission, and evaluate the lists that have a key.

    Parameters
    ----------
    folder : Path
        Folder of the run, where the submission is written. It is not written if the scores come from one.
    system : System
    lists : InputLists
    options : TrialsOptions
    evaluation : EvaluationLists
    invocation : Invocation

    Returns
    -------
    dict
        {file: its content}: the submission, and EVALUATION_FILES if there is a key.

    Raises
    ------
    EarmarkError
        If a key does not fit its list, a score is missing, or the submission is invalid.
    """
    keyed = keyed_lists(evaluation, lists, options)
    contents: dict[str, Content] = {}
    if evaluation.submission:
        scores = read_submission(evaluation.submission, lists.evaluation)
    else:
        scores = score_evaluation_lists(evaluation, lists, system, options.audio_root)
        contents = write_submission(scores, folder / SUBMISSION)
    if keyed.lists:
        report, files = evaluate_keyed(
            system_name(system, options),
            {which: trials.with_scores(scores[which]) for which, trials in keyed.lists.items()},
            evaluation,
            keyed.attributes,
            options,
            invocation,
            identity=submission_state(evaluation, system, options),
        )
        contents |= files
        cli.show(report)
    return contents


def require_evaluation_flags(evaluation: EvaluationLists, labelled: TrialsOptions) -> None:
    """Raise MissingError if the evaluation lists cannot be scored, or keys have no list."""
    if evaluation.files and not (labelled.encoder_options.spec or evaluation.submission):
        raise MissingError("A submission needs --encoder SPEC or --embeddings FILE.")
    if (evaluation.keys or evaluation.submission) and not evaluation.files:
        raise MissingError("--key-a, --key-u and --submission need both --eval-a FILE and --eval-u FILE.")
    if evaluation.submission and not evaluation.keys:
        raise MissingError("--submission ZIP needs --key-a FILE or --key-u FILE. To check its format, use `check`.")
    absent = [path for path in (*evaluation.keys.values(), evaluation.submission) if path and not path.exists()]
    if absent:
        raise EarmarkError("\n  ".join(["input files do not exist:", *map(shown_path, absent)]))


@dataclass(frozen=True)
class KeyedLists:
    """Evaluation lists with their labels, and where the languages of their utterances come from."""

    lists: dict[str, Trials]
    attributes: dict[str, AttributeSources]


def keyed_lists(evaluation: EvaluationLists, lists: InputLists, options: TrialsOptions) -> KeyedLists:
    """Join the evaluation lists with their keys; EarmarkError if a key does not fit its list."""
    keyed = {
        which: with_key(lists.evaluation[which], evaluation.files[which], path)
        for which, path in evaluation.keys.items()
    }
    languages = replace(options, condition=())
    return KeyedLists(keyed, {which: read_attributes(trials, languages, TIDYVOICE) for which, trials in keyed.items()})


def submission_state(evaluation: EvaluationLists, system: System, options: TrialsOptions) -> str:
    """Identity of the system that scored the evaluation lists."""
    if evaluation.submission:
        return f"submission {file_hash(evaluation.submission)}"
    return system_state(system, options, {})


def require_comparison_flags(options: TrialsOptions) -> None:
    """Raise MissingError if --compare-with-calibration is used without --compare-with and --calibrate."""
    if options.compare_with_calibration and not (options.compare_with and options.back_end.calibrate):
        raise MissingError("--compare-with-calibration FILE requires --compare-with FILE and --calibrate FILE.")


def score_evaluation_lists(
    evaluation: EvaluationLists, lists: InputLists, system: System, audio_root: Path | None
) -> dict[str, FloatArray]:
    """Score both evaluation lists.

    Parameters
    ----------
    evaluation : EvaluationLists
        Files of the lists.
    lists : InputLists
    system : System
    audio_root : Path or None
        Folder of the audio; the folder of each list by default.

    Returns
    -------
    dict
        {A or U: (n,) scores}.

    Raises
    ------
    EarmarkError
        If a score is missing.
    """
    scores = {}
    for name, trials in lists.evaluation.items():
        file = evaluation.files[name]
        root = audio_root or file.parent
        with prefixed_errors(shown_path(file)):
            result = system.scores(trials, root)
        require_complete(result.missing, file, root=root)  # a submission needs a score for every trial
        scores[name] = result.values
    return scores


def write_submission(scores: Mapping[str, FloatArray], path: Path) -> dict[str, Content]:
    """Write a submission and validate the written file.

    Parameters
    ----------
    scores : mapping
        {A or U: (n,) scores}.
    path : Path
        The ZIP to write.

    Returns
    -------
    dict
        {name of the ZIP: its bytes}.

    Raises
    ------
    EarmarkError
        If the submission is invalid.
    """
    archive = submission_bytes(scores)
    write_together({path: archive})
    counts = {name: len(values) for name, values in scores.items()}
    if violations := check_submission(path, counts, scores):
        raise EarmarkError("\n  ".join([f"{shown_path(path)}: invalid submission:", *violations]))
    cli.show(
        f"{shown_path(path)}: valid submission with {counts['A']:,} scores of eval A and {counts['U']:,} of eval U."
    )
    return {path.name: archive}


# --- labelled lists -----------------------------------------------------------------------------------------


def evaluate_list(
    suite: str, system: System, lists: InputLists, options: TrialsOptions, invocation: Invocation
) -> EvaluatedRun:
    """Evaluate the labelled list of --trials.

    Parameters
    ----------
    suite : str
        `TRIALS` or `TIDYVOICE`; the latter adds results by language.
    system : System
    lists : InputLists
    options : TrialsOptions
    invocation : Invocation

    Returns
    -------
    EvaluatedRun
        The files of the run; not written yet.

    Raises
    ------
    EarmarkError
        If scores or embeddings are missing or invalid, or there are no targets or no non-targets.
    """
    evaluated = evaluate_trials(suite, system, lists, options, invocation)
    for note in evaluated.notes:
        invocation.warn(note)
    inputs = hashed_inputs(evaluated, options)
    summary = summarise(suite, evaluated, inputs, system, options, invocation)
    report, contents = list_contents(suite, evaluated, summary, system, options)
    hashes = {path: file.sha256 for path, file in inputs.items()}
    return EvaluatedRun(report, contents, system_state(system, options, hashes), summary)


def evaluate_trials(
    suite: str, system: System, lists: InputLists, options: TrialsOptions, invocation: Invocation
) -> EvaluatedList:
    """Score the labelled list and compute all results; parameters and errors as for `evaluate_list`."""
    assert options.trials is not None and lists.trials is not None
    thresholds = thresholds_of_other_run(system, options)
    sources = read_attributes(lists.trials, options, suite)
    scored, notes = add_scores(lists.trials, options.trials, system, options)
    trials, excluded = exclude_trials(scored, without_self=options.no_self_trials)
    resolve = resolve_speakers_of_other_labels if options.target_means else resolve_speakers
    speakers = resolve(trials, options.speakers, system.back_end.models)
    cohort_speakers = count_cohort_overlap(trials, speakers.names, lists.cohort, invocation)
    statistics = options.statistics
    with prefixed_errors(shown_path(options.trials)):
        result = evaluate(
            trials,
            speakers.names,
            intervals=statistics.intervals,
            p_target=statistics.p_target,
            track_progress=lambda groups, n: invocation.progress(groups, total=n, label="jackknife", unit="group"),
        )
        assert result.scored is not None
        against, notes_on_other = compare_with_other_system(trials, speakers.names, result, system, lists, options)
        by_condition = results_by_condition(trials, speakers.names, sources, suite, result, options)
        languages = None
        if suite == TIDYVOICE:
            languages = results_by_language(trials, speakers.names, sources, result.scored.curve, by_condition, options)
        points = choose_operating_points(result.scored, statistics.far, statistics.p_target)
        applied = transferred(result.scored, thresholds) if thresholds else None
        files = read_file_facts([str(name) for name in trials.names], options.audio_root or options.trials.parent)
        design = check_trial_design(trials, result.scored, sources.all_attributes(trials), files, speakers.names)
    source = shown_path(options.score_file) if system.encoder is None and options.score_file else "the scores"
    counts = result.counts
    reversed_notes = reversed_score_notes(result.scored.curve, counts.n_target, counts.n_nontarget, source)
    on_thresholds = (f"{applied.source}: {applied.note}.",) if applied and applied.note else ()
    return EvaluatedList(
        trials=trials,
        speakers=speakers,
        notes=(*speakers.notes, *notes, *reversed_notes, *notes_on_other, *design.warnings, *on_thresholds),
        excluded=excluded,
        cohort_speakers=cohort_speakers,
        result=result,
        against=against,
        languages=languages,
        by_condition=by_condition,
        design=design,
        operating_points=points,
        transferred=applied,
    )


def list_contents(
    suite: str, evaluated: EvaluatedList, summary: SpeakerSummary, system: System, options: TrialsOptions
) -> tuple[str, dict[str, Content]]:
    """The report of a list, and {file: its content} of its run."""
    assert options.trials is not None and evaluated.result.scored is not None
    trials, speakers, name = evaluated.trials, evaluated.speakers, system_name(system, options)
    report, tables = render("trials.md.j2", s=summary)
    contents: dict[str, Content] = {
        "summary.json": to_json(summary),
        "report.md": report,
        "report.tex": to_tex(tables, f"{suite} {name}"),
        "det.svg": det_chart({"": [det_curve(evaluated.result.scored.curve)]}, summary.model_name),
        **hub_files(options.dataset_id, suite, [hub_task(suite, summary)], summary),
        "scores.csv.gz": compressed(trials.csv_parts()),
    }
    if speakers.names is not None:
        contents[SPEAKERS_FILE] = speakers_table(map(str, trials.names), speakers.names)
    if options.figures:
        scored = evaluated.result.scored
        figures = verification_figures(scored, name, options.statistics.p_target)
        root = options.audio_root or options.trials.parent
        hardest = hardest_trials({"": trials}, root, {"": evaluated.result.threshold})
        contents["report.html"] = lambda place: page(
            f"Verification of {options.target_means}: {name}"
            if options.target_means
            else f"Speaker verification: {name}",
            report,
            place,
            figures=figures,
            clips=hardest,
            embed_audio_mib=options.embed_audio,
        )
        for figure in figures:
            contents |= figure.contents("figures")
    return report, contents


def results_by_language(
    trials: Trials,
    speakers: list[str] | None,
    sources: AttributeSources,
    curve: Roc,
    by_condition: Sequence[ConditionBreakdown],
    options: TrialsOptions,
) -> LanguageBreakdown:
    """Results within and across languages, for TidyVoice."""
    language = sources.language(trials)
    return language_breakdown(
        trials,
        speakers,
        options.statistics.p_target,
        intervals=options.statistics.intervals,
        languages=None if language is None or language.source == PATHS else language.values,
        curve=curve,
        kinds=next((breakdown.kinds for breakdown in by_condition if breakdown.name == LANGUAGE), ()),
    ).summary


def read_attributes(trials: Trials, options: TrialsOptions, suite: str) -> AttributeSources:
    """Read --languages and --utterances for the utterances of a list; MissingError for an unknown --condition."""
    names = [str(name) for name in trials.names]
    sources = AttributeSources(
        table=read_utterance_table(options.utterances, names) if options.utterances else None,
        languages=read_languages(options.languages, names) if options.languages else None,
        names=tuple(names),
        from_paths=suite == TIDYVOICE,
    )
    for column in options.condition:
        sources.attribute(column, trials)
    return sources


def results_by_condition(
    trials: Trials,
    speakers: list[str] | None,
    sources: AttributeSources,
    suite: str,
    overall: VerificationResult,
    options: TrialsOptions,
) -> list[ConditionBreakdown]:
    """Results by language, for TidyVoice or --languages, and by the attributes of --condition."""
    columns = [LANGUAGE] if suite == TIDYVOICE or options.languages else []
    statistics = options.statistics
    return [
        condition_breakdown(
            trials,
            sources.attribute(column, trials),
            speakers,
            statistics.p_target,
            intervals=statistics.intervals,
            overall=overall,
            published=published_kinds() if suite == TIDYVOICE and column == LANGUAGE else None,
        )
        for column in dict.fromkeys([*columns, *options.condition])
    ]


def thresholds_of_other_run(system: System, options: TrialsOptions) -> NamedThresholds | None:
    """Thresholds of --threshold-from; None without that option."""
    path = options.statistics.threshold_from
    if path is None:
        return None
    model = system.encoder.identity if system.encoder is not None else None
    return read_thresholds(path, model, dict(system.summary(options.back_end, 0)))


def exclude_trials(trials: Trials, *, without_self: bool) -> tuple[Trials, dict[str, int]]:
    """Exclude trials without a score and, if requested, self-trials.

    Parameters
    ----------
    trials : Trials
        A scored list, NaN where a score is missing.
    without_self : bool
        Whether to exclude self-trials.

    Returns
    -------
    trials : Trials
        The remaining trials.
    excluded : dict
        {reason: number of trials}.
    """
    missing = np.isnan(np.asarray(trials.scores))
    excluded = {"without a score": int(missing.sum())}
    trials = trials.take(~missing)
    if without_self:
        excluded["of a file against itself"] = int(trials.is_self.sum())
        trials = trials.take(~trials.is_self)
    return trials.compact(), excluded


def count_cohort_overlap(
    trials: Trials, speakers: Sequence[str] | None, cohort: Mapping[str, str] | None, invocation: Invocation
) -> int | None:
    """Count the cohort speakers that are also in the trials, and warn if there are any.

    Parameters
    ----------
    trials : Trials
        The evaluated trials.
    speakers : sequence of str or None
        The speaker of each of `trials.names`; None if unknown.
    cohort : mapping or None
        {cohort utterance: its speaker}.
    invocation : Invocation
        For the warning.

    Returns
    -------
    int or None
        0 without a cohort. None if unknown, because the speakers of the trials are unknown.
    """
    if not cohort:
        return 0
    shared = find_cohort_speakers(map(str, trials.names), speakers, cohort)
    if shared:
        number = "speaker is" if len(shared) == 1 else "speakers are"
        examples = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
        invocation.warn(
            f"{len(shared):,} {number} both in the cohort and in the trials ({examples}). AS-norm lowers their scores, "
            "so the error rates are biased. Remove them from the cohort."
        )
    return None if shared is None else len(shared)


def compare_with_other_system(
    trials: Trials,
    speakers: list[str] | None,
    result: VerificationResult,
    system: System,
    lists: InputLists,
    options: TrialsOptions,
) -> tuple[ComparedSystem | None, tuple[str, ...]]:
    """Compare the system with that of --compare-with on the same trials.

    If the system is calibrated, the other one is calibrated on the same list (--compare-with-calibration); otherwise
    metrics that depend on calibration are not compared.

    Parameters
    ----------
    trials : Trials
        The evaluated trials.
    speakers : list of str or None
        The speaker of each of `trials.names`.
    result : VerificationResult
        Metrics of the evaluated system.
    system : System
        The evaluated system.
    lists : InputLists
    options : TrialsOptions

    Returns
    -------
    compared : ComparedSystem or None
        None without --compare-with.
    notes : tuple of str
        Warnings about the scores of the other system.
    """
    if not options.compare_with:
        return None, ()
    scored, notes = complete_scores(trials, options.compare_with)
    curve, counts = roc(np.asarray(scored.scores), np.asarray(scored.labels)), result.counts
    notes += reversed_score_notes(curve, counts.n_target, counts.n_nontarget, shown_path(options.compare_with))
    calibration = calibration_of_other(lists, options)
    if calibration is not None:
        scored = scored.with_scores(calibration(np.asarray(scored.scores)))
    statistics = options.statistics
    other = evaluate(scored, speakers, intervals=statistics.intervals, p_target=statistics.p_target)
    differences = compare_systems(result, other)
    if (system.calibration is None) != (calibration is None):
        undefined = Difference(Estimate(None, n=len(trials), why=ONLY_ONE_CALIBRATED), None)
        differences |= {name: undefined for name in differences if METRICS[name].needs_llr}
    compared = ComparedSystem(
        name=options.compare_with.name,
        metrics=other.metrics,
        differences={name: difference.estimate for name, difference in differences.items()},
        p_values={name: difference.p for name, difference in differences.items()},
        calibration=Calibration.from_fit(calibration),
    )
    return compared, notes


def complete_scores(trials: Trials, path: Path) -> tuple[Trials, tuple[str, ...]]:
    """Read the scores of a list and warnings about them. EarmarkError if the file does not contain all scores."""
    scores = scores_from_file(trials, path)
    require_complete(scores.missing, path)
    return trials.with_scores(scores.values), scores.notes


def calibration_of_other(lists: InputLists, options: TrialsOptions) -> LinearCalibration | None:
    """Calibration of the other system, fitted on --compare-with-calibration; None without that option."""
    if not options.compare_with_calibration or lists.calibration is None:
        return None
    labelled, _ = complete_scores(lists.calibration, options.compare_with_calibration)
    return fit_calibration(labelled, options.compare_with_calibration)


def hashed_inputs(evaluated: EvaluatedList, options: TrialsOptions) -> dict[Path, Input]:
    """Input files with their hashes and numbers of rows."""
    n_trials = evaluated.result.counts.n_trials + sum(evaluated.excluded.values())
    rows = {path: n_trials if path == options.trials else count_lines(path) for path in options.inputs}
    return dict(zip(rows, input_records(rows), strict=True))


def speaker_origins(evaluated: EvaluatedList) -> dict[str, int]:
    """{source of the speaker: number of utterances}."""
    if evaluated.speakers.names is not None:
        return {str(origin): n for origin, n in evaluated.speakers.origins.items()}
    linked = evaluated.result.speakers == SpeakerSource.LINKED
    return {str(SpeakerOrigin.LINKED if linked else SpeakerOrigin.ITSELF): len(evaluated.trials.names)}


def summarise(
    suite: str,
    evaluated: EvaluatedList,
    input_files: Mapping[Path, Input],
    system: System,
    options: TrialsOptions,
    invocation: Invocation,
) -> SpeakerSummary:
    """Build summary.json from the results and their provenance; `input_files` as returned by `hashed_inputs`."""
    result, encoder, inputs = evaluated.result, system.encoder, list(input_files.values())
    back_end = system.summary(options.back_end, evaluated.cohort_speakers)
    return SpeakerSummary.from_common(
        provenance(
            invocation,
            device=system.device,
            inputs=inputs,
            parameters=options.parameters,
            exclusions=exclusions(evaluated.excluded),
            signature=Signature.from_parts(
                suite=suite,
                protocol="earmark",
                metric="eer",
                ci=INTERVAL_METHODS[result.speakers] if options.statistics.intervals else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters | back_end.parameters),
                data=data_hash(inputs),
                **({"model": encoder.identity} if encoder is not None else {}),
            ),
        ),
        **asdict(result.counts),
        resampled=result.resampled,
        units=str(result.speakers),
        speakers_from=speaker_origins(evaluated),
        notes=[shown_text(note) for note in (*encoder_notes(encoder), *evaluated.notes)],
        threshold=result.threshold,
        metrics=result.metrics,
        encoder=encoder.description if encoder is not None else {},
        back_end=back_end,
        against=evaluated.against,
        languages=evaluated.languages,
        model_name=options.model_name or system_name(system, options),
        by_condition=evaluated.by_condition,
        design=evaluated.design,
        operating_points=evaluated.operating_points,
        transferred=evaluated.transferred,
    )


def encoder_notes(encoder: Encoder | PrecomputedEmbeddings | None) -> Sequence[str]:
    """Warnings about how an encoder was loaded."""
    return encoder.notes if isinstance(encoder, Encoder) else ()


def hub_task(suite: str, summary: SpeakerSummary) -> HubTask:
    """The numbers for model hubs; the main score is the equal error rate."""
    return HubTask(
        suite,
        [
            HubResult(metric, summary.metrics[metric], summary.signature.replaced(metric=metric))
            for metric in ("eer", "min_dcf")
        ],
    )


def count_lines(path: Path) -> int:
    """Number of lines of a text file; 0 for a compressed or binary file."""
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        first = next(blocks, b"")
        return 0 if b"\0" in first or path.suffix == ".gz" else first.count(b"\n") + sum(b.count(b"\n") for b in blocks)
