"""`probe.py run`: every task probed, several at a time if asked, none twice, and the report of all of them."""

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


def run_probes(options: RunOptions, invocation: Invocation) -> int:
    """Probe, write and show; 1 where anything failed, 2 where all of it was missing."""
    asked, broken = select_valid_tasks(options.tasks)
    if not asked:
        raise EarmarkError("\n".join(map(str, broken.values())))
    settings = options.settings(invocation.seed)
    if settings.needs_torch:
        require_libraries()
        if options.model.device != "auto":
            resolve_device(options.model.device, options.model.dtype)
    located, skipped = select_runnable([locate_task(task, options.data_root) for task in asked], settings)
    encoder = load_encoder_from_options(options.model)
    require_layers(encoder, settings)
    folder = encoder_folder(options.output_dir, encoder_folder_name(encoder, options), encoder, invocation)
    warnings = encoder_warnings(encoder)
    for warning in warnings:
        invocation.warn(warning)
    with locked([folder]):
        outcomes = dict(probe_tasks(located, settings, encoder, folder, options, invocation))
        in_order = {each.task.name: outcomes[each.task.name] for each in located}
        in_order |= {name: TaskOutcome.from_error(error) for name, error in broken.items()}
        finished = CompletedRun(located, in_order, skipped, encoder, settings, options, warnings)
        report = write_results(folder, finished, invocation)
    cli.show(report)
    return exit_code(in_order, invocation)


def exit_code(outcomes: Mapping[str, TaskOutcome], invocation: Invocation) -> int:
    """Warn of sources on both sides, of classes alike and of what failed; how the run went."""
    for name, outcome in outcomes.items():
        if outcome.alike_classes:
            invocation.warn(NearDuplicateClasses(task=name, classes=outcome.alike_classes).message(name))
        if outcome.shared_sources:
            invocation.warn(outcome.shared_sources.message(outcome.shared_sources.task))
    for name, outcome in outcomes.items():
        for failure in outcome.failed_tasks(name, invocation.script.name):
            place = ", ".join(filter(None, (failure.task, failure.track, failure.protocol)))
            invocation.warn(f"{place}: {failure.error}")
    failed = [one for outcome in outcomes.values() for one in outcome.failed]
    if failed and all(one.missing for one in failed) and not any(outcome.scores for outcome in outcomes.values()):
        return cli.USAGE
    return cli.FAILED if failed else cli.COMPLETE


def encoder_folder_name(encoder: Encoder | PrecomputedEmbeddings, options: RunOptions) -> str:
    """The encoder's name, with that of its file where it says another; few shots and layers lie apart."""
    file = Path(str(encoder.description.get("file", ""))).stem
    name = encoder.name if file in ("", encoder.name) else f"{file}-{encoder.name}"
    kind = f"-{options.shots}-shot" if options.shots else "-layers" if options.layers is not None else ""
    return file_name((options.model_name or name) + kind)


def encoder_folder(root: Path, name: str, encoder: Encoder | PrecomputedEmbeddings, invocation: Invocation) -> Path:
    """The folder of an encoder's scores: the first of <name>, <name>-2, … that is this encoder's already, or is free.

    So two checkpoints of one name, or one before and after further training, do not replace each other's scores.
    """
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            before = read_summary(ProbeSummary, folder / "summary.json").signature["model"]
        except (EarmarkError, OSError, KeyError):
            before = encoder.identity  # nobody's
        if before == encoder.identity:
            break
    if number > 1:
        invocation.warn(
            f"{shown_path(root / name)} holds the scores of another {encoder.name} or of an earlier state of it; these "
            f"are in {shown_path(folder)}. --model-name gives a name of your own."
        )
    return folder


def select_runnable(
    asked: Sequence[LocatedTask], settings: ProbeSettings
) -> tuple[list[LocatedTask], list[SkippedTask]]:
    """The tasks to probe; and what is skipped, with the reason. MissingError where nothing is left."""
    left, skipped = list(asked), list[SkippedTask]()

    def skip(unfit: Callable[[LocatedTask], bool], reason: str, whole: bool = True) -> None:
        nonlocal left
        skipped.extend(SkippedTask(task=each.task.formal_name, reason=reason) for each in left if unfit(each))
        left = [each for each in left if not unfit(each)] if whole else left

    skip(lambda each: each.state == PRIVATE, PRIVATE)
    if settings.shots:
        skip(lambda each: not task_type(each.task).supports_few_shot, "has no classes to draw shots of")
    if KNN in settings.tracks:
        skip(lambda each: not each.task.knn, "has no kNN track", whole=False)
    if settings.layers is not None:
        reason = "needs frames, which are the last layer's: run it without --layers"
        skip(lambda each: task_type(each.task).frames, reason)
    if settings.tracks == (KNN,):
        left = [each for each in left if each.task.knn]
    if not left:
        raise MissingError("\n".join(["Nothing to probe:", *(f"  {one.task}: {one.reason}" for one in skipped)]))
    return left, skipped


def require_layers(encoder: Encoder | PrecomputedEmbeddings, settings: ProbeSettings) -> None:
    """Find out before any clip is heard that an encoder lacks a layer."""
    if not settings.layers:
        return
    there = 1 if isinstance(encoder, PrecomputedEmbeddings) else encoder.layers
    if max(settings.layers) >= there:
        known = f"the layers 0 to {there - 1}" if there > 1 else "one layer, 0"
        raise MissingError(f"--layers {max(settings.layers)}: {encoder.name} has {known}.")


def require_libraries() -> None:
    """Say which command supplies what linear heads need before anything is embedded; importing it waits until then."""
    for name in ("torch", "numba"):
        try:
            there = find_spec(name) is not None
        except (ImportError, ValueError):  # an import hook, or a module put in its place, may raise here already
            there = False
        if not there:
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
    """Each task with its scores or its error; a task whose inputs are those of a finished one is not run again."""
    waiting = []
    for each in located:
        try:
            key = task_key(each, settings, encoder, options.allow_missing)
        except EarmarkError as error:
            yield each.task.name, TaskOutcome.from_error(error)
            continue
        known = stored_outcome(folder, each.task.name, key)
        if known is not None and known.is_final:
            yield each.task.name, known
        else:
            waiting.append(Job(each, settings, options, invocation, folder, key, known))
    if waiting and options.model.batch_size > 1 and (how := violation(batch_invariance, encoder)):
        invocation.warn(f"{encoder.name}: a clip's embedding depends on its batch ({how}); clips go one by one.")
        alone = replace(options, model=replace(options.model, batch_size=1))
        waiting = [replace(job, options=alone) for job in waiting]
    several = options.workers > 1 and len(waiting) > 1
    made = run_in_processes(waiting, options.workers) if several else run_sequentially(waiting, encoder)
    yield from invocation.progress(made, total=len(waiting), label="tasks", unit="task")


def encoder_warnings(encoder: Encoder | PrecomputedEmbeddings) -> list[str]:
    """What reports say about an encoder that breaks what its contract promises, wherever its embeddings come from."""
    if not (how := violation(hop_size, encoder)):
        return []
    return [f"{encoder.name}: {how}; frame tasks will fail, and a clip's mean may miss some of its audio."]


def violation(promise: Callable[[EncoderUnderTest], Verdict], encoder: Encoder | PrecomputedEmbeddings) -> str:
    """What was seen where an encoder breaks a promise of `probe.py check`; nothing where it keeps it."""
    if isinstance(encoder, PrecomputedEmbeddings):
        return ""
    try:
        kept, seen = promise(EncoderUnderTest("", encoder, None, MAX_CLIP_SECONDS))
    except (ValueError, EarmarkError) as error:
        told = str(error).removeprefix(f"{encoder.name}: ").removesuffix(".")
        return told if promise is hop_size and ("hop" in told or "timestamps" in told) else ""
    except (Exception, SystemExit):  # whatever it does not bear, its tasks say
        return ""
    return seen if kept is False else ""


def task_key(
    located: LocatedTask, settings: ProbeSettings, encoder: Encoder | PrecomputedEmbeddings, allow_missing: bool
) -> str:
    """A digest of everything that a task's scores depend on. MissingError where its data are missing."""
    everything = [
        __version__,
        VERSION,
        PREPROCESSING_VERSION,
        {**asdict(located.task), "home": None, "allow_missing": allow_missing},
        asdict(settings),
        encoder.identity,
        located.fingerprint,
        [f"{path.name} {file_stamp(path)}" for path in model_files(located.task, settings)],
    ]
    return sha256(json.dumps(everything, sort_keys=True, default=str).encode()).hexdigest()


def model_files(task: Task, settings: ProbeSettings) -> list[Path]:
    """The files of a recogniser's language model or of a retrieval task's tokenizer, where it is a folder here."""
    folder = Path(task_type(task).model_path(settings) or "")
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.name and folder.is_dir() else []
