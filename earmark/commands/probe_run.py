"""`probe.py run`: every task probed, several at a time if asked, none twice, and the report of all of them."""

import json
import multiprocessing
import signal
import traceback
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from earmark import __version__, script
from earmark.commands.encoders import loaded_encoder
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError
from earmark.models.encoders import Encoder
from earmark.models.encoders.given import GivenEmbeddings
from earmark.probes.training import torch_library
from earmark.report.documents import render
from earmark.report.files import locked, write_together
from earmark.report.plots import line_chart
from earmark.report.provenance import exclusions, file_name, parameters_hash, provenance, shown_argument, signature
from earmark.report.summaries import ProbeSummary, to_json
from earmark.report.tables import to_csv, to_tex
from earmark.suites.probe_data import STRICT, XARES
from earmark.suites.probe_tables import averages, by_layer, comparisons
from earmark.suites.probe_tracks import KNN, LINEAR, Settings
from earmark.suites.probing import VERSION, probe
from earmark.suites.task_data import fingerprint, labels_hash, manifest_of, read_data, status
from earmark.suites.task_files import chosen
from earmark.suites.xares import Task

COLUMNS = (
    "task", "formal_name", "domain", "track", "protocol", "metric", "score", "low", "high", "n_test", "weight",
    "folds", "seeds", "seconds", "layer", "shots", "chosen",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One task to probe, as a process gets it."""

    task: Task
    settings: Settings
    data_root: Path
    folder: Path
    key: str
    arguments: Namespace


def tell_run(arguments: Namespace) -> int:
    tasks = chosen(arguments.tasks)
    settings = settings_of(arguments)
    if LINEAR in settings.tracks:
        require_torch()
    encoder = loaded_encoder(arguments)
    folder = arguments.output_dir / file_name(arguments.name or encoder.name)
    with locked([folder]):
        outcomes = dict(probed(tasks, settings, encoder, folder, arguments))
        finished = {task.name: outcomes[task.name] for task in tasks if "error" not in outcomes[task.name]}
        failed = [
            {"task": task.name, "error": outcomes[task.name]["error"]} for task in tasks if task.name not in finished
        ]
        report = write(folder, tasks, finished, failed, encoder, settings, arguments)
    script.show(report)
    for failure in failed:
        script.warn(f"{failure['task']}: {failure['error']}", arguments)
    return script.FAILED if failed else script.COMPLETE


def settings_of(arguments: Namespace) -> Settings:
    """What the flags ask of every task."""
    return Settings(
        tracks=(LINEAR, KNN) if arguments.track == "both" else (arguments.track,),
        protocols=(XARES, STRICT) if arguments.protocol == "both" else (arguments.protocol,),
        seed=arguments.seed,
        seeds=arguments.seeds,
        layers=arguments.layers,
        shots=arguments.shots,
        replicates=arguments.bootstrap,
        device=arguments.device,
        language_model=arguments.language_model,
        tokenizer=arguments.tokenizer,
    )


def require_torch() -> None:
    """Say which command supplies torch before anything is embedded; importing it waits until it is needed."""
    try:
        there = find_spec("torch") is not None
    except (ImportError, ValueError):  # an import hook, or a module that was put in its place, may raise here already
        there = False
    if not there:
        torch_library()


def head_device(settings: Settings) -> Settings:
    """The settings with the device that heads train on: the one asked for, or a GPU where there is one."""
    if settings.device != "auto" or LINEAR not in settings.tracks:
        return settings
    return replace(settings, device="cuda" if torch_library().cuda.is_available() else "cpu")


# --- tasks --------------------------------------------------------------------------------------------------


def probed(
    tasks: Sequence[Task], settings: Settings, encoder: Encoder | GivenEmbeddings, folder: Path, arguments: Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each task with its scores or its error; a task whose inputs are those of a finished one is not run again."""
    waiting = []
    for task in tasks:
        try:
            key = key_of(task, settings, encoder, arguments)
        except EarmarkError as error:
            yield task.name, {"error": str(error)}
            continue
        known = finished_task(folder, task, key)
        if known is not None:
            yield task.name, known
        else:
            waiting.append(Job(task, settings, arguments.data_root, folder, key, arguments))
    made = in_processes(waiting, arguments) if arguments.jobs > 1 and len(waiting) > 1 else one_by_one(waiting, encoder)
    yield from script.progress(made, arguments, total=len(waiting), what="tasks", unit="task")


def key_of(task: Task, settings: Settings, encoder: Encoder | GivenEmbeddings, arguments: Namespace) -> str:
    """A digest of everything that a task's scores depend on."""
    known = {**asdict(task), "home": None}
    everything = [
        __version__,
        VERSION,
        known,
        asdict(settings),
        encoder.identity,
        fingerprint(task, arguments.data_root),
    ]
    return sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


def finished_task(folder: Path, task: Task, key: str) -> dict[str, Any] | None:
    """What an earlier run found with the same key."""
    try:
        known = json.loads((folder / "tasks" / f"{file_name(task.name)}.json").read_text(encoding="utf-8"))
        return dict(known) if known["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def one_by_one(jobs: Sequence[Job], encoder: Encoder | GivenEmbeddings) -> Iterator[tuple[str, dict[str, Any]]]:
    for job in jobs:
        yield job.task.name, work(job, encoder)


def in_processes(jobs: Sequence[Job], arguments: Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tasks in processes of their own, which share the store; one that dies takes its task with it."""
    uninterrupted, spawn = (signal.SIGINT, signal.SIG_IGN), multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(arguments.jobs, spawn, initializer=signal.signal, initargs=uninterrupted)
    try:
        names = {pool.submit(work_alone, job): job.task.name for job in jobs}
        for future in as_completed(names):
            try:
                yield names[future], future.result()
            except BrokenProcessPool:
                yield names[future], {"error": "its process was killed, perhaps for memory; try fewer --jobs"}
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _encoder_of(spec: str, embeddings: str, device: str, dtype: str, token: str | None) -> Encoder | GivenEmbeddings:
    given = Namespace(encoder=spec, embeddings=embeddings, device=device, dtype=dtype, token=token)
    return loaded_encoder(given)


def work_alone(job: Job) -> dict[str, Any]:
    """In a process of its own: the encoder is loaded once for all of its tasks."""
    arguments = job.arguments
    names = ("encoder", "embeddings", "device", "dtype", "token")
    return work(job, _encoder_of(*(getattr(arguments, name) for name in names)))


def work(job: Job, encoder: Encoder | GivenEmbeddings) -> dict[str, Any]:
    """A task's scores, kept on disk; or what went wrong, which never stops the others."""
    arguments = job.arguments
    try:
        data = read_data(job.task, job.data_root)
        found = probe(
            job.task,
            data,
            encoder,
            head_device(job.settings),
            EmbeddingStore(arguments.store),
            batch_size=arguments.batch_size,
            root=job.data_root,
            watch=lambda made, n: script.progress(made, arguments, total=n, what=job.task.name, unit="clip"),
        )
    except (EarmarkError, ValueError) as error:
        return {"error": str(error)}
    except Exception as error:  # a user's model may raise anything; the other tasks go on
        told = traceback.format_exc() if arguments.debug else f"{type(error).__name__}: {error}"
        return {"error": told}
    rows = [{**asdict(row), "score": row.score.as_dict()} for row in found.rows]
    outcome = {"key": job.key, "rows": rows, "classes": found.classes, "confusions": found.confusions}
    name = file_name(job.task.name)
    contents: dict[Path, str | bytes | None] = {
        job.folder / "tasks" / f"{name}.json": json.dumps(outcome, allow_nan=False) + "\n",
        **{
            job.folder / "predictions" / f"{name}_{track}_{protocol}.csv": to_csv(table)
            for (track, protocol), table in found.predictions.items()
        },
    }
    write_together(contents)
    return outcome


# --- the report ---------------------------------------------------------------------------------------------


def write(
    folder: Path,
    tasks: Sequence[Task],
    finished: Mapping[str, Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
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
        for name, outcome in finished.items()
        for row in outcome["rows"]
    ]
    text = to_json(ProbeSummary, summarise(tasks, scores, failed, encoder, settings, arguments))
    summary = ProbeSummary.model_validate_json(text).model_dump()
    classes = {name: outcome["classes"] for name, outcome in finished.items() if outcome["classes"]}
    lines = by_layer(summary["scores"])
    report, tables = render(
        "probe.md.j2",
        s=summary,
        comparisons=comparisons(summary["scores"], known),
        confusions=[{"task": name, **of[-1]} for name, one in finished.items() if (of := one["confusions"])],
        has_layers=bool(lines),
    )
    contents: dict[Path, str | bytes | None] = {
        folder / "summary.json": text,
        folder / "report.md": report,
        folder / "report.tex": to_tex(tables),
        folder / "scores.csv": to_csv(scores_table(summary["scores"])),
        folder / "layers.svg": line_chart(lines, "layer", "score") if lines else None,
        **{folder / "per_class" / f"{file_name(name)}.csv": class_table(rows) for name, rows in classes.items()},
    }
    write_together({path: content for path, content in contents.items() if content is not None or path.exists()})
    return report


def scores_table(scores: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """scores.csv: the estimate as three columns."""
    rows = [
        {**row, "score": row["score"]["value"], **{end: row["score"][end] for end in ("low", "high")}} for row in scores
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"layer": "Int64", "shots": "Int64"})


def class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """per_class/<task>.csv"""
    return to_csv(pd.DataFrame(rows))


def summarise(
    tasks: Sequence[Task],
    scores: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
    encoder: Encoder | GivenEmbeddings,
    settings: Settings,
    arguments: Namespace,
) -> dict[str, Any]:
    """summary.json: where the numbers came from, then the numbers."""
    parameters = {**asdict(settings), "tasks": [task.name for task in tasks]}
    parameters |= {key: shown_argument(parameters[key]) for key in ("language_model", "tokenizer") if parameters[key]}
    manifests = [manifest_of(task, arguments.data_root) for task in tasks]
    files = [path for path in manifests if path.is_file()]
    data = {
        task.name: labels_hash(task, arguments.data_root) for task in tasks if status(task, arguments.data_root).present
    }
    return {
        **provenance(
            script=arguments.script,
            argv=arguments.argv,
            seed=arguments.seed,
            device=str(encoder.description.get("device", "cpu")),
            inputs={path: len(path.read_text(encoding="utf-8", errors="replace").splitlines()) - 1 for path in files},
            parameters=parameters,
            exclusions=exclusions({}),
            signature=signature(
                suite="probe",
                protocol=",".join(settings.protocols),
                metric="accuracy",
                ci=f"source-bootstrap-{settings.replicates}",
                seed=settings.seed,
                parameters=parameters_hash(parameters),
                data=parameters_hash(data),
                model=encoder.identity,
            ),
        ),
        "encoder_name": arguments.name or encoder.name,
        "encoder": encoder.description,
        "scores": scores,
        "averages": averages(scores, {task.name: task for task in tasks}),
        "failed": list(failed),
    }
