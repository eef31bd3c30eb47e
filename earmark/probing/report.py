"""What `probe.py` writes about all tasks together: scores, summary, report."""

import io
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.cli import Invocation
from earmark.files.atomic import write_together
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.probing.comparison import averages, by_layer, comparisons
from earmark.probing.features import STRICT
from earmark.probing.heads.knn import CHOICES_OF_K
from earmark.probing.layouts import labels_hash, manifest_of, status
from earmark.probing.schema import ProbeSummary
from earmark.probing.tasks import Task
from earmark.probing.tracks import LINEAR, RATES, Settings
from earmark.report.plots import line_chart
from earmark.report.provenance import (
    exclusions,
    file_name,
    hashed,
    parameters_hash,
    provenance,
    shown_argument,
    shown_text,
)
from earmark.report.render import render
from earmark.report.schema import to_json
from earmark.report.signature import Signature
from earmark.report.tables import to_csv, to_tex

COLUMNS = (
    "task", "formal_name", "domain", "track", "protocol", "metric", "score", "low", "high", "n_test", "weight",
    "folds", "seeds", "seconds", "layer", "shots", "chosen",
)  # fmt: skip
Outcomes = Mapping[str, Mapping[str, Any]]  # task → its rows, classes, confusions, failures


def write(
    folder: Path,
    tasks: Sequence[Task],
    outcomes: Outcomes,
    skipped: Sequence[Mapping[str, str]],
    encoder: Encoder | GivenEmbeddings,
    settings: Settings,
    arguments: Namespace,
) -> str:
    """All files of all tasks together; returns the report."""
    known = {task.name: task for task in tasks}
    scores = [
        {
            **row,
            "formal_name": known[name].formal_name,
            "domain": known[name].domain,
            "weight": known[name].weight,
            "private": known[name].private,
        }
        for name, outcome in outcomes.items()
        for row in outcome["rows"]
    ]
    made = summarise(tasks, scores, outcomes, skipped, encoder, settings, arguments)
    summary = made.model_dump()
    classes = {name: outcome["classes"] for name, outcome in outcomes.items() if outcome["classes"]}
    lines = by_layer(summary["scores"])
    shown = [(name, one) for name, outcome in outcomes.items() for one in told_by(outcome["confusions"])]
    report, tables = render(
        "probe.md.j2",
        s=summary,
        comparisons=comparisons(summary["scores"], known),
        confusions=[{"task": known[name].formal_name, **one} for name, one in shown],
        has_layers=any(row["layer"] is not None for row in summary["scores"]),
        has_chart=bool(lines),
        shared=[told_shared({**one, "task": known[one["task"]].formal_name}) for one in summary["shared_sources"]],
        signatures=signatures(made),
        trained_on_test=[known[name].formal_name for name in outcomes if name in known and known[name].trains_on_test],
        rates=", ".join(f"{rate:g}" for rate in RATES),
        ks=", ".join(map(str, CHOICES_OF_K)),
    )
    contents: dict[Path, str | bytes | None] = {
        folder / "summary.json": to_json(made),
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables),
        folder / "scores.csv": to_csv(scores_table(summary["scores"])),
        folder / "layers.svg": line_chart(lines, "layer", "score") if lines else None,
        **{folder / "per_class" / f"{file_name(name)}.csv": to_csv(pd.DataFrame(of)) for name, of in classes.items()},
    }
    write_together({path: content for path, content in contents.items() if content is not None or path.exists()})
    return report


def told_by(confusions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The table of confusions that tells most, if any tells anything: strict before xares, heads before neighbours."""
    telling = [one for one in confusions if one["rows"]]
    return sorted(telling, key=lambda one: (one["protocol"] != STRICT, one["track"] != LINEAR))[:1]


def signatures(summary: ProbeSummary) -> list[str]:
    """A line for each track, protocol and metric that has a score."""
    made = dict.fromkeys((row.track, row.protocol, row.metric) for row in summary.scores)
    return [
        str(summary.signature.replaced(track=track, protocol=protocol, metric=metric))
        for track, protocol, metric in made
    ]


def scores_table(scores: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """scores.csv: the estimate as three columns."""
    rows = [{**row, **{"score" if end == "value" else end: row["score"][end] for end in ENDS}} for row in scores]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64", "shots": "Int64"})


ENDS = ("value", "low", "high")


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of a .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def failures(outcomes: Outcomes) -> list[dict[str, str]]:
    """Every task, or track and protocol of one, that could not be scored."""
    return [
        {
            "task": name,
            "track": one.get("track", ""),
            "protocol": one.get("protocol", ""),
            "error": shown_text(one["error"].removeprefix(f"{name}: ")),
        }
        for name, outcome in outcomes.items()
        for one in outcome["failed"]
    ]


def shared_sources(outcomes: Outcomes) -> list[dict[str, Any]]:
    """What was counted of every task whose sources span its folds or splits."""
    return [{"task": name, **of} for name, outcome in outcomes.items() if (of := outcome.get("shared_sources"))]


def told_shared(one: Mapping[str, Any]) -> str:
    """A line about one of them."""
    strict = f" strict: {one['strict']}." if one["strict"] else ""
    return (
        f"{one['task']}: {one['spanning']:,} of {one['sources']:,} sources have clips in several {one['parts']}; "
        f"{one['shared_test_clips']:,} of {one['test_clips']:,} test clips have a source that also trains.{strict}"
    )


def summarise(
    tasks: Sequence[Task],
    scores: Sequence[Mapping[str, Any]],
    outcomes: Outcomes,
    skipped: Sequence[Mapping[str, str]],
    encoder: Encoder | GivenEmbeddings,
    settings: Settings,
    arguments: Namespace,
) -> ProbeSummary:
    """summary.json: where the numbers came from, then the numbers."""
    parameters = {**asdict(settings), "tasks": [task.name for task in tasks], "allow_missing": arguments.allow_missing}
    parameters |= {key: shown_argument(parameters[key]) for key in ("language_model", "tokenizer") if parameters[key]}
    manifests = [manifest_of(task, arguments.data_root) for task in tasks]
    files = [path for path in manifests if path.is_file()]
    present = [task for task in tasks if status(task, arguments.data_root).present]
    data = {task.name: labels_hash(task, arguments.data_root) for task in present}
    return ProbeSummary.extending(
        provenance(
            Invocation(arguments.script, tuple(arguments.argv), arguments.seed),
            device=str(encoder.description.get("device", "cpu")),
            inputs=hashed(
                {path: len(path.read_text(encoding="utf-8", errors="replace").splitlines()) - 1 for path in files}
            ),
            parameters=parameters,
            exclusions=exclusions({what: n for one in outcomes.values() for what, n in one["left_out"].items()}),
            signature=Signature.of(
                suite="probe",
                track="any",
                protocol="any",
                metric="any",
                ci=f"source-bootstrap-{settings.replicates}",
                seed=settings.seed,
                parameters=parameters_hash(parameters),
                data=parameters_hash(data),
                model=encoder.identity,
            ),
        ),
        encoder_name=arguments.name or encoder.name,
        encoder=encoder.description,
        scores=scores,
        averages=averages(scores, {task.name: task for task in tasks}),
        failed=failures(outcomes),
        skipped=list(skipped),
        shared_sources=shared_sources(outcomes),
    )
