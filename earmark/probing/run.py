"""Command `run` of `probe.py`: probe all tasks that are not finished, and write the report."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from earmark import __version__, cli
from earmark.audio.clips import file_stamp
from earmark.cli import Invocation
from earmark.embeddings.cache import PREPROCESSING_VERSION
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance.encoder_under_test import EncoderUnderTest
from earmark.models.encoders.conformance.requirements import Verdict, batch_invariance, hop_size
from earmark.models.encoders.conformance.runner import MAX_CLIP_SECONDS
from earmark.models.encoders.from_options import load_encoder_from_options
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.models.torch_runtime import resolve_device
from earmark.optional import require_library
from earmark.probing.heads.batched import EXTRA, NEEDED_BY
from earmark.probing.jobs import Job, run_in_processes, run_sequentially
from earmark.probing.layouts import PRIVATE, LocatedTask, locate_task
from earmark.probing.options import KNN, ProbeSettings, RunOptions
from earmark.probing.outcome import TaskOutcome, stored_outcome
from earmark.probing.probe import VERSION
from earmark.probing.report import CompletedRun, write_results
from earmark.probing.schema import NearDuplicateClasses, ProbeSummary, SkippedTask
from earmark.probing.task_files import select_valid_tasks
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.report.provenance import file_name
from earmark.report.schema import read_summary
from earmark.report.trackers import log_run, require_trackers


def run_probes(options: RunOptions, invocation: Invocation) -> int:
    """Probe the tasks, write the results and print the report.

    Returns
    -------
    int
        Exit code: 0 complete; 1 if anything failed; 2 if nothing was scored because everything was missing.
    """
    require_trackers(options.trackers)
    tasks, invalid = select_valid_tasks(options.tasks)
    if not tasks:
        raise EarmarkError("\n".join(map(str, invalid.values())))
    settings = options.settings(invocation.seed)
    if settings.needs_torch:
        require_libraries()
        if options.model.device != "auto":
            resolve_device(options.model.device, options.model.dtype)
    located, skipped = select_runnable([locate_task(task, options.data_root) for task in tasks], settings)
    encoder = load_encoder_from_options(options.model)
    require_layers(encoder, settings)
    folder = encoder_folder(options.output_dir, encoder_folder_name(encoder, options), encoder, invocation)
    warnings = encoder_warnings(encoder)
    for warning in warnings:
        invocation.warn(warning)
    with locked([folder]):
        outcomes = dict(probe_tasks(located, settings, encoder, folder, options, invocation))
        outcomes_in_order = {each.task.name: outcomes[each.task.name] for each in located}
        outcomes_in_order |= {name: TaskOutcome.from_error(error) for name, error in invalid.items()}
        completed = CompletedRun(located, outcomes_in_order, skipped, encoder, settings, options, warnings)
        report, finished = write_results(folder, completed, invocation)
    cli.show(report)
    log_run(options.trackers, finished, invocation)
    return exit_code(outcomes_in_order, invocation)


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


def encoder_folder(root: Path, name: str, encoder: Encoder | PrecomputedEmbeddings, invocation: Invocation) -> Path:
    """Result folder of an encoder: the first of <name>, <name>-2, … that belongs to this encoder or is free.

    Two checkpoints with one name, or two states of one model, do not overwrite each other's scores.

    Parameters
    ----------
    root : Path
        Parent folder.
    name : str
        Preferred name.
    encoder : Encoder or PrecomputedEmbeddings
        The encoder.
    invocation : Invocation
        Prints a warning if the preferred name belongs to another encoder.
    """
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            stored_model = read_summary(ProbeSummary, folder / "summary.json").signature["model"]
        except (EarmarkError, OSError, KeyError):
            stored_model = encoder.identity  # the folder is free
        if stored_model == encoder.identity:
            break
    if number > 1:
        invocation.warn(
            f"{shown_path(root / name)} holds the scores of another {encoder.name} or of an earlier state of it. "
            f"The new scores are in {shown_path(folder)}. Use --model-name to choose a name."
        )
    return folder


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
        raise MissingError(f"--layers {max(settings.layers)}: {encoder.name} has {available}.")


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
) -> Iterator[tuple[str, TaskOutcome]]:
    """Probe the tasks that are not finished.

    A task with a final outcome and unchanged inputs is not run again. If the encoder's embeddings depend on the batch,
    clips are embedded one by one.

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

    Yields
    ------
    tuple of (str, TaskOutcome)
        Task name and outcome; finished tasks first.
    """
    pending = []
    for each in located:
        try:
            key = task_key(each, settings, encoder, options.allow_missing)
        except EarmarkError as error:
            yield each.task.name, TaskOutcome.from_error(error)
            continue
        earlier = stored_outcome(folder, each.task.name, key)
        if earlier is not None and earlier.is_final:
            yield each.task.name, earlier
        else:
            pending.append(Job(each, settings, options, invocation, folder, key, earlier))
    if pending and options.model.batch_size > 1 and (details := violation(batch_invariance, encoder)):
        invocation.warn(
            f"{encoder.name}: the embedding of a clip depends on its batch ({details}); using batch size 1."
        )
        single = replace(options, model=replace(options.model, batch_size=1))
        pending = [replace(job, options=single) for job in pending]
    parallel = options.workers > 1 and len(pending) > 1
    results = run_in_processes(pending, options.workers) if parallel else run_sequentially(pending, encoder)
    yield from invocation.progress(results, total=len(pending), label="tasks", unit="task")


def encoder_warnings(encoder: Encoder | PrecomputedEmbeddings) -> list[str]:
    """Warnings about how an encoder was loaded, and about frames that violate the requirements."""
    notes = list(encoder.notes) if isinstance(encoder, Encoder) else []
    if not (details := violation(hop_size, encoder)):
        return notes
    return [*notes, f"{encoder.name}: {details}; frame tasks will fail, and clip means may miss part of the audio."]


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
