"""`probe.py run`: every task probed, several at a time if asked, none twice, and the report of all of them."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earmark import __version__, cli
from earmark.audio.clips import file_stamp
from earmark.embeddings.store import PREPROCESSING
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.atomic import locked
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.conformance.encoder_under_test import Subject
from earmark.models.encoders.conformance.requirements import Outcome, hop, neighbours
from earmark.models.encoders.conformance.runner import LONGEST
from earmark.models.encoders.from_options import loaded_encoder
from earmark.models.encoders.options import EncoderOptions
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.models.torch_runtime import usable_device
from earmark.probing.features import FOLLOWED, STRICT, XARES
from earmark.probing.heads.batched import missing
from earmark.probing.jobs import Job, failed, in_processes, known_task, one_by_one
from earmark.probing.layouts import fingerprint, status
from earmark.probing.probe import VERSION
from earmark.probing.report import failures, shared_sources, told_shared, write
from earmark.probing.schema import ProbeSummary
from earmark.probing.task_files import chosen_or_broken
from earmark.probing.tasks import Task
from earmark.probing.tracks import KNN, LINEAR, Settings
from earmark.report.provenance import file_name
from earmark.report.schema import read_summary

PRIVATE = "private: no data"


def tell_run(arguments: Namespace) -> int:
    """Probe, write and show; 1 where anything failed, 2 where all of it was missing."""
    asked, broken = chosen_or_broken(arguments.tasks)
    if not asked:
        raise EarmarkError("\n".join(map(str, broken.values())))
    settings = settings_of(arguments)
    if settings.needs_torch:
        require_libraries()
        if arguments.device != "auto":
            usable_device(arguments.device, arguments.dtype)
    tasks, skipped = sorted_out(asked, settings, arguments)
    encoder = loaded_encoder(cli.options(EncoderOptions, arguments))
    require_layers(encoder, settings)
    folder = arguments.output_dir / folder_of(encoder, arguments)
    warn_of_another(folder, encoder, arguments)
    with locked([folder]):
        outcomes = dict(probed(tasks, settings, encoder, folder, arguments))
        in_order = {task.name: outcomes[task.name] for task in tasks}
        in_order |= {name: failed(error) for name, error in broken.items()}
        report = write(folder, tasks, in_order, skipped, encoder, settings, arguments)
    cli.show(report)
    for shared in shared_sources(in_order):
        cli.warn(told_shared(shared), arguments)
    for failure in failures(in_order):
        place = ", ".join(filter(None, (failure["task"], failure["track"], failure["protocol"])))
        cli.warn(f"{place}: {failure['error']}", arguments)
    lacking = [one for outcome in in_order.values() for one in outcome["failed"]]
    if lacking and all(one["missing"] for one in lacking) and not any(outcome["rows"] for outcome in in_order.values()):
        return cli.USAGE
    return cli.FAILED if lacking else cli.COMPLETE


def folder_of(encoder: Encoder | GivenEmbeddings, arguments: Namespace) -> str:
    """The folder's name: the encoder's, with that of its file where it says another; few shots and layers lie apart."""
    file = Path(str(encoder.description.get("file", ""))).stem
    name = encoder.name if file in ("", encoder.name) else f"{file}-{encoder.name}"
    kind = f"-{arguments.shots}-shot" if arguments.shots else "-layers" if arguments.layers is not None else ""
    return file_name((arguments.name or name) + kind)


def warn_of_another(folder: Path, encoder: Encoder | GivenEmbeddings, arguments: Namespace) -> None:
    """Say that a folder's scores are another encoder's, as where two checkpoints have one name."""
    try:
        before = read_summary(ProbeSummary, folder / "summary.json").signature
    except (EarmarkError, OSError):
        return
    if before["model"] != encoder.identity:
        cli.warn(
            f"{shown_path(folder)} holds the scores of another {encoder.name} or of an earlier state of it; they are "
            "replaced. --name keeps both.",
            arguments,
        )


def sorted_out(
    asked: Sequence[Task], settings: Settings, arguments: Namespace
) -> tuple[list[Task], list[dict[str, str]]]:
    """The tasks to probe; and what is skipped, with the reason. MissingError where nothing is left."""
    private = [task for task in asked if status(task, arguments.data_root).state == PRIVATE]
    tasks = [task for task in asked if task not in private]
    skipped = [{"task": task.formal_name, "reason": PRIVATE} for task in private]
    if settings.shots:
        many = [task for task in tasks if task.type != "clip"]
        tasks = [task for task in tasks if task not in many]
        skipped += [{"task": task.formal_name, "reason": "has no classes to draw shots of"} for task in many]
    without = [task for task in tasks if not task.knn] if KNN in settings.tracks else []
    skipped += [{"task": task.formal_name, "reason": "has no kNN track"} for task in without]
    if settings.layers is not None:
        whole = [task for task in tasks if task.type in FOLLOWED]
        tasks = [task for task in tasks if task not in whole]
        frames = "needs frames, which are the last layer's: run it without --layers"
        skipped += [{"task": task.formal_name, "reason": frames} for task in whole]
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
        known = known_task(folder, task, key)
        if known is not None and not any(one["again"] for one in known["failed"]):
            yield task.name, known
        else:
            waiting.append(Job(task, settings, arguments.data_root, folder, key, arguments, known))
    if waiting and (how := broken(hop, encoder)):
        frames = "frame tasks will fail, and a clip's mean may miss some of its audio."
        cli.warn(f"{encoder.name}: {how}; {frames}", arguments)
    if waiting and arguments.batch_size > 1 and (how := broken(neighbours, encoder)):
        cli.warn(f"{encoder.name}: a clip's embedding depends on its batch ({how}); clips go one by one.", arguments)
        waiting = [replace(job, arguments=Namespace(**{**vars(arguments), "batch_size": 1})) for job in waiting]
    made = in_processes(waiting, arguments) if arguments.jobs > 1 and len(waiting) > 1 else one_by_one(waiting, encoder)
    yield from cli.progress(made, arguments, total=len(waiting), what="tasks", unit="task")


def broken(promise: Callable[[Subject], Outcome], encoder: Encoder | GivenEmbeddings) -> str:
    """What was seen where an encoder breaks a promise of `probe.py check`; nothing where it keeps it."""
    if isinstance(encoder, GivenEmbeddings):
        return ""
    try:
        kept, seen = promise(Subject("", encoder, None, LONGEST))
    except ValueError as error:
        return str(error) if promise is hop and "hop" in str(error) else ""
    except (Exception, SystemExit):  # whatever it does not bear, its tasks say
        return ""
    return seen if kept is False else ""


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
