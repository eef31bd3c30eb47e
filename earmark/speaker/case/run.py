"""`evaluate_speaker.py case`: a benchmark in the shape of CASE, a system, and all that is written about both."""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from earmark import cli
from earmark.cli import Invocation
from earmark.errors import MissingError, shown_path
from earmark.files.atomic import locked, write_together
from earmark.report.plots import bar_chart, det_chart
from earmark.report.provenance import (
    data_hash,
    exclusions,
    file_name,
    output_path,
    parameters_hash,
    provenance,
)
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv, to_csv_gz, to_tex
from earmark.speaker.case import protocols, submission
from earmark.speaker.case.evaluation import (
    PUBLISHED,
    STRICT,
    Benchmark,
    Outcome,
    aggregate,
    det_curves,
    evaluate_protocols,
    read_benchmark,
)
from earmark.speaker.case.schema import CaseSummary
from earmark.speaker.options import device_of, naming, require_complete, system_of, wants_intervals, warn_of_bootstrap
from earmark.speaker.system import BackEnd, System


def tell_case(arguments: Namespace) -> int:
    """A system on all protocols, or some."""
    warn_of_bootstrap(arguments)
    system = system_of(arguments)
    if system.encoder is None:
        raise MissingError("--encoder SPEC or --embeddings FILE: which model? `--encoder logmel` is built in")
    benchmark = read_benchmark(arguments.benchmark, arguments.protocols)
    vectors, missing = system.embeddings(benchmark.names, benchmark.folder)
    require_complete(missing, arguments, benchmark.folder / "trials")
    with naming(system.encoder.name):
        back_end = BackEnd()
        lists = {
            name: trials.with_scores(back_end.scores(trials, vectors)[0]) for name, trials in benchmark.lists.items()
        }
    found = evaluate_protocols(
        benchmark,
        lists,
        versions=[PUBLISHED, STRICT] if arguments.protocol == "both" else [arguments.protocol],
        intervals=wants_intervals(arguments),
        p_target=arguments.p_target,
    )
    with naming(shown_path(benchmark.folder)):
        outcomes = list(cli.progress(found, arguments, total=len(lists), what="metrics", unit="protocol"))
    name = arguments.name or system.encoder.name
    folder = arguments.output_dir / file_name(name)
    with locked([folder]):
        cli.show(write_case(folder, name, benchmark, outcomes, system, arguments))
    return cli.COMPLETE


def write_case(
    folder: Path, name: str, benchmark: Benchmark, outcomes: Sequence[Outcome], system: System, arguments: Namespace
) -> str:
    """All files at once, but for a model card that is there already; returns the report."""
    assert system.encoder is not None
    versions = list(outcomes[0].found)
    complete = len(outcomes) == len(protocols.protocols())
    aggregates = {version: aggregate(outcomes, version) for version in versions} if complete else {}
    summary = summarise_case(name, benchmark, outcomes, aggregates, system, arguments)
    stale = list((folder / "scores").glob("*.csv.gz"))
    contents: dict[Path, str | bytes | None] = {folder / "summary.json": to_json(summary), **dict.fromkeys(stale)}
    board = pd.DataFrame()
    if complete and PUBLISHED in versions:
        config = {"benchmark_dir": output_path(benchmark.folder), "device": device_of(system)}
        results = submission.results(name, outcomes, config | {"self_made_carriers": benchmark.self_made})
        contents[folder / "results.json"] = json.dumps(results, indent=2, allow_nan=False) + "\n"
        rates = {protocol: row["eer"] for protocol, row in results["protocol_results"].items()}
        board = protocols.leaderboard([protocols.Results(name, rates, benchmark.self_made)])[
            ["rank", *protocols.COLUMNS[1:6], "source"]
        ]
    if complete:
        by_category = {c: aggregates[versions[-1]][c] for c in protocols.facts()["categories"]}
        contents[folder / "categories.svg"] = bar_chart(by_category, f"equal error rate, {versions[-1]}")
    rows = board.astype(object).to_numpy().tolist()
    report, tables = render("case.md.j2", s=summary.model_dump(), board={"columns": list(board.columns), "rows": rows})
    card, _ = render("model_card.md.j2", name=name, known=submission.known(system.encoder), open=submission.OPEN)
    contents |= {
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables),
        folder / "det.svg": det_chart(det_curves(outcomes)),
        folder / "protocols.csv": to_csv(pd.DataFrame([outcome.as_flat_row() for outcome in outcomes])),
        **{folder / "scores" / f"{one.protocol}.csv.gz": to_csv_gz(one.trials.tables()) for one in outcomes},
    }
    if not (folder / "model_card.md").exists():  # what somebody has filled in stays
        contents[folder / "model_card.md"] = card
    write_together(contents)
    return report


def summarise_case(
    name: str,
    benchmark: Benchmark,
    outcomes: Sequence[Outcome],
    aggregates: Mapping[str, Any],
    system: System,
    arguments: Namespace,
) -> CaseSummary:
    """summary.json: where the numbers came from, then the numbers."""
    assert system.encoder is not None
    parameters = {key: getattr(arguments, key) for key in ("p_target", "allow_missing")}
    parameters["intervals"] = wants_intervals(arguments)
    parameters["versions"] = list(outcomes[0].found)
    return CaseSummary.extending(
        provenance(
            Invocation(arguments.script, tuple(arguments.argv), arguments.seed),
            device=device_of(system),
            inputs={benchmark.files[name]: len(trials) for name, trials in benchmark.lists.items()},
            parameters=parameters,
            exclusions=exclusions({"without a score": sum(outcome.n_missing for outcome in outcomes)}),
            signature=Signature.of(
                suite="case-self-made" if benchmark.self_made else "case",
                protocol=list(outcomes[0].found)[-1],
                metric="absolute_eer",
                ci="speaker-dyadic" if parameters["intervals"] else "none",
                seed=arguments.seed,
                parameters=parameters_hash(parameters),
                data=data_hash(list(benchmark.files.values())),
                model=system.encoder.identity,
            ),
        ),
        model_name=name,
        self_made=benchmark.self_made,
        n_speakers=len(set(benchmark.speakers.values())),
        protocols=[outcome.as_row() for outcome in outcomes],
        aggregates=aggregates,
        encoder=system.encoder.description,
    )
