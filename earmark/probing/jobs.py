"""Run the tasks of `probe.py run`, sequentially or in worker processes, and store each finished task."""

import io
import multiprocessing
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark import cli
from earmark.audio.clips import Clip
from earmark.cluster.cache import CacheWithout
from earmark.errors import EarmarkError
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.torch_runtime import use_full_float32
from earmark.probing.features import ClipEmbedder
from earmark.probing.folder import task_lock
from earmark.probing.heads.batched import torch_library
from earmark.probing.layouts import LocatedTask
from earmark.probing.options import ProbeSettings, RunOptions
from earmark.probing.outcome import ITEMS, TaskOrigin, TaskOutcome, store_failure, store_outcome, stored_outcome
from earmark.probing.probe import ProbeResult, probe
from earmark.probing.reading import read_task_data
from earmark.probing.tasks import Task
from earmark.report.provenance import file_name
from earmark.report.tables import to_csv
from earmark.workers import exit_with_parent


@dataclass(frozen=True)
class Job:
    """One task to probe, as passed to a worker process.

    Attributes
    ----------
    located : LocatedTask
        The task and its files.
    settings, options, invocation
        Settings of the run.
    folder : Path
        Result folder of the encoder.
    key : str
        Digest of everything that the scores depend on.
    origin : TaskOrigin
        What the scores depend on, as it is stored beside them.
    earlier : TaskOutcome or None
        Incomplete outcome of an earlier run with the same key.
    wait : bool
        Whether to wait for another process that works on the task.
    unusable : mapping
        {clip: why it must not be embedded}.
    """

    located: LocatedTask
    settings: ProbeSettings
    options: RunOptions
    invocation: cli.Invocation
    folder: Path
    key: str
    origin: TaskOrigin
    earlier: TaskOutcome | None = None
    wait: bool = False
    unusable: Mapping[Clip, str] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task."""
        return self.located.task

    def failed(self, error: Exception | str) -> TaskOutcome:
        """Outcome for a failure of the whole task, together with the earlier outcome."""
        failure = TaskOutcome.from_error(error).model_copy(update={"key": self.key, "origin": self.origin})
        return failure if self.earlier is None else self.earlier.with_failures_of(failure)


def run_sequentially(
    jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings
) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Yield each job and its outcome, one after the other in this process; None if another process works on it."""
    for job in jobs:
        yield job, run_job(job, encoder)


def run_in_processes(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Yield each job and its outcome from worker processes, which share the embedding cache.

    The outcome is None if a process of another run works on the task. If a process is killed, the unfinished tasks are
    run again, each in a process of its own.
    """
    processes = min(processes, len(jobs))
    # Quiet, because progress bars of several processes would overwrite each other.
    pending = {
        job.task.name: replace(
            job, invocation=replace(job.invocation, quiet=True), options=replace(job.options, workers=processes)
        )
        for job in jobs
    }
    for job, outcome in _pooled(list(pending.values()), processes):
        if not isinstance(outcome, BrokenProcessPool):
            del pending[job.task.name]
            yield job, outcome
    for job in pending.values():  # the killed process is unknown: run each job in a process of its own
        for _, outcome in _pooled([job], 1):
            if isinstance(outcome, BrokenProcessPool):
                outcome = job.failed("worker process killed, possibly out of memory; use fewer --workers")
                store_failure(job.folder, job.task.name, outcome)
            yield job, outcome


def _pooled(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, TaskOutcome | BrokenProcessPool | None]]:
    """Yield each job with its outcome, or with the error after a process was killed."""
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=exit_with_parent)
    try:
        jobs_by_future = {pool.submit(run_in_worker, job): job for job in jobs}
        for future in as_completed(jobs_by_future):
            try:
                yield jobs_by_future[future], future.result()
            except BrokenProcessPool as error:
                yield jobs_by_future[future], error
    except BaseException:
        for process in multiprocessing.active_children():  # unfinished tasks are run again anyway
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _encoder_of(options: EncoderOptions) -> Encoder | PrecomputedEmbeddings:
    return load_encoder_from_options(options)


@cache
def _share_cores(processes: int) -> None:
    """Divide the CPU cores between the worker processes; oversubscribed threads are many times slower."""
    torch = torch_library()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def with_head_device(settings: ProbeSettings) -> ProbeSettings:
    """The settings with `auto` replaced by a GPU, if available, or the CPU."""
    if settings.needs_torch:
        use_full_float32()
    if settings.device != "auto" or not settings.needs_torch:
        return settings
    return replace(settings, device="cuda" if torch_library().cuda.is_available() else "cpu")


def run_in_worker(job: Job) -> TaskOutcome | None:
    """Run a job in a worker process, which loads its encoder once."""
    if job.settings.needs_torch:
        _share_cores(job.options.workers)
    try:
        encoder = _encoder_of(job.options.model)
    except (Exception, SystemExit) as error:  # such as accelerator memory used by other processes
        return job.failed(f"{type(error).__name__}: {error}")
    return run_job(job, encoder)


def run_job(job: Job, encoder: Encoder | PrecomputedEmbeddings) -> TaskOutcome | None:
    """Probe a task and store the result, unless another process works on it or has finished it in the meantime.

    Returns
    -------
    TaskOutcome or None
        None if another process works on the task. Every error becomes a failure, so that other tasks continue.
    """
    name = job.task.name
    with task_lock(job.folder, name, wait=job.wait) as free:
        if not free:
            return None
        stored = stored_outcome(job.folder, name, job.key)
        if stored is not None and stored.is_final:
            return stored
        outcome = _probe_and_store(replace(job, earlier=stored), encoder)
        store_failure(job.folder, name, outcome)
        return outcome


def _probe_and_store(job: Job, encoder: Encoder | PrecomputedEmbeddings) -> TaskOutcome:
    """Probe a task and store the result; every error becomes a failure."""
    earlier, model, task = job.earlier or TaskOutcome(), job.options.model, job.task
    embedder = ClipEmbedder(
        encoder,
        CacheWithout(model.embedding_cache, job.unusable),
        model.batch_size,
        job.options.allow_missing,
        track_progress=lambda embeddings, n: job.invocation.progress(embeddings, total=n, label=task.name, unit="clip"),
    )
    try:
        data = read_task_data(job.located, require_audio=not isinstance(encoder, PrecomputedEmbeddings))
        result = probe(
            task,
            data,
            embedder,
            with_head_device(job.settings),
            data_root=job.located.data_root,
            done=earlier.completed,
        )
        outcome = result.outcome.model_copy(update={"key": job.key, "origin": job.origin})
        return store_outcome(job.folder, task.name, outcome, _files(task.name, result), earlier)
    except (EarmarkError, ValueError) as error:
        return job.failed(error)
    except OSError as error:
        return job.failed(cli.format_os_error(error))
    except (Exception, SystemExit) as error:  # a user's model may raise anything
        return job.failed(traceback.format_exc() if job.invocation.debug else f"{type(error).__name__}: {error}")


def _files(task: str, result: ProbeResult) -> dict[str, str | bytes]:
    """{file name: content} of the predictions and outputs."""
    name = file_name(task)
    return {
        **{f"{name}_{t}_{p}.csv": to_csv(table) for (t, p), table in result.predictions.items()},
        **{f"{name}_{t}_{p}.npz": to_npz(arrays) for (t, p), arrays in result.outputs.items()},
        **{f"{name}_{t}_{p}.{ITEMS}": content for (t, p), content in result.items.items()},
    }


def to_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the content of a .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
