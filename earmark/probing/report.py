"""Write the results of `probe.py run`: scores, summary and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from earmark.cli import Invocation
from earmark.files.atomic import write_together
from earmark.metrics.estimate import Estimate
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.comparison import averages, comparison_tables, layer_curves
from earmark.probing.heads.knn import K_CANDIDATES
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import KNN, LINEAR, STRICT, STRICT_GIVEN_SPLITS, ProbeSettings, RunOptions
from earmark.probing.outcome import TaskOutcome
from earmark.probing.page import confused_clips, probe_figures
from earmark.probing.schema import Confusion, NearDuplicateClasses, NotCompared, ProbeSummary, SkippedTask, TaskScore
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.probing.tracks import LEARNING_RATES
from earmark.probing.xares import rerun_differences
from earmark.report.figures import figure_files
from earmark.report.hub import HUB_FILES, HubResult, HubTask, hub_files, slug
from earmark.report.page import page
from earmark.report.plots import line_chart
from earmark.report.provenance import (
    exclusions,
    file_name,
    input_records,
    parameters_hash,
    provenance,
    shown_argument,
    shown_text,
)
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv
from earmark.report.tex import to_tex
from earmark.report.trackers import FinishedRun


@dataclass(frozen=True)
class CompletedRun:
    """A completed run.

    Attributes
    ----------
    located : sequence of LocatedTask
        The probed tasks.
    outcomes : mapping
        {task or invalid task file: its outcome}, in the requested order.
    skipped : sequence of SkippedTask
        Tasks that were not run.
    encoder, settings, options
        Encoder and settings of the run.
    warnings : sequence of str
        Warnings about the encoder.
    """

    located: Sequence[LocatedTask]
    outcomes: Mapping[str, TaskOutcome]
    skipped: Sequence[SkippedTask]
    encoder: Encoder | PrecomputedEmbeddings
    settings: ProbeSettings
    options: RunOptions
    warnings: Sequence[str] = ()

    @property
    def tasks(self) -> dict[str, Task]:
        """{name: task} of the probed tasks."""
        return {each.task.name: each.task for each in self.located}


def write_results(folder: Path, run: CompletedRun, invocation: Invocation) -> tuple[str, FinishedRun]:
    """Write all result files together.

    Parameters
    ----------
    folder : Path
        Result folder of the encoder.
    run : CompletedRun
        The results.
    invocation : Invocation
        Command line and seed, for the summary.

    Returns
    -------
    report : str
        Markdown.
    finished : FinishedRun
        For experiment trackers.
    """
    summary = build_summary(run, invocation)
    tasks = hub_tasks(summary, run.tasks)
    names = {name: task.formal_name for name, task in run.tasks.items()}
    curves = layer_curves(summary.scores)
    report, tables = render(
        "probe.md.j2",
        s=summary,
        comparisons=comparison_tables(summary.scores, run.tasks, {item.task for item in summary.not_compared}),
        not_compared=[f"{names[item.task]}: {item.reason}" for item in summary.not_compared],
        confusions=[
            {"task": names[name], "table": item}
            for name, outcome in run.outcomes.items()
            for item in most_informative_confusion(outcome.confusions)
        ],
        has_layers=any(row.layer is not None for row in summary.scores),
        has_chart=bool(curves),
        shared=[item.message(names[item.task]) for item in summary.shared_sources],
        near_duplicates=[item.message(names[item.task]) for item in summary.alike_classes],
        trained_on_test=[task.formal_name for task in run.tasks.values() if task.trains_on_test],
        rates=", ".join(f"{rate:g}" for rate in LEARNING_RATES),
        ks=", ".join(map(str, K_CANDIDATES)),
        reruns=[rerun_words(track) for track in (LINEAR, KNN)],
    )
    contents: dict[Path, str | bytes | None] = {
        folder / "summary.json": to_json(summary),
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables, f"probe {summary.encoder_name}"),
        folder / "scores.csv": to_csv(scores_table(summary.scores)),
        folder / "layers.svg": line_chart(curves, "layer", "score") if curves else None,
    }
    contents |= dict.fromkeys(folder / name for name in HUB_FILES)  # those of an earlier run are removed
    hub = hub_files(run.options.dataset_id, "probe", tasks, summary)
    contents |= {folder / name: text for name, text in hub.items()}
    for name, outcome in run.outcomes.items():
        rows = [
            {"track": table.track, "protocol": table.protocol, **row} for table in outcome.classes for row in table.rows
        ]
        if rows:
            contents[folder / "per_class" / f"{file_name(name)}.csv"] = to_csv(pd.DataFrame(rows))
    html = None
    figures = []
    if run.options.figures:
        compared = set(run.tasks) - {item.task for item in summary.not_compared}
        figures = probe_figures(summary.scores, run.tasks, compared, folder)
        html = page(
            f"Probe report: {summary.encoder_name}",
            report,
            folder,
            figures=figures,
            clips=confused_clips(run.located, folder),
            embed_audio_mib=run.options.embed_audio,
        )
    contents |= {folder / "report.html": html, **figure_files(folder, figures)}
    write_together({path: content for path, content in contents.items() if content is not None or path.exists()})
    return report, FinishedRun(summary.encoder_name, "probe", tasks, summary, folder)


def rerun_words(track: str) -> dict[str, str | int]:
    """How far an independent run moved the published scores of a track, as words for the report.

    >>> rerun_words("knn")
    {'track': 'k-NN', 'largest': '0.016', 'median': '0.0003', 'n_rounded': 22, 'n': 32}
    """
    moved = rerun_differences(track)
    name = "k-NN" if track == KNN else track
    rounded = {"largest": f"{moved.largest:.3f}", "median": f"{moved.median:.4f}"}
    return {"track": name, **rounded, "n_rounded": moved.n_rounded, "n": moved.n}


def most_informative_confusion(confusions: Sequence[Confusion]) -> list[Confusion]:
    """The confusion table to show, as a list of at most one: strict before xares, linear before k-NN."""
    non_empty = [confusion for confusion in confusions if confusion.rows]
    return sorted(non_empty, key=lambda confusion: (confusion.protocol != STRICT, confusion.track != LINEAR))[:1]


def scores_table(scores: Sequence[TaskScore]) -> pd.DataFrame:
    """The content of scores.csv; each estimate takes three columns."""
    table = pd.DataFrame([row.cells() for row in scores], columns=list(TaskScore.COLUMNS))
    return table.astype({"layer": "Int64", "shots": "Int64"})


def hub_tasks(summary: ProbeSummary, tasks: Mapping[str, Task]) -> list[HubTask]:
    """The primary scores for model hubs by task, without those of the strict recipe on given splits.

    The main score is that of the strict recipe with the linear head, if requested. Failures have undefined scores.
    """
    results: dict[str, list[tuple[str, str, HubResult]]] = {}
    for row in summary.scores:
        if row.metric != task_type(tasks[row.task]).primary_metric:
            continue
        layer = "" if row.layer is None else f"_layer_{row.layer}"
        shots = "" if row.shots is None else f"_{row.shots}_shot"
        signature = summary.signature.replaced(track=row.track, protocol=row.protocol, metric=row.metric)
        result = HubResult(f"{row.protocol}_{row.track}_{row.metric}{layer}{shots}", row.score, signature)
        results.setdefault(row.task, []).append((row.protocol, row.track, result))
    for failure in summary.failed:
        name = "_".join(filter(None, (failure.protocol, failure.track))) or "score"
        result = HubResult(name, Estimate(None, why=failure.error), summary.signature)
        results.setdefault(failure.task, []).append((failure.protocol, failure.track, result))
    hub = []
    for name, of_task in results.items():
        reported = [each for each in of_task if each[0] != STRICT_GIVEN_SPLITS]
        in_order = sorted(reported, key=lambda each: (each[0] != STRICT, each[1] != LINEAR))
        hub.append(HubTask(name, [result for _, _, result in in_order], slug(name)))
    return hub


def build_summary(run: CompletedRun, invocation: Invocation) -> ProbeSummary:
    """Build summary.json: provenance and results."""
    settings, outcomes, encoder = run.settings, run.outcomes.values(), run.encoder
    parameters = {**settings.parameters, "tasks": list(run.tasks), "allow_missing": run.options.allow_missing}
    parameters |= {key: shown_argument(parameters[key]) for key in ("language_model", "tokenizer") if parameters[key]}
    scores = [row for outcome in outcomes for row in outcome.scores]
    return ProbeSummary.from_common(
        provenance(
            invocation,
            device=str(encoder.description.get("device", "cpu")),
            inputs=input_records({path: n for each in run.located for path, n in each.label_files.items()}),
            parameters=parameters,
            exclusions=exclusions({reason: n for outcome in outcomes for reason, n in outcome.left_out.items()}),
            signature=Signature.from_parts(
                suite="probe",
                track="any",
                protocol="any",
                metric="any",
                ci=f"source-bootstrap-{settings.replicates}",
                seed=settings.seed,
                parameters=parameters_hash(parameters),
                data=parameters_hash({each.task.name: each.labels_hash for each in run.located if each.present}),
                model=encoder.identity,
            ),
        ),
        encoder_name=run.options.model_name or encoder.name,
        encoder=encoder.description,
        scores=scores,
        averages=averages(scores, run.tasks),
        failed=[
            failure
            for name, outcome in run.outcomes.items()
            for failure in outcome.failed_tasks(name, invocation.script.name)
        ],
        skipped=list(run.skipped),
        warnings=[shown_text(warning) for warning in run.warnings],
        shared_sources=[outcome.shared_sources for outcome in outcomes if outcome.shared_sources],
        alike_classes=[
            NearDuplicateClasses(task=name, classes=outcome.alike_classes)
            for name, outcome in run.outcomes.items()
            if outcome.alike_classes
        ],
        not_compared=[
            NotCompared(task=name, reason=outcome.unlike_published)
            for name, outcome in run.outcomes.items()
            if outcome.unlike_published
        ],
    )
