"""`probe.py run`: every task probed, several at a time if asked, none twice, and the report of all of them."""

import json
import multiprocessing
import signal
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earmark import __version__, script
from earmark.audio.clips import file_stamp
from earmark.commands.encoders import loaded_encoder
from earmark.commands.probe_report import failures, to_npz, write
from earmark.embeddings.store import PREPROCESSING, EmbeddingStore
from earmark.errors import EarmarkError, MissingError
from earmark.models.audio_text import usable_device
from earmark.models.encoders import Encoder
from earmark.models.encoders.given import GivenEmbeddings
from earmark.probes.training import missing, torch_library
from earmark.report.files import locked, write_together
from earmark.report.provenance import file_name
from earmark.report.tables import to_csv
from earmark.suites.probe_data import STRICT, XARES
from earmark.suites.probe_tracks import KNN, LINEAR, Settings
from earmark.suites.probing import VERSION, probe
from earmark.suites.task_data import fingerprint, read_data, status
from earmark.suites.task_files import chosen
from earmark.suites.xares import Task

PRIVATE = "private: no data"


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
    """Probe, write and show; 1 where anything failed, 2 where all of it was missing."""
    asked = chosen(arguments.tasks)
    settings = settings_of(arguments)
    if LINEAR in settings.tracks:
        require_libraries()
        if arguments.device != "auto":
            usable_device(arguments.device, arguments.dtype)
    tasks, skipped = sorted_out(asked, settings, arguments)
    encoder = loaded_encoder(arguments)
    require_layers(encoder, settings)
    folder = arguments.output_dir / file_name(arguments.name or encoder.name)
    with locked([folder]):
        outcomes = dict(probed(tasks, settings, encoder, folder, arguments))
        in_order = {task.name: outcomes[task.name] for task in tasks}
        report = write(folder, tasks, in_order, skipped, encoder, settings, arguments)
    script.show(report)
    for failure in failures(in_order):
        place = ", ".join(filter(None, (failure["task"], failure["track"], failure["protocol"])))
        script.warn(f"{place}: {failure['error'].removeprefix(failure['task'] + ': ')}", arguments)
    failed = [one for outcome in in_order.values() for one in outcome["failed"]]
    if failed and all(one["missing"] for one in failed) and not any(outcome["rows"] for outcome in in_order.values()):
        return script.USAGE
    return script.FAILED if failed else script.COMPLETE


def sorted_out(
    asked: Sequence[Task], settings: Settings, arguments: Namespace
) -> tuple[list[Task], list[dict[str, str]]]:
    """The tasks to probe; and what is skipped, with the reason. MissingError where nothing is left."""
    private = [task for task in asked if status(task, arguments.data_root).state == PRIVATE]
    tasks = [task for task in asked if task not in private]
    without = [task for task in tasks if not task.knn] if KNN in settings.tracks else []
    skipped = [{"task": task.formal_name, "reason": PRIVATE} for task in private]
    skipped += [{"task": task.formal_name, "reason": "has no kNN track"} for task in without]
    if settings.tracks == (KNN,):
        tasks = [task for task in tasks if task.knn]
    if not tasks:
        raise MissingError("\n".join(["Nothing to probe:", *(f"  {one['task']}: {one['reason']}" for one in skipped)]))
    return tasks, skipped


def require_layers(encoder: Encoder | GivenEmbeddings, settings: Settings) -> None:
    """Find out before any clip is heard that an encoder lacks a layer."""
    if not settings.layers:
        return
    there = 1 if isinstance(encoder, GivenEmbeddings) else encoder.layers
    if max(settings.layers) >= there:
        known = f"the layers 0 to {there - 1}" if there > 1 else "one layer, 0"
        raise MissingError(f"--layers {max(settings.layers)}: {encoder.name} has {known}.")


def settings_of(arguments: Namespace) -> Settings:
    """What the flags ask of every task."""
    if arguments.shots and arguments.protocol == XARES:
        raise MissingError("--shots: the published recipe has no few-shot training; it is `--protocol strict` alone.")
    protocols = (XARES, STRICT) if arguments.protocol == "both" else (arguments.protocol,)
    return Settings(
        tracks=(LINEAR, KNN) if arguments.track == "both" else (arguments.track,),
        protocols=(STRICT,) if arguments.shots else protocols,
        seed=arguments.seed,
        seeds=arguments.seeds,
        layers=arguments.layers,
        shots=arguments.shots,
        replicates=arguments.bootstrap,
        device=arguments.device,
        language_model=arguments.language_model,
        tokenizer=arguments.tokenizer,
    )


def require_libraries() -> None:
    """Say which command supplies what linear heads need before anything is embedded; importing it waits until then."""
    for library in ("torch", "numba"):
        try:
            there = find_spec(library) is not None
        except (ImportError, ValueError):  # an import hook, or a module put in its place, may raise here already
            there = False
        if not there:
            raise missing(library)


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
            yield task.name, failed(error)
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
    known = {**asdict(task), "home": None, "allow_missing": arguments.allow_missing}
    everything = [
        __version__,
        VERSION,
        PREPROCESSING,
        known,
        asdict(settings),
        encoder.identity,
        fingerprint(task, arguments.data_root),
        [f"{path.name} {file_stamp(path)}" for path in model_files(task, settings)],
    ]
    return sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


def model_files(task: Task, settings: Settings) -> list[Path]:
    """The files of a recogniser's language model or of a retrieval task's tokenizer, where it is a folder here."""
    folder = Path({"asr": settings.language_model, "retrieval": settings.tokenizer}.get(task.type) or "")
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.name and folder.is_dir() else []


def finished_task(folder: Path, task: Task, key: str) -> dict[str, Any] | None:
    """What an earlier run found with the same key, if the predictions that it wrote are still there."""
    try:
        known = json.loads((folder / "tasks" / f"{file_name(task.name)}.json").read_text(encoding="utf-8"))
        there = all((folder / "predictions" / name).is_file() for name in known["predictions"])
        return dict(known) if known["key"] == key and there else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def one_by_one(jobs: Sequence[Job], encoder: Encoder | GivenEmbeddings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tasks in this process, one after the other."""
    for job in jobs:
        yield job.task.name, work(job, encoder)


def in_processes(jobs: Sequence[Job], arguments: Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tasks in processes of their own, which share the store; one that dies takes its task with it alone."""
    processes = min(arguments.jobs, len(jobs))
    silent = Namespace(
        **{**vars(arguments), "quiet": True, "jobs": processes}
    )  # their bars would write over each other
    waiting = [replace(job, arguments=silent) for job in jobs]
    for job, outcome in _pooled(waiting, processes):
        if outcome is not None:
            waiting.remove(job)
            yield job.task.name, outcome
    for job in waiting:  # a process was killed, and nobody knows whose; each gets one of its own
        for _, outcome in _pooled([job], 1):
            killed = failed("its process was killed, perhaps for memory; try fewer --jobs")
            yield job.task.name, outcome or killed


def _pooled(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any] | None]]:
    """Each job with its outcome as it is finished; None once a process has died."""
    uninterrupted, spawn = (signal.SIGINT, signal.SIG_IGN), multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, spawn, initializer=signal.signal, initargs=uninterrupted)
    try:
        asked = {pool.submit(work_alone, job): job for job in jobs}
        for future in as_completed(asked):
            try:
                yield asked[future], future.result()
            except BrokenProcessPool:
                yield asked[future], None
    except BaseException:
        for process in multiprocessing.active_children():  # what a task has not finished, it would do again anyway
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _encoder_of(spec: str, embeddings: str, device: str, dtype: str, token: str | None) -> Encoder | GivenEmbeddings:
    given = Namespace(encoder=spec, embeddings=embeddings, device=device, dtype=dtype, token=token)
    return loaded_encoder(given)


@cache
def _share_cores(processes: int) -> None:
    """Leave the other processes their cores: steps that wait for threads without one are many times slower."""
    torch = torch_library()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def work_alone(job: Job) -> dict[str, Any]:
    """In a process of its own: the encoder is loaded once for all of its tasks."""
    arguments = job.arguments
    if LINEAR in job.settings.tracks:
        _share_cores(arguments.jobs)
    names = ("encoder", "embeddings", "device", "dtype", "token")
    try:
        encoder = _encoder_of(*(getattr(arguments, name) for name in names))
    except Exception as error:  # memory of an accelerator, say, that the others have taken
        return failed(f"{type(error).__name__}: {error}")
    return work(job, encoder)


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
            allow_missing=arguments.allow_missing,
            watch=lambda made, n: script.progress(made, arguments, total=n, what=job.task.name, unit="clip"),
        )
    except (EarmarkError, ValueError) as error:
        return failed(error)
    except Exception as error:  # a user's model may raise anything; the other tasks go on
        return failed(traceback.format_exc() if arguments.debug else f"{type(error).__name__}: {error}")
    rows = [{**asdict(row), "score": row.score.as_dict()} for row in found.rows]
    outcome: dict[str, Any] = {"key": job.key, "rows": rows, "classes": found.classes, "confusions": found.confusions}
    outcome |= {"failed": found.failed, "left_out": found.left_out}
    name = file_name(job.task.name)
    predictions: dict[str, str | bytes | None] = {
        **{f"{name}_{track}_{protocol}.csv": to_csv(table) for (track, protocol), table in found.predictions.items()},
        **{f"{name}_{track}_{protocol}.npz": to_npz(arrays) for (track, protocol), arrays in found.outputs.items()},
    }
    outcome["predictions"] = list(predictions)
    # What failed is tried again; and what an earlier run knew no longer fits the predictions that stand there now.
    known = None if found.failed else json.dumps(outcome, allow_nan=False) + "\n"
    contents = {job.folder / "predictions" / file: content for file, content in predictions.items()}
    write_together({**contents, job.folder / "tasks" / f"{name}.json": known})
    return outcome


def failed(error: EarmarkError | ValueError | str) -> dict[str, Any]:
    """The outcome of a task of which nothing could be scored."""
    told = {"error": str(error), "missing": isinstance(error, MissingError)}
    return {"rows": [], "classes": [], "confusions": [], "left_out": {}, "failed": [told]}
