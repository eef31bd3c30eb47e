"""A task's clips and labels, from tar files or a manifest (`layouts` says what these hold)."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from earmark.audio.clips import Clip, TarMember, shown_clip, tar_members
from earmark.audio.formats import SUFFIXES
from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.probing.data import TaskData
from earmark.probing.labels import label_from_json
from earmark.probing.layouts import LocatedTask
from earmark.probing.task_types import TaskType, task_type
from earmark.probing.tasks import SPLITS, Task

MAX_SHOWN = 20  # faults in tar files; the rest are counted


@dataclass
class _Clips:
    """What a layout holds, a row for each clip. raw: labels as they are read; lines: in the manifest."""

    folds: bool
    clips: list[Clip] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_task_data(located: LocatedTask, *, require_audio: bool = True) -> TaskData:
    """A task's clips, labels, splits or folds, and groups; only headers and JSON are read, audio is not opened.

    The order is that of the files' names and of what is in them. Where the published recipe trains on the test
    files, every clip is there twice, once for either.
    heard: whether the clips of a manifest have to be there; embeddings made elsewhere need no audio.
    MissingError where data are missing, with the command that fetches them. DataError (manifest) or EarmarkError (tar
    files) with everything wrong: wrong labels, clips without a partner or not there, classes that training does not
    have, tars that are cut short.
    """
    located.require_present()
    kind = task_type(located.task)
    found = (
        _of_tars(located) if located.manifest is None else _of_manifest(located, kind, located.manifest, require_audio)
    )
    _require_parts(located, found)
    labels, classes, wrong = kind.encode(found.raw, found.parts, folds=found.folds)
    if wrong and located.manifest is not None:
        faults = [Fault(found.lines[place], "label", text) for place, text in wrong]
        remedy = "A class has to occur in training, a list to have one length."
        raise DataError({shown_path(located.manifest): faults}, remedy)
    if wrong:
        remedy = "A class has to occur in training; put tar files of the same edition together."
        raise _refused(located, [f"{shown_clip(found.clips[place])}: {text}" for place, text in wrong], remedy)
    if len(classes) < kind.min_classes:
        listed = ", ".join(classes) or "no label"
        raise EarmarkError(
            f"{located.task.name}: all that training has is {listed}; it takes {kind.min_classes} or more."
        )
    parts = np.array(found.parts)
    split, fold = (None, parts) if found.folds else (parts, None)
    return TaskData(found.clips, labels, classes, split, fold, found.groups, found.names)


def _require_parts(located: LocatedTask, found: _Clips) -> None:
    counts = Counter(found.parts)
    where, needed = located.task.name, list(located.task.patterns)
    if located.manifest is not None:
        where, needed = shown_path(located.manifest), [] if found.folds else ["train", "test"]
    if empty := [name for name in needed if not counts[name]]:
        raise EarmarkError(f"{where}: no clips in {', '.join(empty)}.")
    if found.folds and len(counts) < 2:
        raise EarmarkError(f"{where}: {len(counts)} fold; leaving one out needs two at least.")


def _group(task: Task, name: str, clip: str) -> str:
    """The source recording that a file name tells, where the task has a rule for it and the name fits it."""
    rule = re.match(task.group, name) if task.group else None
    return rule[1] if rule else clip


def _refused(located: LocatedTask, faults: Sequence[str], remedy: str = "") -> EarmarkError:
    more = [f"  and {len(faults) - MAX_SHOWN:,} more"] if len(faults) > MAX_SHOWN else []
    count = f"{len(faults):,} fault{'s' if len(faults) != 1 else ''}"
    fetched = f"Repair the files, or copy them again: `{located.download_command}` fetches what is broken."
    remedy = remedy or (fetched if located.task.zenodo else "Repair the files.")
    return EarmarkError(
        "\n".join([f"{located.task.name}: {count}", *(f"  {fault}" for fault in faults[:MAX_SHOWN]), *more, remedy])
    )


# --- tar files ------------------------------------------------------------------------------------------------------


def _of_tars(located: LocatedTask) -> _Clips:
    """Every pair of every tar file, each file indexed once however many splits it is in."""
    task = located.task
    found = _Clips(folds=bool(task.folds))
    faults: list[str] = []
    read: dict[Path, list[tuple[TarMember, Any]]] = {}
    for part, glob in task.patterns.items():
        for tar in located.tars[glob]:
            if tar not in read:
                read[tar] = list(_pairs(task, tar, faults))
            for clip, label in read[tar]:
                found.clips.append(clip)
                found.raw.append(label)
                found.parts.append(part)
                found.groups.append(_group(task, PurePosixPath(clip.name).stem, shown_clip(clip)))
                found.names.append(shown_clip(clip))
    if faults:
        raise _refused(located, faults)
    return found


def _pairs(task: Task, tar: Path, faults: list[str]) -> Iterator[tuple[TarMember, Any]]:
    """Clips and raw labels, in the order of the clips; what is wrong goes to faults."""
    try:
        members = tar_members(tar)
    except EarmarkError as error:
        faults.append(str(error))
        return
    audio: dict[str, TarMember] = {}
    notes: dict[str, TarMember] = {}
    for member in members:
        key, _, suffix = member.name.rpartition(".")
        kind = notes if suffix.lower() == "json" else audio if f".{suffix.lower()}" in SUFFIXES else None
        if kind is None or PurePosixPath(key).name.startswith("."):  # what file managers leave behind
            continue
        if kind.setdefault(key, member) is not member:
            faults.append(f"{shown_clip(member)}: {key} has two of these")
    faults += [f"{shown_clip(clip)}: no {key}.json beside it" for key, clip in audio.items() if key not in notes]
    faults += [f"{shown_clip(note)}: no audio beside it" for key, note in notes.items() if key not in audio]
    with tar.open("rb") as file:
        for key, clip in audio.items():
            if (note := notes.get(key)) is None:
                continue
            try:
                yield clip, label_from_json(task, os.pread(file.fileno(), note.size, note.offset))
            except ValueError as error:
                faults.append(f"{shown_clip(note)}: {error}")


# --- manifests ------------------------------------------------------------------------------------------------------

MANIFEST_REMEDY = (
    "A manifest has columns path, label, and split (train, valid, test) or fold; group if clips have one. "
    "A cell that holds commas is quoted."
)


def _of_manifest(located: LocatedTask, kind: TaskType, manifest: Path, require_audio: bool) -> _Clips:
    table = located.table
    faults = [*table.faults]
    parts = [name for name in ("split", "fold") if name in table.columns]
    if table.columns or not faults:  # else there is nothing that could be told of columns
        faults += [Fault(1, name, "is missing") for name in ("path", "label") if name not in table.columns]
        if len(parts) != 1:
            faults.append(Fault(1, "split", "there is a fold too; keep one" if parts else "is missing, and so is fold"))
    found = _Clips(folds=parts == ["fold"])
    seen: dict[str, int] = {}
    if not any(fault.line == 1 for fault in faults):
        for line, row in table.records():
            faults += _absent(manifest.parent, row["path"], line) if require_audio else ()
            faults += _take(kind, manifest.parent, row, line, found, seen)
    if faults:
        raise DataError({shown_path(manifest): faults}, MANIFEST_REMEDY)
    return found


def _absent(folder: Path, given: str, line: int) -> list[Fault]:
    return [Fault(line, "path", f"{given!r} is not there")] if given and not (folder / given).is_file() else []


def _take(
    kind: TaskType, folder: Path, row: dict[str, str], line: int, found: _Clips, seen: dict[str, int]
) -> Iterator[Fault]:
    """Add a row to what was found; yields what is wrong with it."""
    column = "fold" if found.folds else "split"
    given, part = row["path"], row[column]
    clip = folder / given
    if not given:
        yield Fault(line, "path", "is empty")
    elif (first := seen.setdefault(os.path.normpath(given), line)) != line:
        yield Fault(line, "path", f"{given!r} is there already, in line {first}")
    if not part or not (found.folds or part in SPLITS):
        yield Fault(line, column, "is empty" if not part else f"{part!r} is no split")
    try:
        label = kind.label_from_cell(row["label"], folder)
    except ValueError as error:
        yield Fault(line, "label", str(error))
        return
    found.clips.append(clip)
    found.raw.append(label)
    found.parts.append(part)
    found.names.append(clip.name if clip.is_absolute() and Path(given).is_absolute() else given)
    found.groups.append(row.get("group", "") or _group(kind.task, clip.stem, given))
    found.lines.append(line)
