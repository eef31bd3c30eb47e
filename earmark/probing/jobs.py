"""The tasks of `probe.py run` at work: one by one or in processes, kept on disk as they are finished."""

import io
import multiprocessing
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark import cli
from earmark.embeddings.cache import EmbeddingCache
from earmark.errors import EarmarkError
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.features import ClipEmbedder
from earmark.probing.heads.batched import torch_library
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import ProbeSettings, RunOptions
from earmark.probing.outcome import TaskOutcome, store_outcome
from earmark.probing.probe import ProbeResult, probe
from earmark.probing.reading import read_task_data
from earmark.probing.tasks import Task
from earmark.report.provenance import file_name
from earmark.report.tables import to_csv
from earmark.workers import exit_with_parent


@dataclass(frozen=True)
class Job:
    """One task to probe, as a process gets it. known: of an earlier run with the same key in which something failed."""

    located: LocatedTask
    settings: ProbeSettings
    options: RunOptions
    invocation: cli.Invocation
    folder: Path
    key: str
    known: TaskOutcome | None = None

    @property
    def task(self) -> Task:
        """Whose data are located."""
        return self.located.task

    def failed(self, error: Exception | str) -> TaskOutcome:
        """A failure of the whole task, beside what an earlier run knew of it."""
        failure = TaskOutcome.from_error(error)
        return failure if self.known is None else self.known.with_failures_of(failure)


def run_sequentially(
    jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings
) -> Iterator[tuple[str, TaskOutcome]]:
    """Tasks in this process, one after the other."""
    for job in jobs:
        yield job.task.name, run_job(job, encoder)


def run_in_processes(jobs: Sequence[Job], processes: int) -> Iterator[tuple[str, TaskOutcome]]:
    """Tasks in processes of their own, which share the store; one that dies takes its task with it alone."""
    processes = min(processes, len(jobs))
    # Quiet, for the bars of several would write over each other.
    waiting = {
        job.task.name: replace(
            job, invocation=replace(job.invocation, quiet=True), options=replace(job.options, workers=processes)
        )
        for job in jobs
    }
    for job, outcome in _pooled(list(waiting.values()), processes):
        if outcome is not None:
            del waiting[job.task.name]
            yield job.task.name, outcome
    for job in waiting.values():  # a process was killed, and nobody knows whose; each gets one of its own
        for _, outcome in _pooled([job], 1):
            killed = "its process was killed, perhaps for memory; try fewer --workers"
            yield job.task.name, outcome or job.failed(killed)


def _pooled(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Each job with its outcome as it is finished; None once a process has died."""
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=exit_with_parent)
    try:
        asked = {pool.submit(run_in_worker, job): job for job in jobs}
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
def _encoder_of(options: EncoderOptions) -> Encoder | PrecomputedEmbeddings:
    return load_encoder_from_options(options)


@cache
def _share_cores(processes: int) -> None:
    """Leave the other processes their cores: steps that wait for threads without one are many times slower."""
    torch = torch_library()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def with_head_device(settings: ProbeSettings) -> ProbeSettings:
    """The settings with the device that heads train on: the one asked for, or a GPU where there is one."""
    if settings.device != "auto" or not settings.needs_torch:
        return settings
    return replace(settings, device="cuda" if torch_library().cuda.is_available() else "cpu")


def run_in_worker(job: Job) -> TaskOutcome:
    """In a process of its own: the encoder is loaded once for all of its tasks."""
    if job.settings.needs_torch:
        _share_cores(job.options.workers)
    try:
        encoder = _encoder_of(job.options.model)
    except (Exception, SystemExit) as error:  # memory of an accelerator, say, that the others have taken
        return job.failed(f"{type(error).__name__}: {error}")
    return run_job(job, encoder)


def run_job(job: Job, encoder: Encoder | PrecomputedEmbeddings) -> TaskOutcome:
    """A task's scores, kept on disk; or what went wrong, which never stops the others."""
    known, model, task = job.known or TaskOutcome(), job.options.model, job.task
    embedder = ClipEmbedder(
        encoder,
        EmbeddingCache(model.embedding_cache),
        model.batch_size,
        job.options.allow_missing,
        track_progress=lambda made, n: job.invocation.progress(made, total=n, label=task.name, unit="clip"),
    )
    try:
        data = read_task_data(job.located, require_audio=not isinstance(encoder, PrecomputedEmbeddings))
        found = probe(
            task, data, embedder, with_head_device(job.settings), data_root=job.located.data_root, done=known.completed
        )
        outcome = found.outcome.model_copy(update={"key": job.key})
        return store_outcome(job.folder, task.name, outcome, _files(task.name, found), known)
    except (EarmarkError, ValueError) as error:
        return job.failed(error)
    except OSError as error:
        return job.failed(cli.format_os_error(error))
    except (Exception, SystemExit) as error:  # a user's model may raise anything; the other tasks go on
        return job.failed(traceback.format_exc() if job.invocation.debug else f"{type(error).__name__}: {error}")


def _files(task: str, found: ProbeResult) -> dict[str, str | bytes]:
    """{name: content} of the predictions, and of the outputs behind them."""
    name = file_name(task)
    return {
        **{f"{name}_{t}_{p}.csv": to_csv(table) for (t, p), table in found.predictions.items()},
        **{f"{name}_{t}_{p}.npz": to_npz(arrays) for (t, p), arrays in found.outputs.items()},
    }


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of a .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
