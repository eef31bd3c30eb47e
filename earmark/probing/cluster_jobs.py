"""Run the tasks of `probe.py run` on a Ray cluster: first the embeddings of all tasks, then each task in a process."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from earmark.audio.clips import Clip
from earmark.cluster.cache import ClusterCache, killed_clips
from earmark.cluster.pool import MAX_TRIES
from earmark.cluster.session import ray_module, share
from earmark.cluster.worker import EncoderFromOptions
from earmark.errors import EarmarkError
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.jobs import Job, run_in_worker
from earmark.probing.outcome import TaskOutcome, store_failure
from earmark.probing.reading import read_task_data
from earmark.probing.task_types import task_type

WAIT_SECONDS = 5.0


def run_on_cluster(
    jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings
) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Yield each job and its outcome from processes on the connected Ray cluster.

    The outcome is None if a process of another run works on the task. A task whose process is lost is run again.

    Raises
    ------
    EarmarkError
        If the cluster has no room for a process, or a node cannot load the encoder.
    """
    ready = []
    for job, failure in _embedded(jobs, encoder):
        if failure is None:
            ready.append(job)
        else:
            store_failure(job.folder, job.task.name, failure)
            yield job, failure
    yield from _probed(ready, encoder)


def _embedded(
    jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings
) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Embed the clips of each job; yield it with the outcome if that failed."""
    if not isinstance(encoder, Encoder) or not jobs:
        yield from ((job, None) for job in jobs)
        return
    model, invocation = jobs[0].options.model, jobs[0].invocation
    cache = ClusterCache(
        model.embedding_cache, EncoderFromOptions(model), jobs[0].options.cluster, invocation, model.device
    )
    with contextlib.closing(cache):
        for job in jobs:
            try:
                clips, request = _clips(job)
            except (EarmarkError, ValueError, OSError):  # the task's own process reports it
                yield job, None
                continue
            try:
                errors = cache.fill(encoder, clips, request=request, batch_size=job.options.model.batch_size)
            except EarmarkError as error:
                if error.exit_code != EarmarkError.exit_code:
                    raise
                yield job, job.failed(error)
            else:
                yield replace(job, unusable=killed_clips(errors)), None


def _clips(job: Job) -> tuple[Sequence[Clip], Any]:
    """The clips of a task, and the form of their embeddings."""
    data = read_task_data(job.located, require_audio=True)
    return data.clips, task_type(job.task).embedding_request(layers=job.settings.layers is not None)


def _probed(jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Probe tasks in processes on the cluster."""
    if not jobs:
        return
    ray = ray_module()
    options = jobs[0].options
    device = options.model.device
    resources = share(ray, options.cluster, device).resources
    probe_task = ray.remote(probe_in_folder).options(max_retries=0, **resources)
    queue = deque((quiet(job), 1) for job in jobs)
    running: dict[Any, tuple[Job, int]] = {}
    while queue or running:
        while queue:
            job, tries = queue.popleft()
            running[probe_task.remote(job, Path.cwd())] = (job, tries)
        finished, _ = ray.wait(list(running), timeout=WAIT_SECONDS)
        if not finished:
            share(ray, options.cluster, device)  # raises if no node is left that has room
        for result in finished:
            job, tries = running.pop(result)
            try:
                yield job, ray.get(result)
            except ray.exceptions.RayTaskError as error:
                yield job, _failed(job, f"{type(error.cause).__name__}: {error.cause}")
            except ray.exceptions.RayError:
                if tries < MAX_TRIES:
                    queue.append((job, tries + 1))
                else:
                    text = f"worker process killed {MAX_TRIES} times, possibly out of memory; use more --ray-cpus"
                    yield job, _failed(job, text)


def quiet(job: Job) -> Job:
    """The job without progress bars and with all cores of its process."""
    return replace(job, invocation=replace(job.invocation, quiet=True), options=replace(job.options, workers=1))


def _failed(job: Job, error: str) -> TaskOutcome:
    outcome = job.failed(error)
    store_failure(job.folder, job.task.name, outcome)
    return outcome


def probe_in_folder(job: Job, folder: Path) -> TaskOutcome | None:
    """Run a job in a process on a node; relative paths refer to `folder`."""
    os.chdir(folder)
    return run_in_worker(job)
