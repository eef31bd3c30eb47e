"""Write the results of `probe.py run`: scores, summary and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from earmark.cli import DatasetId, Invocation
from earmark.files.atomic import write_together
from earmark.files.remote import below
from earmark.metrics.estimate import Estimate
from earmark.probing.comparison import averages, comparison_tables, layer_curves
from earmark.probing.heads.knn import K_CANDIDATES
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import KNN, LINEAR, STRICT, STRICT_GIVEN_SPLITS, ProbeSettings
from earmark.probing.outcome import TaskOrigin, TaskOutcome
from earmark.probing.page import confused_clips, layer_tables, probe_figures
from earmark.probing.schema import (
    ClassRow,
    ClassTable,
    Confusion,
    NearDuplicateClasses,
    NotCompared,
    ProbeSummary,
    SkippedTask,
    TaskScore,
)
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
class ReportFlags:
    """What a report contains besides the scores.

    Attributes
    ----------
    figures : bool
        Whether to write figures and report.html.
    embed_audio : float
        MiB of audio that may become part of report.html.
    dataset_id : DatasetId or None
        Dataset to name in the files for model hubs; None writes none.
    """

    figures: bool = True
    embed_audio: float = 0.0
    dataset_id: DatasetId | None = None


MAX_CLASSES = 10  # rows of a table of classes in the report
RECALL = ("recall", "recall_low", "recall_high")
Table = TypeVar("Table", ClassTable, Confusion)


@dataclass(frozen=True)
class CompletedRun:
    """Finished tasks of one encoder with the same settings, of one or several runs.

    Attributes
    ----------
    outcomes : mapping
        {task or invalid task file: its outcome}, in the order of the report.
    skipped : sequence of SkippedTask
        Tasks that were not run.
    origin : TaskOrigin
        Encoder and settings; its task is one of these.
    flags : ReportFlags
        What the report contains besides the scores.
    collected : sequence of str
        Tasks of other runs.
    """

    outcomes: Mapping[str, TaskOutcome]
    skipped: Sequence[SkippedTask]
    origin: TaskOrigin
    flags: ReportFlags = ReportFlags()
    collected: Sequence[str] = ()

    @property
    def origins(self) -> dict[str, TaskOrigin]:
        """{task: what its outcome was computed from}; without invalid task files."""
        return {name: outcome.origin for name, outcome in self.outcomes.items() if outcome.origin is not None}

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """{name: task}."""
        return {name: origin.original_task() for name, origin in self.origins.items()}

    @property
    def settings(self) -> ProbeSettings:
        """Settings of the runs."""
        return self.origin.probe_settings

    def located(self, folder: Path) -> list[LocatedTask]:
        """The tasks with their manifests, if these are still where they were."""
        return [
            LocatedTask(self.tasks[name], Path(), below(folder, origin.manifest) if origin.manifest else None, {})
            for name, origin in self.origins.items()
        ]


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
            for item in most_informative([each for each in outcome.confusions if each.rows])
        ],
        classes=[
            {"task": names[name], "table": table, "rows": class_rows(table)}
            for name, outcome in run.outcomes.items()
            for table in most_informative(outcome.classes)
        ],
        collected=[names[name] for name in summary.collected],
        has_layers=any(row.layer is not None for row in summary.scores),
        layer_tables=[table for table in layer_tables(summary.scores) if len(table.layers) > 1],
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
    hub = hub_files(run.flags.dataset_id, "probe", tasks, summary)
    contents |= {folder / name: text for name, text in hub.items()}
    for name, outcome in run.outcomes.items():
        rows = [
            {"track": table.track, "protocol": table.protocol, **row} for table in outcome.classes for row in table.rows
        ]
        if rows:
            contents[folder / "per_class" / f"{file_name(name)}.csv"] = to_csv(pd.DataFrame(rows))
    html = None
    figures = []
    if run.flags.figures:
        compared = set(run.tasks) - {item.task for item in summary.not_compared}
        figures = probe_figures(summary.scores, run.tasks, compared, folder)
        html = page(
            f"Probe report: {summary.encoder_name}",
            report,
            folder,
            figures=figures,
            clips=confused_clips(run.located(folder), folder),
            embed_audio_mib=run.flags.embed_audio,
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


def most_informative(tables: Sequence[Table]) -> list[Table]:
    """The table of a task to show, as a list of at most one: strict before xares, linear before k-NN."""
    return sorted(tables, key=lambda table: (table.protocol != STRICT, table.track != LINEAR))[:1]


def class_rows(table: ClassTable) -> list[list[Any]]:
    """Name, number of items, recall, precision and F1 of the MAX_CLASSES classes with the lowest F1.

    Empty for tables without F1, such as those of several labels per clip.
    """
    scored = [row for row in table.rows if isinstance(row.get("f1"), float)]
    lowest = sorted(scored, key=lambda row: float(row["f1"] or 0.0))[:MAX_CLASSES]
    return [[row["class"], row["n"], _recall(row), row["precision"], row["f1"]] for row in lowest]


def _recall(row: ClassRow) -> Estimate:
    value, low, high = (None if row.get(key) is None else float(row[key] or 0) for key in RECALL)
    return Estimate(value, low, high)


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
    settings, outcomes, origin = run.settings, run.outcomes.values(), run.origin
    parameters = {**settings.parameters, "tasks": list(run.tasks), "allow_missing": origin.allow_missing}
    parameters |= {key: shown_argument(parameters[key]) for key in ("language_model", "tokenizer") if parameters[key]}
    scores = [row for outcome in outcomes for row in outcome.scores]
    origins = run.origins
    return ProbeSummary.from_common(
        provenance(
            invocation,
            device=str(origin.encoder.get("device", "cpu")),
            inputs=[file for each in origins.values() for file in each.inputs],
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
                data=parameters_hash({name: each.labels_hash for name, each in origins.items() if each.labels_hash}),
                model=origin.encoder_identity,
            ),
        ),
        encoder_name=origin.encoder_name,
        encoder=origin.encoder,
        scores=scores,
        averages=averages(scores, run.tasks),
        failed=[
            failure
            for name, outcome in run.outcomes.items()
            for failure in outcome.failed_tasks(name, invocation.script.name)
        ],
        skipped=list(run.skipped),
        warnings=list(dict.fromkeys(shown_text(warning) for each in origins.values() for warning in each.warnings)),
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
        collected=list(run.collected),
    )
