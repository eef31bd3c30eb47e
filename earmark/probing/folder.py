"""The result folder of an encoder, which several processes can write at the same time.

  encoder.json          the encoder that the folder belongs to; written by the first process
  tasks/, failed/       outcome of each finished task; failure of each task that could not be scored
  .locks/<task>/.lock   held by the process that works on the task; .locks/.process-* by each process
  .lock                 held while the report is written

A lock is held by the open file, so the lock of a dead process holds nothing back.
"""

import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from uuid import uuid4

from earmark.cli import Invocation
from earmark.errors import EarmarkError, shown_path
from earmark.files.atomic import lock_if_free, lock_when_free, write_together
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.layouts import LocatedTask, locate_task
from earmark.probing.outcome import TaskOrigin, TaskOutcome, has_results, stored_outcomes
from earmark.probing.schema import ProbeSummary, SkippedTask
from earmark.probing.xares import published_tasks
from earmark.report.provenance import file_name
from earmark.report.schema import read_summary

ENCODER_FILE = "encoder.json"
LOCKS = ".locks"
CLAIM, PROCESS = ".encoder", ".process-"  # no task has such a name: `file_name` removes leading dots


# --- which encoder a folder belongs to --------------------------------------------------------------------------


def owner_of(folder: Path) -> str | None:
    """Identity of the encoder that a result folder belongs to; None if it is free.

    Folders of earlier releases have no encoder.json; their summary.json names the encoder.
    """
    try:
        return str(json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8"))["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        return read_summary(ProbeSummary, folder / "summary.json").signature["model"]
    except (EarmarkError, OSError, KeyError):
        return None


def claim_folder(root: Path, name: str, identity: str, presence: ExitStack | None = None) -> tuple[Path, int]:
    """Result folder of an encoder: the first of <name>, <name>-2, … that belongs to this encoder or is free.

    Two checkpoints with one name, or two states of one model, do not overwrite each other's scores, even if they start
    at the same time; two processes with the same encoder get the same folder. A folder without results that no process
    works in, such as after a run was killed early, is free.

    Parameters
    ----------
    root : Path
        Parent folder.
    name : str
        Preferred name.
    identity : str
        Identity of the encoder.
    presence : ExitStack, optional
        Holds a lock by which others see that this process works in the folder.

    Returns
    -------
    folder : Path
        It has an encoder.json.
    number : int
        1 for the preferred name.
    """
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        with lock_when_free(folder / LOCKS / CLAIM):
            owner = owner_of(folder)
            if owner not in (None, identity) and not (has_results(folder) or _in_use(folder)):
                owner = identity
                (folder / ENCODER_FILE).unlink()
            if not (folder / ENCODER_FILE).exists():
                write_together({folder / ENCODER_FILE: json.dumps({"identity": owner or identity}) + "\n"})
            if owner in (None, identity):
                if presence is not None:
                    presence.enter_context(lock_if_free(folder / LOCKS / f"{PROCESS}{uuid4().hex}"))
                return folder, number
    raise AssertionError  # count() does not end


@contextmanager
def working_in(
    root: Path, name: str, encoder: Encoder | PrecomputedEmbeddings, invocation: Invocation
) -> Iterator[Path]:
    """Claim the result folder of an encoder for a run, with a warning if the preferred name belongs to another one.

    At the end a folder without results becomes free, unless another process works in it.

    Parameters
    ----------
    root : Path
        Parent folder.
    name : str
        Preferred name.
    encoder : Encoder or PrecomputedEmbeddings
        The encoder.
    invocation : Invocation
        Prints the warning.

    Yields
    ------
    Path
        The folder.
    """
    with ExitStack() as presence:
        folder, number = claim_folder(root, name, encoder.identity, presence)
        if number > 1:
            invocation.warn(
                f"{shown_path(root / name)} holds the scores of another {encoder.name} or of an earlier state of it. "
                f"The new scores are in {shown_path(folder)}. Use --model-name to choose a name."
            )
        try:
            yield folder
        finally:
            presence.close()
            release_folder(folder)


def release_folder(folder: Path) -> None:
    """Free a folder without results, such as of an encoder whose run was interrupted before its first task ended."""
    with lock_when_free(folder / LOCKS / CLAIM):
        in_use = _in_use(folder)
        if not has_results(folder) and not in_use:
            (folder / ENCODER_FILE).unlink(missing_ok=True)


def _in_use(folder: Path) -> bool:
    """Whether a process works in a result folder; removes what dead processes left."""
    in_use = False
    for place in [lock.parent for lock in (folder / LOCKS).glob("*/.lock") if lock.parent.name != CLAIM]:
        with lock_if_free(place) as free:
            in_use |= not free
            if free and place.name.startswith(PROCESS):
                shutil.rmtree(place, ignore_errors=True)
    return in_use


def existing_folder(root: Path, name: str, identity: str) -> Path:
    """The folder that `claim_folder` would return, without claiming it."""
    folders = (root / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(each for each in folders if owner_of(each) in (None, identity) or not has_results(each))


# --- locks ------------------------------------------------------------------------------------------------------


@contextmanager
def task_lock(folder: Path, task: str, *, wait: bool = False) -> Iterator[bool]:
    """Lock a task of a result folder.

    Parameters
    ----------
    folder : Path
        Result folder of an encoder.
    task : str
        Name of the task.
    wait : bool
        Whether to wait for another process that works on the task.

    Yields
    ------
    bool
        False if another process works on the task.
    """
    place = folder / LOCKS / file_name(task)
    if not wait:
        with lock_if_free(place) as free:
            yield free
        return
    with lock_when_free(place):
        yield True


def report_lock(folder: Path, invocation: Invocation) -> AbstractContextManager[None]:
    """Lock the report of a result folder for as long as it takes to collect the outcomes and to write the files."""

    def waiting() -> None:
        invocation.warn(f"Waiting for another process that writes the report in {shown_path(folder)}/.")

    return lock_when_free(folder, waiting)


# --- outcomes of several processes ------------------------------------------------------------------------------


@dataclass
class Collected:
    """Stored outcomes that belong into one report.

    Attributes
    ----------
    outcomes : dict
        {task: outcome}, in the order of the published tasks, then by name.
    left_out : list of SkippedTask
        Tasks whose stored scores have other settings, and what differs.
    """

    outcomes: dict[str, TaskOutcome] = field(default_factory=dict)
    left_out: list[SkippedTask] = field(default_factory=list)


def collect(folder: Path, origin: TaskOrigin, excluded: Collection[str] = ()) -> Collected:
    """Collect the outcomes of a result folder that have the settings, release and encoder of one outcome.

    Parameters
    ----------
    folder : Path
        Result folder of an encoder.
    origin : TaskOrigin
        The settings, release and encoder.
    excluded : collection of str
        Tasks to leave out without a word, because the caller has newer outcomes.
    """
    return collected([(name, outcome) for name, outcome in stored_outcomes(folder) if name not in excluded], origin)


def collected(stored: Sequence[tuple[str, TaskOutcome]], origin: TaskOrigin) -> Collected:
    """As `collect`, of outcomes that are already loaded.

    The failure of a whole task replaces scores that the task had with the same settings but other data.
    """
    found: dict[str, TaskOutcome] = {}
    others: dict[str, TaskOrigin] = {}
    for name, outcome in stored:
        assert outcome.origin is not None
        if outcome.origin.run_key != origin.run_key:
            others[name] = outcome.origin
        elif name not in found or found[name].key != outcome.key:
            found[name] = outcome
    left_out = [
        SkippedTask(
            task=other.original_task().formal_name,
            reason=f"finished with other settings: {other.differences(origin)}; run it again to include it",
        )
        for name, other in sorted(others.items())
        if name not in found
    ]
    return Collected(in_table_order(found), left_out)


def has_other_data(outcome: TaskOutcome, folder: Path, data_root: Path) -> bool:
    """Whether the data of a stored outcome are on this machine and have other labels than when it was computed.

    Clips themselves are not compared, as that takes long; the next run of the task does.

    Parameters
    ----------
    outcome : TaskOutcome
        A stored outcome.
    folder : Path
        Result folder of the encoder.
    data_root : Path
        Folder with the data of tasks.
    """
    origin = outcome.origin
    if origin is None or not origin.labels_hash:
        return False
    task = origin.original_task()
    if origin.manifest:
        manifest = folder / origin.manifest
        located = LocatedTask(task, data_root, manifest, {}) if manifest.is_file() else None
    else:
        located = locate_task(task, data_root)
    try:
        return located is not None and located.present and located.labels_hash != origin.labels_hash
    except (EarmarkError, OSError):
        return True  # a manifest that cannot be read any more is another one


def in_table_order(outcomes: dict[str, TaskOutcome]) -> dict[str, TaskOutcome]:
    """Sort {task: outcome}: published tasks as in their table, then others by name."""
    known = {name: place for place, name in enumerate(published_tasks())}
    return {name: outcomes[name] for name in sorted(outcomes, key=lambda name: (known.get(name, len(known)), name))}
