"""`evaluate_speaker.py case`: a benchmark in the shape of CASE, a system, and all that is written about both."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import MissingError, shown_path
from earmark.files.atomic import locked
from earmark.files.runs import Content, runs_folder
from earmark.metrics.estimate import Estimate
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
from earmark.report.tables import Table, to_csv, to_csv_gz, to_tex
from earmark.speaker.case.benchmark import Benchmark, read_benchmark
from earmark.speaker.case.conditions import AGGREGATES, PUBLISHED, categories, condition_names
from earmark.speaker.case.evaluation import ConditionResult, aggregate_estimates, det_curves, evaluate_protocols
from earmark.speaker.case.leaderboard import Results, leaderboard
from earmark.speaker.case.schema import CaseConfig, CaseProtocol, CaseResults, CaseSummary
from earmark.speaker.case.submission import OPEN, Known, case_results
from earmark.speaker.options import CaseOptions
from earmark.speaker.saved_runs import save_run
from earmark.speaker.system import BackEnd, System, prefixed_errors, require_complete
from earmark.speaker.system_from_options import load_system, warn_bootstrap_ignored

CARD = "model_card.md"  # what somebody has filled in stays
OWNED = (  # what a run writes
    "summary.json",
    "results.json",
    "categories.svg",
    "report.md",
    "report.tex",
    "det.svg",
    "protocols.csv",
    "scores/*.csv.gz",
)


def run_case(options: CaseOptions, invocation: Invocation) -> int:
    """A system on all protocols, or some."""
    warn_bootstrap_ignored(options.statistics, invocation)
    system = load_system(options.encoder_options, invocation)
    if system.encoder is None:
        raise MissingError("--encoder SPEC or --embeddings FILE: which model? `--encoder logmel` is built in")
    benchmark = read_benchmark(options.benchmark, options.conditions)
    lists, allowed = benchmark.folder / "trials", options.statistics.allow_missing
    if not allowed:  # named before anything is embedded
        absent = system.missing_utterances(benchmark.names, benchmark.folder)
        require_complete(absent, lists, root=benchmark.folder, allowed=allowed)
    found = system.embeddings(benchmark.names, benchmark.folder)
    require_complete(found.missing, lists, root=benchmark.folder, allowed=allowed)
    with prefixed_errors(system.encoder.name):
        back_end = BackEnd()
        scored = {
            name: trials.with_scores(back_end.scores(trials, found.vectors)) for name, trials in benchmark.lists.items()
        }
    evaluated = evaluate_protocols(
        benchmark,
        scored,
        versions=options.scorings,
        intervals=options.statistics.intervals,
        p_target=options.statistics.p_target,
    )
    with prefixed_errors(shown_path(benchmark.folder)):
        outcomes = list(invocation.progress(evaluated, total=len(scored), label="metrics", unit="protocol"))
    name = file_name(options.model_name or system.encoder.name)
    folder = options.output_dir / name
    with locked([folder]):
        report, contents = evaluated_case(benchmark, outcomes, system, options, invocation)
        save_run(
            folder,
            contents,
            invocation,
            suite="case",
            name=name,
            state=system.encoder.identity,
            owned=OWNED,
            once=[CARD],
            runs=runs_folder(options.output_dir),
        )
        cli.show(report)
    return cli.COMPLETE


def evaluated_case(
    benchmark: Benchmark,
    outcomes: Sequence[ConditionResult],
    system: System,
    options: CaseOptions,
    invocation: Invocation,
) -> tuple[str, dict[str, Content]]:
    """The report, and {file below the run's folder: its content}."""
    assert system.encoder is not None
    complete = len(outcomes) == len(condition_names())
    aggregates = {version: aggregate_estimates(outcomes, version) for version in options.scorings} if complete else {}
    summary = summarise_case(benchmark, outcomes, aggregates, system, options, invocation)
    contents: dict[str, Content] = {"summary.json": to_json(summary)}
    board = None
    if PUBLISHED in aggregates:
        config = CaseConfig(
            benchmark_dir=output_path(benchmark.folder), device=system.device, self_made_carriers=benchmark.self_made
        )
        results = case_results(summary.model_name, outcomes, aggregates[PUBLISHED], config)
        contents["results.json"] = json.dumps(results.model_dump(), indent=2, allow_nan=False) + "\n"
        board = board_with(results)
    if aggregates:
        last = options.scorings[-1]
        by_category = {category: aggregates[last][category] for category in categories()}
        contents["categories.svg"] = bar_chart(by_category, f"equal error rate, {last}")
    report, tables = render(
        "case.md.j2",
        s=summary,
        board=board,
        aggregates=AGGREGATES,
        categories=categories(),
        total=len(condition_names()),
    )
    card, _ = render("model_card.md.j2", name=summary.model_name, known=Known.of(system.encoder), open=OPEN)
    contents |= {
        CARD: card,
        "report.md": report,
        "report.tex": to_tex(tables),
        "det.svg": det_chart(det_curves(outcomes)),
        "protocols.csv": to_csv(pd.DataFrame([csv_row(protocol) for protocol in summary.protocols])),
        **{f"scores/{one.protocol}.csv.gz": to_csv_gz(one.trials.tables()) for one in outcomes},
    }
    return report, contents


def board_with(results: CaseResults) -> Table:
    """The leaderboard with a model on it."""
    rates = {protocol: row.eer for protocol, row in results.protocol_results.items()}
    columns = ["rank", "model_name", *AGGREGATES, "source"]
    board = leaderboard([Results(results.model_name, rates, results.config.self_made_carriers)])[columns]
    return Table("", columns, board.astype(object).to_numpy().tolist())


def csv_row(protocol: CaseProtocol) -> dict[str, Any]:
    """A row of protocols.csv: published_eer, published_eer_low, …; without versions that were not asked for."""
    return dict(_cells(protocol))


def _cells(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record:
        if isinstance(value, BaseModel):
            yield from _cells(value, f"{prefix}{key}_")
        elif isinstance(value, Estimate):
            yield f"{prefix}{key}", value.value
            yield f"{prefix}{key}_low", value.low
            yield f"{prefix}{key}_high", value.high
        elif value is not None:
            yield f"{prefix}{key}", value


def summarise_case(
    benchmark: Benchmark,
    outcomes: Sequence[ConditionResult],
    aggregates: Mapping[str, Mapping[str, Estimate]],
    system: System,
    options: CaseOptions,
    invocation: Invocation,
) -> CaseSummary:
    """summary.json: where the numbers came from, then the numbers."""
    assert system.encoder is not None
    inputs = input_records({benchmark.files[name]: len(trials) for name, trials in benchmark.lists.items()})
    return CaseSummary.from_common(
        provenance(
            invocation,
            device=system.device,
            inputs=inputs,
            parameters=options.parameters,
            exclusions=exclusions({"without a score": sum(outcome.n_missing for outcome in outcomes)}),
            signature=Signature.from_parts(
                suite="case-self-made" if benchmark.self_made else "case",
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
        self_made=benchmark.self_made,
        n_speakers=len(set(benchmark.speakers.values())),
        protocols=[outcome.row for outcome in outcomes],
        aggregates=aggregates,
        encoder=system.encoder.description,
    )
