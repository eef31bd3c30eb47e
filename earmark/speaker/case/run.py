"""`evaluate_speaker.py case`: evaluate a system on CASE and write scores, metrics, report and submission."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import MissingError, shown_path
from earmark.files.atomic import locked
from earmark.files.runs import Content, runs_folder
from earmark.metrics.estimate import Estimate
from earmark.report.hub import HUB_FILES, HubResult, HubTask, hub_files
from earmark.report.page import page
from earmark.report.plots import bar_chart, det_chart
from earmark.report.provenance import (
    data_hash,
    exclusions,
    file_name,
    input_records,
    output_path,
    parameters_hash,
    provenance,
)
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import Table, compressed, to_csv
from earmark.report.tex import to_tex
from earmark.report.trackers import FinishedRun, log_run, require_trackers
from earmark.speaker.case.benchmark import Benchmark, read_benchmark
from earmark.speaker.case.conditions import AGGREGATES, PUBLISHED, categories, condition_names
from earmark.speaker.case.evaluation import (
    ConditionResult,
    ThresholdShift,
    aggregate_estimates,
    det_curves,
    evaluate_conditions,
    threshold_shift,
)
from earmark.speaker.case.leaderboard import ModelResults, leaderboard, printable_leaderboard
from earmark.speaker.case.page import case_figures
from earmark.speaker.case.schema import CaseConfig, CaseResults, CaseSummary, ConditionSummary
from earmark.speaker.case.submission import PLACEHOLDER, ModelCardDetails, case_results
from earmark.speaker.operating_points import read_thresholds
from earmark.speaker.options import CaseOptions
from earmark.speaker.page import hardest_trials
from earmark.speaker.saved_runs import SPEAKERS_FILE, save_run, speakers_table
from earmark.speaker.system import BackEnd, System, prefixed_errors, require_complete
from earmark.speaker.system_from_options import load_system, warn_bootstrap_ignored

CARD = "model_card.md"  # never overwritten, since users edit it
OUTPUT_FILES = (  # replaced by each run
    "summary.json",
    "results.json",
    "categories.svg",
    "report.md",
    "report.tex",
    "det.svg",
    "protocols.csv",
    "scores/*.csv.gz",
    SPEAKERS_FILE,
    "report.html",
    "figures/*.*",
    *HUB_FILES,
)


def run_case(options: CaseOptions, invocation: Invocation) -> int:
    """Evaluate a system on all conditions or some of them."""
    require_trackers(options.trackers)
    warn_bootstrap_ignored(options.statistics, invocation)
    system = load_system(options.encoder_options, invocation, cluster=options.cluster)
    if system.encoder is None:
        raise MissingError("No model: give --encoder SPEC or --embeddings FILE. `--encoder logmel` is built in.")
    given = options.statistics.threshold_from
    thresholds = read_thresholds(given, system.encoder.identity) if given else None
    benchmark = read_benchmark(options.benchmark, options.conditions)
    lists_folder, allow_missing = benchmark.folder / "trials", options.statistics.allow_missing
    if not allow_missing:  # report missing audio before embedding the rest
        missing = system.missing_utterances(benchmark.utterances, benchmark.folder)
        require_complete(missing, lists_folder, root=benchmark.folder, allowed=allow_missing)
    embeddings = system.embeddings(benchmark.utterances, benchmark.folder)
    require_complete(embeddings.missing, lists_folder, root=benchmark.folder, allowed=allow_missing)
    with prefixed_errors(system.encoder.name):
        back_end = BackEnd()
        scored_lists = {
            name: trials.with_scores(back_end.scores(trials, embeddings.vectors))
            for name, trials in benchmark.lists.items()
        }
    evaluated = evaluate_conditions(
        benchmark,
        scored_lists,
        scorings=options.scorings,
        intervals=options.statistics.intervals,
        p_target=options.statistics.p_target,
    )
    with prefixed_errors(shown_path(benchmark.folder)):
        results = list(invocation.progress(evaluated, total=len(scored_lists), label="metrics", unit="condition"))
    statistics, scoring = options.statistics, options.scorings[-1]
    shift = threshold_shift(results, scoring, statistics.far, statistics.p_target, thresholds)
    if shift.applied.note:
        invocation.warn(f"{shift.applied.source}: {shift.applied.note}.")
    name = file_name(options.model_name or system.encoder.name)
    folder = options.output_dir / name
    with locked([folder]):
        dimension = next((np.size(vector) for vector in embeddings.vectors.values()), None)
        summary, report, contents = case_outputs(benchmark, results, shift, system, dimension, options, invocation)
        saved = save_run(
            folder,
            contents,
            invocation,
            suite="case",
            name=name,
            state=system.encoder.identity,
            owned=OUTPUT_FILES,
            once=[CARD],
            runs=runs_folder(options.output_dir),
        )
        cli.show(report)
    task = hub_task(summary, options.scorings)
    log_run(options.trackers, FinishedRun(summary.model_name, task.name, [task], summary, saved), invocation)
    return cli.COMPLETE


def case_outputs(
    benchmark: Benchmark,
    results: Sequence[ConditionResult],
    shift: ThresholdShift,
    system: System,
    dimension: int | None,
    options: CaseOptions,
    invocation: Invocation,
) -> tuple[CaseSummary, str, dict[str, Content]]:
    """Create the summary, the report and the contents of all output files.

    Aggregates are computed only if all 24 conditions were evaluated; results.json needs the published scoring too.
    `dimension` is that of the embeddings.

    Returns
    -------
    summary : CaseSummary
    report : str
        Markdown.
    contents : dict
        File name relative to the run's folder, to content.
    """
    assert system.encoder is not None
    official = [result for result in results if result.condition in condition_names()]
    is_complete = len(official) == len(condition_names())
    scorings = options.scorings if is_complete else []
    aggregates = {scoring: aggregate_estimates(official, scoring) for scoring in scorings}
    summary = summarise_case(benchmark, results, aggregates, shift, system, options, invocation)
    task = hub_task(summary, options.scorings)
    contents: dict[str, Content] = {
        "summary.json": to_json(summary),
        **hub_files(options.dataset_id, task.name, [task], summary),
    }
    ranking = None
    if PUBLISHED in aggregates:
        config = CaseConfig(
            benchmark_dir=output_path(benchmark.folder), device=system.device, self_made_carriers=benchmark.simulated
        )
        submitted = case_results(summary.model_name, official, aggregates[PUBLISHED], config)
        contents["results.json"] = json.dumps(submitted.model_dump(), indent=2, allow_nan=False) + "\n"
        ranking = rank_model(submitted)
    if aggregates:
        scoring = options.scorings[-1]
        category_eers = {category: aggregates[scoring][category].in_percent() for category in categories()}
        contents["categories.svg"] = bar_chart(
            category_eers, f"{summary.model_name}: equal error rate in %, {scoring} scoring"
        )
    report, tables = render(
        "case.md.j2",
        s=summary,
        ranking=ranking,
        aggregates=AGGREGATES,
        categories=categories(),
        total=len(condition_names()),
    )
    details = ModelCardDetails.from_encoder(system.encoder, dimension)
    card, _ = render(
        "model_card.md.j2",
        s=summary,
        details=details,
        signature=str(summary.signature),
        aggregates=AGGREGATES,
        categories=categories(),
        placeholder=PLACEHOLDER,
    )
    contents |= {
        CARD: card,
        "report.md": report,
        "report.tex": to_tex(tables, f"case {summary.model_name}"),
        "det.svg": det_chart(det_curves(results), summary.model_name),
        "protocols.csv": to_csv(pd.DataFrame([csv_row(condition) for condition in summary.protocols])),
        **{f"scores/{result.condition}.csv.gz": compressed(result.trials.csv_parts()) for result in results},
        SPEAKERS_FILE: speakers_table(benchmark.speakers, benchmark.speakers.values()),
    }
    if options.figures:
        figures = case_figures(
            results, aggregates.get(options.scorings[-1], {}), summary.model_name, official=not benchmark.simulated
        )
        hardest = hardest_trials({result.condition: result.trials for result in results}, benchmark.folder)
        contents["report.html"] = lambda place: page(
            f"CASE: {summary.model_name}",
            report,
            place,
            figures=figures,
            clips=hardest,
            embed_audio_mib=options.embed_audio,
        )
        for figure in figures:
            contents |= figure.contents("figures")
    return summary, report, contents


def hub_task(summary: CaseSummary, scorings: Sequence[str]) -> HubTask:
    """The numbers for model hubs; the main score is the absolute EER under the last scoring.

    They are undefined unless all 24 conditions were evaluated. The name differs for simulated conditions.
    """
    why = f"needs all {len(condition_names())} conditions; {len(summary.protocols)} were evaluated"
    return HubTask(
        summary.signature["suite"],
        [
            HubResult(
                f"{scoring}_{metric}",
                summary.aggregates.get(scoring, {}).get(metric, Estimate(None, why=why)),
                summary.signature.replaced(protocol=scoring, metric=metric),
            )
            for scoring in reversed(scorings)
            for metric in ("absolute_eer", "clean_eer")
        ],
    )


def rank_model(results: CaseResults) -> Table:
    """The leaderboard of the published models with this model added."""
    eers = {condition: scores.eer for condition, scores in results.protocol_results.items()}
    table = leaderboard([ModelResults(results.model_name, eers, results.config.self_made_carriers)])
    return printable_leaderboard(table, ["rank", "model_name", *AGGREGATES, "source"])


def csv_row(condition: ConditionSummary) -> dict[str, Any]:
    """Flatten a condition to a row of protocols.csv.

    Estimates become three columns, e.g. published_eer, published_eer_low, published_eer_high. Scorings that were not
    requested have no columns.
    """
    return dict(_flatten(condition))


def _flatten(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record:
        if isinstance(value, BaseModel):
            yield from _flatten(value, f"{prefix}{key}_")
        elif isinstance(value, Estimate):
            yield f"{prefix}{key}", value.value
            yield f"{prefix}{key}_low", value.low
            yield f"{prefix}{key}_high", value.high
        elif value is not None:
            yield f"{prefix}{key}", value


def summarise_case(
    benchmark: Benchmark,
    results: Sequence[ConditionResult],
    aggregates: Mapping[str, Mapping[str, Estimate]],
    shift: ThresholdShift,
    system: System,
    options: CaseOptions,
    invocation: Invocation,
) -> CaseSummary:
    """Create summary.json: provenance and all results.

    aggregates: scoring to {aggregate or category: estimate}; empty unless all 24 conditions were evaluated.
    """
    assert system.encoder is not None
    rows = {benchmark.files[name]: len(trials) for name, trials in benchmark.lists.items()}
    if options.statistics.threshold_from:
        rows[options.statistics.threshold_from] = 0
    inputs = input_records(rows)
    return CaseSummary.from_common(
        provenance(
            invocation,
            device=system.device,
            inputs=inputs,
            parameters=options.parameters,
            exclusions=exclusions({"without a score": sum(result.n_missing for result in results)}),
            signature=Signature.from_parts(
                suite="case-self-made" if benchmark.simulated else "case",
                protocol=options.scorings[-1],
                metric="absolute_eer",
                ci="speaker-dyadic" if options.statistics.intervals else "none",
                seed=invocation.seed,
                parameters=parameters_hash(options.parameters),
                data=data_hash(inputs),
                model=system.encoder.identity,
            ),
        ),
        model_name=options.model_name or system.encoder.name,
        self_made=benchmark.simulated,
        n_speakers=len(set(benchmark.speakers.values())),
        protocols=[result.summary for result in results],
        aggregates=aggregates,
        encoder=system.encoder.description,
        operating_points=shift.chosen,
        threshold_condition=shift.condition,
        threshold=shift.eer_threshold,
        threshold_source=shift.applied.source,
        threshold_note=shift.applied.note,
        at_thresholds=shift.by_condition,
    )
