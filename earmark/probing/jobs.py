"""The tasks of `probe.py run` at work: one by one or in processes, kept on disk as they are finished."""

import json
import multiprocessing
import os
import signal
import threading
import traceback
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from earmark import cli
from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError, MissingError
from earmark.files.atomic import write_together
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.from_options import loaded_encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.probing.data import read_data
from earmark.probing.features import PROTOCOLS
from earmark.probing.heads.batched import torch_library
from earmark.probing.probe import Probed, probe
from earmark.probing.report import to_npz
from earmark.probing.tasks import Task
from earmark.probing.tracks import KNN, LINEAR, Settings
from earmark.report.provenance import file_name
from earmark.report.tables import to_csv

PREDICTIONS = ((LINEAR, KNN), PROTOCOLS, ("csv", "npz"))


@dataclass(frozen=True)
class Job:
    """One task to probe, as a process gets it."""

    task: Task
    settings: Settings
    data_root: Path
    folder: Path
    key: str
    arguments: Namespace
    known: Mapping[str, Any] | None = None  # of an earlier run with the same key, in which something failed


def known_task(folder: Path, task: Task, key: str) -> dict[str, Any] | None:
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
    # Quiet, for the bars of several would write over each other.
    silent = Namespace(**{**vars(arguments), "quiet": True, "jobs": processes})
    waiting = [replace(job, arguments=silent) for job in jobs]
    for job, outcome in _pooled(waiting, processes):
        if outcome is not None:
            waiting.remove(job)
            yield job.task.name, outcome
    for job in waiting:  # a process was killed, and nobody knows whose; each gets one of its own
        for _, outcome in _pooled([job], 1):
            killed = failed("its process was killed, perhaps for memory; try fewer --jobs")
            yield job.task.name, outcome or with_known(job, killed)


def _pooled(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any] | None]]:
    """Each job with its outcome as it is finished; None once a process has died."""
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_follow_parent)
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


def _follow_parent() -> None:
    """Leave Ctrl-C to the process that started this one, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(cli.FAILED)


@cache
def _encoder_of(spec: str, embeddings: str, device: str, dtype: str, token: str | None) -> Encoder | GivenEmbeddings:
    given = Namespace(encoder=spec, embeddings=embeddings, device=device, dtype=dtype, token=token)
    return loaded_encoder(cli.options(EncoderOptions, given))


@cache
def _share_cores(processes: int) -> None:
    """Leave the other processes their cores: steps that wait for threads without one are many times slower."""
    torch = torch_library()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def head_device(settings: Settings) -> Settings:
    """The settings with the device that heads train on: the one asked for, or a GPU where there is one."""
    if settings.device != "auto" or not settings.needs_torch:
        return settings
    return replace(settings, device="cuda" if torch_library().cuda.is_available() else "cpu")


def work_alone(job: Job) -> dict[str, Any]:
    """In a process of its own: the encoder is loaded once for all of its tasks."""
    arguments = job.arguments
    if job.settings.needs_torch:
        _share_cores(arguments.jobs)
    names = ("encoder", "embeddings", "device", "dtype", "token")
    try:
        encoder = _encoder_of(*(getattr(arguments, name) for name in names))
    except (Exception, SystemExit) as error:  # memory of an accelerator, say, that the others have taken
        return with_known(job, failed(f"{type(error).__name__}: {error}"))
    return work(job, encoder)


def work(job: Job, encoder: Encoder | GivenEmbeddings) -> dict[str, Any]:
    """A task's scores, kept on disk; or what went wrong, which never stops the others."""
    arguments, known = job.arguments, job.known or failed("")
    lacking = {(one["track"], one["protocol"]) for one in known["failed"] if "track" in one}
    done = {(row["track"], row["protocol"]) for row in known["rows"]} - lacking
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
            watch=lambda made, n: cli.progress(made, arguments, total=n, what=job.task.name, unit="clip"),
            done=done,
        )
        return _kept(job, found, known, done)
    except (EarmarkError, ValueError) as error:
        return with_known(job, failed(error))
    except OSError as error:
        return with_known(job, failed(cli.of_the_system(error)))
    except (Exception, SystemExit) as error:  # a user's model may raise anything; the other tasks go on
        told = traceback.format_exc() if arguments.debug else f"{type(error).__name__}: {error}"
        return with_known(job, failed(told))


def _kept(job: Job, found: Probed, known: Mapping[str, Any], done: Collection[Any]) -> dict[str, Any]:
    """Write what was found beside what was known of the tracks and protocols that are done; returns both."""
    rows = [{**asdict(row), "score": row.score.as_dict()} for row in found.rows]
    parts = {"rows": rows, "classes": found.classes, "confusions": found.confusions}
    name = file_name(job.task.name)
    predictions: dict[str, str | bytes | None] = {
        **{f"{name}_{track}_{protocol}.csv": to_csv(table) for (track, protocol), table in found.predictions.items()},
        **{f"{name}_{track}_{protocol}.npz": to_npz(arrays) for (track, protocol), arrays in found.outputs.items()},
    }
    every = {f"{name}_{track}_{protocol}.{kind}": (track, protocol) for track, protocol, kind in product(*PREDICTIONS)}
    kept = [file for file in known["predictions"] if every[file] in done]
    outcome: dict[str, Any] = {
        "key": job.key,
        **{part: together(known[part], new, done, job.settings) for part, new in parts.items()},
        "failed": found.failed,
        "left_out": {**known["left_out"], **found.left_out},
        "predictions": [*kept, *predictions],
        "shared_sources": found.spanning and {**asdict(found.spanning), "strict": found.by_source},
    }
    # Files of tracks and protocols that were not asked for now would stand beside scores that they do not belong to.
    contents = {job.folder / "predictions" / file: predictions.get(file) for file in every if file not in kept}
    told = json.dumps(outcome, allow_nan=False) + "\n"
    write_together({**contents, job.folder / "tasks" / f"{name}.json": told})
    return outcome


def together(
    known: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], done: Collection[Any], settings: Settings
) -> list[Mapping[str, Any]]:
    """What an earlier run knew of tracks and protocols that are done, and what is new, in the order of a whole run."""
    rows = [*(row for row in known if (row["track"], row["protocol"]) in done), *new]

    def place(row: Mapping[str, Any]) -> tuple[int, int, int]:
        layer = row.get("layer")
        return (
            -1 if layer is None else layer,
            settings.tracks.index(row["track"]),
            PROTOCOLS.index(row["protocol"]),
        )

    return sorted(rows, key=place)


def with_known(job: Job, outcome: dict[str, Any]) -> dict[str, Any]:
    """A failure of the whole task, beside what an earlier run knew of it."""
    known = job.known or {}
    return {**outcome, **known, "failed": [*known.get("failed", ()), *outcome["failed"]]}


def failed(error: EarmarkError | ValueError | str) -> dict[str, Any]:
    """The outcome of a task of which nothing could be scored."""
    told = {"error": str(error), "missing": isinstance(error, MissingError), "again": True}
    return {"rows": [], "classes": [], "confusions": [], "left_out": {}, "predictions": [], "failed": [told]}
