"""Command `run` of `probe.py`: probe all tasks that are not finished, and write the report."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from earmark import __version__, cli
from earmark.audio.clips import file_stamp
from earmark.cli import Invocation
from earmark.cluster.session import connected
from earmark.embeddings.cache import PREPROCESSING_VERSION
from earmark.errors import EarmarkError, MissingError
from earmark.files.remote import is_remote, require_reachable
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance.encoder_under_test import EncoderUnderTest
from earmark.models.encoders.conformance.requirements import Verdict, batch_invariance, hop_size
from earmark.models.encoders.conformance.runner import MAX_CLIP_SECONDS
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.torch_runtime import resolve_device
from earmark.optional import require_library
from earmark.probing.cluster_jobs import run_on_cluster
from earmark.probing.folder import (
    Collected,
    collect,
    existing_folder,
    has_other_data,
    report_lock,
    task_lock,
    working_in,
)
from earmark.probing.heads.batched import EXTRA, NEEDED_BY
from earmark.probing.jobs import Job, run_in_processes, run_sequentially
from earmark.probing.joint import FinishedEncoder, write_joint_report
from earmark.probing.layouts import PRIVATE, LocatedTask, locate_task
from earmark.probing.options import KNN, ProbeSettings, RunOptions
from earmark.probing.outcome import TaskOrigin, TaskOutcome, store_origin, stored_outcome
from earmark.probing.plan import planned_run, task_size
from earmark.probing.probe import VERSION
from earmark.probing.report import CompletedRun, ReportFlags, write_results
from earmark.probing.schema import NearDuplicateClasses, SkippedTask
from earmark.probing.task_files import select_valid_tasks
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.report.provenance import file_name, input_records, shown_argument
from earmark.report.trackers import FinishedRun, log_run, require_trackers

BUSY = "another process is working on it"


def run_encoders(options: Sequence[RunOptions], invocation: Invocation) -> int:
    """Probe one encoder, or several one after the other with a table of all at the end.

    Parameters
    ----------
    options : sequence of RunOptions
        For each encoder.
    invocation : Invocation
        Shows progress and warnings.

    Returns
    -------
    int
        Exit code of a single encoder. Of several: 0 complete; 1 if anything failed. An encoder that cannot be loaded
        does not stop the others.
    """
    with connected(options[0].cluster, invocation):
        return _run_each(options, invocation)


def _run_each(options: Sequence[RunOptions], invocation: Invocation) -> int:
    """Probe the encoders one after the other."""
    if len(options) == 1:
        return run_probes(options[0], invocation)[0]
    codes, finished = [], []
    for each in options:
        invocation.warn(f"Encoder {each.model.encoder}:")
        try:
            code, folder = run_probes(each, invocation, show=False)
        except EarmarkError as error:
            invocation.warn(f"{each.model.encoder}: {error}")
            code, folder = cli.FAILED, None
        codes.append(code)
        if folder is not None:
            finished.append(FinishedEncoder.read(folder))
    if finished:
        cli.show(write_joint_report(options[0].output_dir, finished))
    return cli.FAILED if any(codes) else cli.COMPLETE


def run_probes(options: RunOptions, invocation: Invocation, show: bool = True) -> tuple[int, Path | None]:
    """Probe the tasks, write the results and print the report.

    Parameters
    ----------
    options : RunOptions
        Encoder, tasks and settings.
    invocation : Invocation
        Shows progress and warnings.
    show : bool
        Whether to print the report.

    Returns
    -------
    code : int
        Exit code: 0 complete; 1 if anything failed; 2 if nothing was scored because everything was missing.
    folder : Path or None
        Result folder of the encoder; None after a dry run.
    """
    require_trackers(options.trackers)
    tasks, invalid = select_valid_tasks(options.tasks)
    if not tasks:
        raise EarmarkError("\n".join(map(str, invalid.values())))
    settings = options.settings(invocation.seed)
    if settings.needs_torch and not options.dry_run:
        require_libraries()
        if options.model.device != "auto":
            resolve_device(options.model.device, options.model.dtype)
    require_reachable(options.data_root)
    require_reachable(options.model.embedding_cache)
    located, skipped = select_runnable([locate_task(task, options.data_root) for task in tasks], settings)
    encoder = load_encoder_from_options(options.model)
    require_layers(encoder, settings)
    name = encoder_folder_name(encoder, options)
    if options.dry_run:
        keys = dict(_keys(located, settings, encoder, options.allow_missing))
        folder = existing_folder(options.output_dir, name, encoder.identity)
        cli.show(planned_run(located, skipped, keys, settings, encoder, folder, options))
        return cli.COMPLETE, None
    with working_in(options.output_dir, name, encoder, invocation) as folder:
        warnings = encoder_warnings(encoder, settings)
        for warning in warnings:
            invocation.warn(warning)
        origins = {each.task.name: task_origin(each, settings, encoder, folder, options, warnings) for each in located}
        outcomes = dict(probe_tasks(located, settings, encoder, folder, options, invocation, origins))
        outcomes |= {name: TaskOutcome.from_error(error) for name, error in invalid.items()}
        in_order = {name: outcomes[name] for name in [*origins, *invalid]}
        report, own, finished = write_report(folder, in_order, skipped, origins, options, invocation)
    if show:
        cli.show(report)
    log_run(options.trackers, finished, invocation)
    return exit_code(own, invocation), folder


def write_report(
    folder: Path,
    outcomes: Mapping[str, TaskOutcome | None],
    skipped: Sequence[SkippedTask],
    origins: Mapping[str, TaskOrigin],
    options: RunOptions,
    invocation: Invocation,
) -> tuple[str, dict[str, TaskOutcome], FinishedRun]:
    """Write the report of the tasks of this run and of the finished tasks of other runs with the same settings.

    Parameters
    ----------
    folder : Path
        Result folder of the encoder.
    outcomes : mapping
        {task or invalid task file: its outcome}; None if another process works on the task.
    skipped : sequence of SkippedTask
        Tasks that were not run.
    origins : mapping
        {task: what its outcome is computed from} of this run.
    options : RunOptions
        Contents of the report.
    invocation : Invocation
        Command line and seed, for the summary.

    Returns
    -------
    report : str
        As Markdown.
    own : dict
        {task: outcome} of this run, with the tasks that another process has finished in the meantime.
    finished : FinishedRun
        For experiment trackers.
    """
    first = next(iter(origins.values()))
    with report_lock(folder, invocation):
        other = collect(folder, first, excluded=[name for name, outcome in outcomes.items() if outcome is not None])
        own, busy = dict[str, TaskOutcome](), list[SkippedTask]()
        for name, outcome in outcomes.items():
            found = outcome or other.outcomes.pop(name, None)
            if outcome is None and (found is None or not _same_task(found.origin, origins[name])):
                busy.append(SkippedTask(task=origins[name].original_task().formal_name, reason=BUSY))
            elif found is not None:
                own[name] = found
        left_out = [each for each in other.left_out if each.task not in {one.task for one in busy}]
        left_out += _without_other_data(other, folder, options.data_root)
        if options.only_these_tasks:
            other, left_out = Collected(), []
        run = CompletedRun(
            {**own, **other.outcomes},
            [*skipped, *busy, *left_out],
            first,
            ReportFlags(options.figures, options.embed_audio, options.dataset_id),
            tuple(other.outcomes),
        )
        report, finished = write_results(folder, run, invocation)
    for each in busy:
        invocation.warn(f"{each.task}: {each.reason}. Its report will have the scores; --wait waits for it.")
    return report, own, finished


def _same_task(stored: TaskOrigin | None, wanted: TaskOrigin) -> bool:
    """Whether a stored outcome is of the same definition and labels of a task."""
    return stored is not None and (stored.task, stored.labels_hash) == (wanted.task, wanted.labels_hash)


def _without_other_data(other: Collected, folder: Path, data_root: Path) -> list[SkippedTask]:
    """Remove outcomes whose labels have changed since, and list them."""
    changed = [name for name, outcome in other.outcomes.items() if has_other_data(outcome, folder, data_root)]
    reason = "its labels were changed since it was finished; run it again to include it"
    return [SkippedTask(task=_formal_name(other.outcomes.pop(name)), reason=reason) for name in changed]


def _formal_name(outcome: TaskOutcome) -> str:
    return "" if outcome.origin is None else outcome.origin.original_task().formal_name


def _keys(
    located: Sequence[LocatedTask],
    settings: ProbeSettings,
    encoder: Encoder | PrecomputedEmbeddings,
    allow_missing: bool,
) -> Iterator[tuple[str, str]]:
    """Yield each task whose data are present, and its key."""
    for each in located:
        with contextlib.suppress(EarmarkError):
            yield each.task.name, task_key(each, settings, encoder, allow_missing)


def task_origin(
    located: LocatedTask,
    settings: ProbeSettings,
    encoder: Encoder | PrecomputedEmbeddings,
    folder: Path,
    options: RunOptions,
    warnings: Sequence[str],
) -> TaskOrigin:
    """What the outcome of a task is computed from, as it is stored beside the scores, without absolute paths."""
    manifest, place = located.manifest, ""
    if manifest is not None:
        place = str(manifest) if is_remote(manifest) else os.path.relpath(manifest.resolve(), folder.resolve())
    named = {"language_model": settings.language_model, "tokenizer": settings.tokenizer}
    models = {key: name and shown_argument(name) for key, name in named.items()}
    return TaskOrigin(
        release=__version__,
        versions=[VERSION, PREPROCESSING_VERSION],
        settings={**asdict(settings), **models},
        allow_missing=options.allow_missing,
        encoder_identity=encoder.identity,
        encoder_name=options.model_name or encoder.name,
        encoder=encoder.description,
        warnings=list(warnings),
        task={name: value for name, value in asdict(located.task).items() if name != "home"},
        own_task=located.task.home is not None,
        labels_hash=located.labels_hash if located.present else "",
        manifest=place,
        inputs=input_records(located.label_files),
    )


def exit_code(outcomes: Mapping[str, TaskOutcome], invocation: Invocation) -> int:
    """Print warnings and failures, and determine the exit code.

    Parameters
    ----------
    outcomes : mapping
        {task or invalid task file: its outcome}.
    invocation : Invocation
        Prints the warnings.

    Returns
    -------
    int
        0 complete; 1 if anything failed; 2 if nothing was scored because everything was missing.
    """
    for name, outcome in outcomes.items():
        if outcome.alike_classes:
            invocation.warn(NearDuplicateClasses(task=name, classes=outcome.alike_classes).message(name))
        if outcome.shared_sources:
            invocation.warn(outcome.shared_sources.message(outcome.shared_sources.task))
    for name, outcome in outcomes.items():
        for failure in outcome.failed_tasks(name, invocation.script.name):
            where = ", ".join(filter(None, (failure.task, failure.track, failure.protocol)))
            invocation.warn(f"{where}: {failure.error}")
    failed = [failure for outcome in outcomes.values() for failure in outcome.failed]
    if (
        failed
        and all(failure.missing for failure in failed)
        and not any(outcome.scores for outcome in outcomes.values())
    ):
        return cli.USAGE
    return cli.FAILED if failed else cli.COMPLETE


def encoder_folder_name(encoder: Encoder | PrecomputedEmbeddings, options: RunOptions) -> str:
    """Encoder name, with the name of its file if different, and a suffix for few-shot or layer runs."""
    file = Path(str(encoder.description.get("file", ""))).stem
    name = encoder.name if file in ("", encoder.name) else f"{file}-{encoder.name}"
    kind = f"-{options.shots}-shot" if options.shots else "-layers" if options.layers is not None else ""
    return file_name((options.model_name or name) + kind)


def select_runnable(
    candidates: Sequence[LocatedTask], settings: ProbeSettings
) -> tuple[list[LocatedTask], list[SkippedTask]]:
    """Select the tasks to probe.

    Parameters
    ----------
    candidates : sequence of LocatedTask
        The requested tasks.
    settings : ProbeSettings
        Settings of the run.

    Returns
    -------
    runnable : list of LocatedTask
        Tasks to probe.
    skipped : list of SkippedTask
        Skipped tasks and tracks with the reason.

    Raises
    ------
    MissingError
        If no task remains.
    """
    runnable, skipped = list(candidates), list[SkippedTask]()

    def skip(unsuitable: Callable[[LocatedTask], bool], reason: str, drop: bool = True) -> None:
        nonlocal runnable
        skipped.extend(SkippedTask(task=each.task.formal_name, reason=reason) for each in runnable if unsuitable(each))
        runnable = [each for each in runnable if not unsuitable(each)] if drop else runnable

    skip(lambda each: each.state == PRIVATE, PRIVATE)
    if settings.shots:
        skip(lambda each: not task_type(each.task).supports_few_shot, "no classes for few-shot training")
    if KNN in settings.tracks:
        skip(lambda each: not each.task.knn, "no k-NN track", drop=False)
    if settings.layers is not None:
        reason = "frames are available for the last layer only; run it without --layers"
        skip(lambda each: task_type(each.task).frames, reason)
    if settings.tracks == (KNN,):
        runnable = [each for each in runnable if each.task.knn]
    if not runnable:
        raise MissingError("\n".join(["Nothing to probe:", *(f"  {task.task}: {task.reason}" for task in skipped)]))
    return runnable, skipped


def require_layers(encoder: Encoder | PrecomputedEmbeddings, settings: ProbeSettings) -> None:
    """Check that the encoder has the requested layers.

    Raises
    ------
    MissingError
        If it does not.
    """
    if not settings.layers:
        return
    n_layers = 1 if isinstance(encoder, PrecomputedEmbeddings) else encoder.layers
    if max(settings.layers) >= n_layers:
        available = f"layers 0 to {n_layers - 1}" if n_layers > 1 else "only layer 0"
        advice = "" if isinstance(encoder, PrecomputedEmbeddings) or n_layers > 1 else encoder.layers_advice
        remedy = f"; {advice}" if advice else ""
        raise MissingError(f"--layers {max(settings.layers)}: {encoder.name} has {available}{remedy}.")


def require_libraries() -> None:
    """Raise MissingError, with the install command, if libraries for linear heads are not installed; import nothing."""
    for name in ("torch", "numba"):
        try:
            installed = find_spec(name) is not None
        except (ImportError, ValueError):  # raised by import hooks or replaced modules
            installed = False
        if not installed:
            require_library(name, EXTRA, NEEDED_BY)


# --- tasks --------------------------------------------------------------------------------------------------


def probe_tasks(
    located: Sequence[LocatedTask],
    settings: ProbeSettings,
    encoder: Encoder | PrecomputedEmbeddings,
    folder: Path,
    options: RunOptions,
    invocation: Invocation,
    origins: Mapping[str, TaskOrigin],
) -> Iterator[tuple[str, TaskOutcome | None]]:
    """Probe the tasks that are not finished.

    A task with a final outcome and unchanged inputs is not run again. A task that another process works on is skipped,
    or waited for after all others. Parallel workers start with the largest task. If the encoder's embeddings depend on
    the batch, clips are embedded one by one.

    Parameters
    ----------
    located : sequence of LocatedTask
        The tasks.
    settings : ProbeSettings
        Settings of the run.
    encoder : Encoder or PrecomputedEmbeddings
        Source of the embeddings.
    folder : Path
        Result folder of the encoder.
    options : RunOptions
        Batch size, workers and cache.
    invocation : Invocation
        Shows progress and warnings.
    origins : mapping
        {task: what its outcome is computed from}.

    Yields
    ------
    tuple of (str, TaskOutcome or None)
        Task name and outcome; finished tasks first. None if another process works on the task.
    """
    pending = []
    for each in located:
        origin = origins[each.task.name]
        try:
            key = task_key(each, settings, encoder, options.allow_missing)
        except EarmarkError as error:
            yield each.task.name, TaskOutcome.from_error(error).model_copy(update={"origin": origin})
            continue
        earlier = stored_outcome(folder, each.task.name, key)
        if earlier is not None and earlier.is_final:
            yield each.task.name, with_origin(folder, each.task.name, earlier, origin)
        else:
            pending.append(Job(each, settings, options, invocation, folder, key, origin, earlier))
    if pending and options.model.batch_size > 1 and (details := violation(batch_invariance, encoder)):
        invocation.warn(
            f"{encoder.name}: the embedding of a clip depends on its batch ({details}); using batch size 1."
        )
        single = replace(options, model=replace(options.model, batch_size=1))
        pending = [replace(job, options=single) for job in pending]
    busy = []
    for job, outcome in _run_jobs(pending, encoder):
        if outcome is None and options.wait:
            busy.append(replace(job, wait=True))
        else:
            yield job.task.name, outcome
    if busy:
        invocation.warn(f"Waiting for another process that works on {', '.join(job.task.name for job in busy)}.")
        yield from ((job.task.name, outcome) for job, outcome in _run_jobs(busy, encoder))


def _run_jobs(
    jobs: Sequence[Job], encoder: Encoder | PrecomputedEmbeddings
) -> Iterator[tuple[Job, TaskOutcome | None]]:
    """Run jobs one after the other in their order, or in worker processes or on a cluster, the largest first."""
    if not jobs:
        return
    workers, invocation = jobs[0].options.workers, jobs[0].invocation
    largest_first = sorted(jobs, key=lambda job: task_size(job.located), reverse=True)
    if jobs[0].options.cluster.ray is not None:
        results = run_on_cluster(largest_first, encoder)
    elif workers > 1 and len(jobs) > 1:
        results = run_in_processes(largest_first, workers)
    else:
        results = run_sequentially(jobs, encoder)
    yield from invocation.progress(results, total=len(jobs), label="tasks", unit="task")


def with_origin(folder: Path, task: str, outcome: TaskOutcome, origin: TaskOrigin) -> TaskOutcome:
    """A finished outcome with its origin; stores it if an earlier release did not, so that other runs find it."""
    if outcome.origin == origin:
        return outcome
    complete = outcome.model_copy(update={"origin": origin})
    with task_lock(folder, task) as free:
        if free and stored_outcome(folder, task, outcome.key) == outcome:
            store_origin(folder, task, complete)
    return complete


def encoder_warnings(encoder: Encoder | PrecomputedEmbeddings, settings: ProbeSettings) -> list[str]:
    """Warnings about how an encoder was loaded, about --layers, and about frames that violate the requirements."""
    notes = list(encoder.notes) if isinstance(encoder, Encoder) else []
    if settings.layers is not None and (note := one_layer_note(encoder)):
        notes.append(note)
    if not (details := violation(hop_size, encoder)):
        return notes
    return [*notes, f"{encoder.name}: {details}; frame tasks will fail, and clip means may miss part of the audio."]


def one_layer_note(encoder: Encoder | PrecomputedEmbeddings) -> str:
    """Say that an encoder has one layer, and how it would return several; empty if it has several or fails."""
    if isinstance(encoder, PrecomputedEmbeddings):
        return f"{encoder.name}: precomputed embeddings have one layer."
    try:
        several = encoder.layers > 1
    except EarmarkError:  # the tasks report it
        return ""
    advice = f"; {encoder.layers_advice}" if encoder.layers_advice else ""
    return "" if several else f"{encoder.name}: has one layer{advice}."


def violation(requirement: Callable[[EncoderUnderTest], Verdict], encoder: Encoder | PrecomputedEmbeddings) -> str:
    """Check one requirement of `probe.py check`.

    Parameters
    ----------
    requirement : callable
        The requirement.
    encoder : Encoder or PrecomputedEmbeddings
        The encoder; precomputed embeddings are not checked.

    Returns
    -------
    str
        How the encoder violates it; empty if it does not.
    """
    if isinstance(encoder, PrecomputedEmbeddings):
        return ""
    try:
        passed, observed = requirement(EncoderUnderTest("", encoder, None, MAX_CLIP_SECONDS))
    except (ValueError, EarmarkError) as error:
        message = str(error).removeprefix(f"{encoder.name}: ").removesuffix(".")
        return message if requirement is hop_size and ("hop" in message or "timestamps" in message) else ""
    except (Exception, SystemExit):  # the tasks report such errors
        return ""
    return observed if passed is False else ""


def task_key(
    located: LocatedTask, settings: ProbeSettings, encoder: Encoder | PrecomputedEmbeddings, allow_missing: bool
) -> str:
    """Digest of everything that a task's scores depend on.

    Parameters
    ----------
    located : LocatedTask
        The task and its files.
    settings : ProbeSettings
        Settings of the run.
    encoder : Encoder or PrecomputedEmbeddings
        Its identity is part of the digest.
    allow_missing : bool
        Whether clips without an embedding are excluded.

    Raises
    ------
    MissingError
        If data are missing.
    """
    inputs = [
        __version__,
        VERSION,
        PREPROCESSING_VERSION,
        {**asdict(located.task), "home": None, "allow_missing": allow_missing},
        asdict(settings),
        encoder.identity,
        located.fingerprint,
        [f"{path.name} {file_stamp(path)}" for path in model_files(located.task, settings)],
    ]
    return sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def model_files(task: Task, settings: ProbeSettings) -> list[Path]:
    """Files of a task's language model or tokenizer, if it is a local folder."""
    folder = Path(task_type(task).model_path(settings) or "")
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.name and folder.is_dir() else []
