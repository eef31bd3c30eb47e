"""Run benchmark.py on a nominal, ordinal or interval subset: score, evaluate, write predictions, scores and report."""

from functools import partial
from pathlib import Path

from earmark import cli
from earmark.annotation.subsets import Subset
from earmark.audio_text.mean_ratings import CHOSEN_BY_RATINGS, evaluate_mean_ratings
from earmark.audio_text.options import BenchmarkOptions
from earmark.audio_text.pairs import PairTable, labels_path
from earmark.audio_text.run import (
    count_errors,
    leave_one_out_path,
    open_model,
    require_all_items,
    score_pairs,
    scorer_warnings,
)
from earmark.audio_text.scale_page import scale_clips, scale_figures, scale_predictions
from earmark.audio_text.scale_pairs import (
    TIED,
    apply_scale_filters,
    drop_unused,
    load_scale_pairs,
    ratings_of_items,
    read_scale_ratings,
)
from earmark.audio_text.scale_schema import ScaleBenchmarkSummary
from earmark.audio_text.scorers import Score
from earmark.audio_text.scorers.select import Model
from earmark.audio_text.sentence_scores import item_labels, score_sentences, with_wordings
from earmark.audio_text.wordings import Wordings
from earmark.audio_text.zero_shot import NO_COMPARISON, ScaleEvaluation, class_sentences, evaluate_zero_shot
from earmark.cli import Invocation
from earmark.errors import MissingError, shown_path
from earmark.files.runs import RUNS, Content, write_run
from earmark.files.safe_text import encodable, shown_url
from earmark.report.hub import HUB_FILES, HubResult, HubTask, hub_files
from earmark.report.page import page
from earmark.report.provenance import data_hash, exclusions, file_name, input_records, parameters_hash, provenance
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex
from earmark.report.trackers import FinishedRun, log_run

OWNED = ("metrics_by_*.csv", "confusion.csv", "figures/*.*", "report.html", *HUB_FILES)


def load_scale(subset: Subset, options: BenchmarkOptions) -> PairTable:
    """Load the items of a subset without a decision, with their sentences, and filter them.

    Raises
    ------
    MissingError
        If labels or sentences do not exist, or an option has no meaning on the scale.
    DataError
        If the labels or the sentences have faults.
    """
    if options.protocol != "earmark":
        raise MissingError(
            f"--protocol {options.protocol} has no meaning for {subset.name}: its measures need ratings of present or "
            f"absent, and this is {'an' if subset.scale[0] in 'io' else 'a'} {subset.scale} scale. Leave the flag out."
        )
    require_all_items(options)
    if options.threshold:
        raise MissingError(
            f"--threshold has no meaning for {subset.name}: nothing is predicted present or absent on "
            f"{'an' if subset.scale[0] in 'io' else 'a'} {subset.scale} scale. Leave the flag out."
        )
    pairs = load_scale_pairs(subset, options.analysis_root, options.dataset_root, options.labels)
    pairs = apply_scale_filters(with_wordings(pairs, options.prompts), options.filters)
    path = leave_one_out_path(pairs, options.analysis_root)
    ratings = read_scale_ratings(path, pairs.subset)
    if ratings is None and options.resample != "clips":
        raise MissingError(
            f"--resample {options.resample}: {shown_path(path)} does not exist. Run `uv run analysis.py` to create it."
        )
    return drop_unused(
        pairs, ratings, soft=options.labels == "soft", unanimous=options.filters.unanimous_only
    )  # fmt: skip


def evaluate_scale(pairs: PairTable, folder: Path, options: BenchmarkOptions, invocation: Invocation) -> bool:
    """Score, evaluate and report one subset without a decision between present and absent.

    Parameters
    ----------
    pairs : PairTable
        From `load_scale`.
    folder : Path
        Directory of the results; locked by the caller.
    options : BenchmarkOptions
    invocation : Invocation

    Returns
    -------
    bool
        Whether every item was scored; absent clips do not count with `allow_missing`.
    """
    everything, name = pairs.with_comparison_only(), pairs.subset.name
    wordings = _wordings(pairs)
    if pairs.subset.scale == "nominal":
        of_classes = class_sentences(pairs.subset.levels, wordings)[0]
        sentences, columns = [of_classes] * len(everything.table), len(of_classes)
    else:
        columns = wordings.count
        sentences = [list(wordings.sentences[label]) for label in item_labels(everything.table, pairs)]
    with open_model(folder, options, invocation) as model:
        scored = partial(score_pairs, model=model, invocation=invocation)
        similarities = score_sentences(everything, sentences, scored, columns)
    for text in scorer_warnings(model):
        invocation.warn(f"{name}: {text}")
    ratings = read_scale_ratings(leave_one_out_path(pairs, options.analysis_root), pairs.subset)
    unanimous = options.filters.unanimous_only
    evaluate = partial(
        evaluate_zero_shot if pairs.subset.scale == "nominal" else evaluate_mean_ratings,
        pairs,
        similarities,
        wordings,
        replicates=options.bootstrap,
        rng=invocation.generator(),
        by=options.by,
        resample=options.resample,
    )
    own = None if ratings is None else ratings_of_items(ratings, everything)
    if pairs.subset.scale == "nominal":
        evaluation = evaluate(ratings=own, unanimous=unanimous)
    else:
        evaluation = evaluate(ratings=CHOSEN_BY_RATINGS if unanimous else own or NO_COMPARISON)
    evaluation.result.items_tied_excluded = pairs.excluded.get(TIED, 0)
    for warning in evaluation.result.warnings:
        invocation.warn(f"{name}: {warning}.")
    scores = [Score(None, error) if error else Score(0.0) for error in similarities.errors]
    return _finish(pairs, evaluation, scores, model, folder, options, invocation)


def _wordings(pairs: PairTable) -> Wordings:
    assert pairs.wordings is not None  # `load_scale` sets them
    return pairs.wordings


def _finish(
    pairs: PairTable,
    evaluation: ScaleEvaluation,
    scores: list[Score],
    model: Model,
    folder: Path,
    options: BenchmarkOptions,
    invocation: Invocation,
) -> bool:
    """Write everything, warn about items without a score, and say whether the run is complete."""
    name, n = pairs.subset.name, len(pairs.table)
    missing, failed = count_errors(scores[:n])
    of_people = count_errors(scores[n:])
    report, finished = write_scale_outputs(pairs, evaluation, model, (missing, failed), folder, options, invocation)
    cli.show(report)
    log_run(options.trackers, finished, invocation)
    if failed or missing:
        invocation.warn(
            f"{name}: {missing} items without their clip, {failed} failed; see the column `error` of predictions.csv"
        )
    if any(of_people):
        invocation.warn(
            f"{name}: {len(scores) - n} additional items for the comparison with raters: {of_people[0]} without their "
            f"clip, {of_people[1]} failed"
        )
    if not n:
        invocation.warn(f"{name}: no items are left to score; relax the filters")
    return not failed and not of_people[1] and (options.allow_missing or not (missing or of_people[0]))


def write_scale_outputs(
    pairs: PairTable,
    evaluation: ScaleEvaluation,
    model: Model,
    n_errors: tuple[int, int],
    folder: Path,
    options: BenchmarkOptions,
    invocation: Invocation,
) -> tuple[str, FinishedRun]:
    """Write all files of a subset at once; returns the report as Markdown, and the run for experiment trackers.

    Parameters
    ----------
    pairs : PairTable
    evaluation : ScaleEvaluation
    model : Model
    n_errors : tuple of int
        Numbers of items without their clip and of items with another error.
    folder : Path
        Directory of the latest run. A copy goes to the directory of the model below `output_dir`/runs.
    options : BenchmarkOptions
    invocation : Invocation
    """
    summary = summarise_scale(pairs, evaluation, model, n_errors, options, invocation)
    tasks = [scale_hub_task(summary)]
    report, report_tables = render("benchmark_scale.md.j2", s=summary)
    contents = {
        f"{name}.csv": to_csv(t) for name, t in {"predictions": evaluation.predictions, **evaluation.tables}.items()
    }
    contents |= {
        "summary.json": to_json(summary),
        "report.md": report,
        "report.tex": to_tex(report_tables, f"{pairs.subset.name} {model.name}"),
        **hub_files(options.dataset_id, summary.subset, tasks, summary),
    }
    figures = scale_figures(evaluation, summary, pairs.subset) if options.figures else []

    def html(place: Path) -> str:
        text = page(
            f"{summary.subset}: {summary.name or model.name}",
            report,
            place,
            figures=figures,
            clips=scale_clips(pairs, evaluation),
            tables=[scale_predictions(evaluation)],
            embed_audio_mib=options.embed_audio,
        )
        return encodable(text)

    files: dict[str, Content] = {name: encodable(text) for name, text in contents.items()}
    if options.figures:
        files["report.html"] = html
    for figure in figures:
        files |= figure.contents("figures")
    saved = write_run(
        folder,
        files,
        name=file_name(options.model_name or model.name),
        state=model.identity,
        suite=pairs.subset.name,
        owned=OWNED,
        runs=options.output_dir / RUNS,
    )
    return encodable(report), FinishedRun(summary.name or model.name, pairs.subset.name, tasks, summary, saved)


def summarise_scale(
    pairs: PairTable,
    evaluation: ScaleEvaluation,
    model: Model,
    n_errors: tuple[int, int],
    options: BenchmarkOptions,
    invocation: Invocation,
) -> ScaleBenchmarkSummary:
    """Build the content of summary.json: provenance and scores. Parameters as in `write_scale_outputs`."""
    subset = pairs.subset
    rows = {labels_path(options.analysis_root, subset): sum(pairs.excluded.values()) + len(pairs.table)}
    leave_one_out = leave_one_out_path(pairs, options.analysis_root)
    if leave_one_out.is_file():
        rows[leave_one_out] = next((one.n for one in evaluation.result.equal_footing.values()), 0)
    if options.prompts is not None:
        rows[options.prompts] = sum(len(own) for own in _wordings(pairs).sentences.values())
    inputs = input_records(rows)
    reference = options.labels if subset.scale == "nominal" else "mean"
    parameters = {key: value for key, value in options.parameters.items() if key != "threshold"}
    common = provenance(
        invocation,
        inputs=inputs,
        parameters=parameters,
        exclusions=exclusions(pairs.excluded),
        signature=Signature.from_parts(
            suite=subset.name,
            protocol=options.protocol,
            metric=next(iter(evaluation.result.metrics)),
            labels=reference,
            ci=f"clip-bootstrap-{options.bootstrap}",
            seed=invocation.seed,
            parameters=parameters_hash({**parameters, "prompt": subset.prompt}),
            data=data_hash(inputs),
            model=model.identity,
        ),
        device=model.description.get("device", "cpu"),
    )
    return ScaleBenchmarkSummary.from_common(
        common,
        evaluation.result,
        subset=subset.name,
        mode=model.mode,
        name=options.model_name or (options.scorer.model if options.scorer.endpoint else None),
        endpoint=shown_url(options.scorer.address) if options.scorer.address else None,
        labels=reference,
        resample=options.resample,
        filters=vars(options.filters),
        missing_audio=n_errors[0],
        evaluation_errors=n_errors[1],
        scorer={
            **model.description,
            **(model.traffic.as_dict() if model.traffic else {}),
            **({"warnings": scorer_warnings(model)} if scorer_warnings(model) else {}),
        },
    )


def scale_hub_task(summary: ScaleBenchmarkSummary) -> HubTask:
    """The numbers for model hubs: the headline scores; the first is the main score."""
    return HubTask(
        summary.subset,
        [
            HubResult(name, estimate, summary.signature.replaced(metric=name))
            for name, estimate in summary.metrics.items()
        ],
    )
