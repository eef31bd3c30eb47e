"""Read the clips and labels of a task from tar files, a manifest or a release (formats: see `layouts`)."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from earmark.audio.clips import Clip, TarMember, shown_clip, tar_members
from earmark.audio.formats import SUFFIXES
from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.files.remote import RemotePath
from earmark.files.safe_text import Secrets, url_secrets
from earmark.probing.data import TaskData
from earmark.probing.labels import label_from_json
from earmark.probing.layouts import LocatedTask
from earmark.probing.releases import FoundRelease
from earmark.probing.task_types import TaskType, task_type
from earmark.probing.tasks import SPLITS, Task

MAX_SHOWN = 20  # listed faults in tar files; further ones are only counted


@dataclass
class _ClipTable:
    """The clips of a task as columns, one row per clip.

    Attributes
    ----------
    folds : bool
        Whether `parts` are folds instead of splits.
    clips, raw, parts, groups, names : list
        Clip, raw label, split or fold, source group, and name in outputs.
    lines : list of int
        Line in the manifest; empty for tar files.
    """

    folds: bool
    clips: list[Clip] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_task_data(located: LocatedTask, *, require_audio: bool = True) -> TaskData:
    """Read the clips, labels, splits or folds, and source groups of a task.

    Only headers and JSON are read; audio is not decoded.

    Parameters
    ----------
    located : LocatedTask
        The task and its files.
    require_audio : bool
        Whether the clips of a manifest or release must exist; not needed with precomputed embeddings.

    Returns
    -------
    TaskData
        In the order of file names and file contents. If the published recipe trains on the test files, every clip
        occurs twice.

    Raises
    ------
    MissingError
        If data are missing; the message names the download command.
    DataError, EarmarkError
        With all faults of the manifest or of the tar files: invalid labels, unpaired or missing clips, classes that
        do not occur in training, truncated tar files.
    """
    located.require_present()
    type_ = task_type(located.task)
    if located.manifest is not None:
        table = _read_manifest(located, type_, located.manifest, require_audio)
    elif located.release is not None:
        table = _read_release(located.task, located.release, require_audio)
    else:
        table = _read_tars(located)
    _require_parts(located, table)
    labels, classes, faults = type_.encode(table.raw, table.parts, folds=table.folds)
    if faults and located.manifest is not None:
        at_lines = [Fault(table.lines[index], "label", problem) for index, problem in faults]
        remedy = "Every class must occur in training, and all lists of numbers must have the same length."
        raise DataError({shown_path(located.manifest): at_lines}, remedy)
    if faults:
        remedy = "Every class must occur in training. Use the files of one edition of the data set."
        raise _faults_error(
            located, [f"{shown_clip(table.clips[index])}: {problem}" for index, problem in faults], remedy
        )
    if len(classes) < type_.min_classes:
        listed = ", ".join(classes) or "none"
        required = f"at least {type_.min_classes} class{'es' if type_.min_classes > 1 else ''} required"
        raise EarmarkError(f"{located.task.name}: classes in training: {listed}; {required}.")
    parts = np.array(table.parts)
    split, fold = (None, parts) if table.folds else (parts, None)
    own_split = "" if located.release is None else located.release.release.own_split
    return TaskData(table.clips, labels, classes, split, fold, table.groups, table.names, own_split)


def _require_parts(located: LocatedTask, table: _ClipTable) -> None:
    counts = Counter(table.parts)
    name, required = located.task.name, list(located.task.patterns)
    if located.manifest is not None:
        name, required = shown_path(located.manifest), [] if table.folds else ["train", "test"]
    if empty_parts := [name for name in required if not counts[name]]:
        raise EarmarkError(f"{name}: no clips in {', '.join(empty_parts)}.")
    if table.folds and len(counts) < 2:
        raise EarmarkError(f"{name}: {len(counts)} fold; cross-validation needs at least two.")


def _source_group(task: Task, name: str, clip: str) -> str:
    """The source of a clip: matched in its file name by the task's pattern, otherwise the clip itself."""
    match = re.match(task.group, name) if task.group else None
    return match[1] if match else clip


def _faults_error(located: LocatedTask, faults: Sequence[str], remedy: str = "") -> EarmarkError:
    more = [f"  and {len(faults) - MAX_SHOWN:,} more"] if len(faults) > MAX_SHOWN else []
    count = f"{len(faults):,} fault{'s' if len(faults) != 1 else ''}"
    fetched = f"Repair the files or run `{located.download_command}` to download the broken ones again."
    remedy = remedy or (fetched if located.task.zenodo else "Repair the files.")
    return EarmarkError(
        "\n".join([f"{located.task.name}: {count}", *(f"  {fault}" for fault in faults[:MAX_SHOWN]), *more, remedy])
    )


# --- tar files ------------------------------------------------------------------------------------------------------


def _read_tars(located: LocatedTask) -> _ClipTable:
    """Read every pair of every tar file; a file in several splits is indexed once."""
    task = located.task
    table = _ClipTable(folds=bool(task.folds))
    faults: list[str] = []
    pairs_by_tar: dict[Path, list[tuple[TarMember, Any]]] = {}
    for part, glob in task.patterns.items():
        for tar in located.tars[glob]:
            if tar not in pairs_by_tar:
                pairs_by_tar[tar] = list(_pairs(task, tar, faults))
            for clip, label in pairs_by_tar[tar]:
                table.clips.append(clip)
                table.raw.append(label)
                table.parts.append(part)
                table.groups.append(_source_group(task, PurePosixPath(clip.name).stem, shown_clip(clip)))
                table.names.append(shown_clip(clip))
    if faults:
        raise _faults_error(located, faults)
    return table


def _pairs(task: Task, tar: Path, faults: list[str]) -> Iterator[tuple[TarMember, Any]]:
    """Yield clips and raw labels in the order of the clips; append faults to `faults`."""
    labels: dict[int, bytes] = {}  # of a remote file, which is read once
    try:
        members = tar_members(tar, labels if isinstance(tar, RemotePath) else None)
    except EarmarkError as error:
        faults.append(str(error))
        return
    audio_files: dict[str, TarMember] = {}
    json_files: dict[str, TarMember] = {}
    for member in members:
        key, _, suffix = member.name.rpartition(".")
        members_by_key = (
            json_files if suffix.lower() == "json" else audio_files if f".{suffix.lower()}" in SUFFIXES else None
        )
        if members_by_key is None or PurePosixPath(key).name.startswith("."):  # left by file managers
            continue
        if members_by_key.setdefault(key, member) is not member:
            faults.append(f"{shown_clip(member)}: {key} has two files of this kind")
    faults += [
        f"{shown_clip(clip)}: no {key}.json in the same tar file"
        for key, clip in audio_files.items()
        if key not in json_files
    ]
    faults += [
        f"{shown_clip(json_file)}: no audio file with this name in the same tar file"
        for key, json_file in json_files.items()
        if key not in audio_files
    ]
    with contextlib.nullcontext() if labels else tar.open("rb") as file:
        for key, clip in audio_files.items():
            if (json_file := json_files.get(key)) is None:
                continue
            try:
                content = labels[json_file.offset] if file is None else _read_at(file, json_file)
                yield clip, label_from_json(task, content)
            except ValueError as error:
                faults.append(f"{shown_clip(json_file)}: {error}")


def _read_at(file: IO[bytes], member: TarMember) -> bytes:
    return os.pread(file.fileno(), member.size, member.offset)


# --- releases -------------------------------------------------------------------------------------------------------


def _read_release(task: Task, found: FoundRelease, require_audio: bool) -> _ClipTable:
    if require_audio and found.error is not None:
        raise found.error
    table = _ClipTable(folds=bool(task.folds))
    for clip in found.clips:
        table.clips.append(found.folder / clip.path)
        table.raw.append(clip.label)
        table.parts.append(clip.part)
        table.groups.append(clip.group or _source_group(task, PurePosixPath(clip.path).stem, clip.path))
        table.names.append(clip.path)
    return table


# --- manifests ------------------------------------------------------------------------------------------------------

MANIFEST_REMEDY = (
    "A manifest has the columns path, label, and either split (train, valid, test) or fold; group is optional. "
    "Quote cells that contain commas."
)


def _read_manifest(located: LocatedTask, type_: TaskType, manifest: Path, require_audio: bool) -> _ClipTable:
    table = located.table
    faults = [*table.faults]
    part_columns = [name for name in ("split", "fold") if name in table.columns]
    if table.columns or not faults:  # an unreadable table has no columns to check
        faults += [Fault(1, name, "is missing") for name in ("path", "label") if name not in table.columns]
        if len(part_columns) != 1:
            faults.append(
                Fault(
                    1,
                    "split",
                    "cannot be combined with fold; keep one of them" if part_columns else "is missing, as is fold",
                )
            )
    clips = _ClipTable(folds=part_columns == ["fold"])
    first_lines: dict[str, int] = {}
    if not any(fault.line == 1 for fault in faults):
        for line, row in table.records():
            faults += _missing_file_faults(manifest.parent, row["path"], line) if require_audio else ()
            faults += _add_row(type_, manifest.parent, row, line, clips, first_lines)
    if faults:
        raise DataError({shown_path(manifest): faults}, MANIFEST_REMEDY)
    return clips


def _missing_file_faults(folder: Path, path: str, line: int) -> list[Fault]:
    if not path or (folder / path).is_file():
        return []
    return [Fault(line, "path", f"{_without_password(path)!r} does not exist")]


def _without_password(path: str) -> str:
    """A cell for a message; it may be a URL with a password."""
    return Secrets(url_secrets(path)).redact(path) if "://" in path else path


def _add_row(
    type_: TaskType, folder: Path, row: dict[str, str], line: int, table: _ClipTable, first_lines: dict[str, int]
) -> Iterator[Fault]:
    """Append a row to the table and yield its faults."""
    column = "fold" if table.folds else "split"
    path, part = row["path"], row[column]
    clip = folder / path
    if not path:
        yield Fault(line, "path", "is empty")
    elif (first_line := first_lines.setdefault(os.path.normpath(path), line)) != line:
        yield Fault(line, "path", f"{_without_password(path)!r} already occurs in line {first_line}")
    if not part or not (table.folds or part in SPLITS):
        yield Fault(line, column, "is empty" if not part else f"{part!r} is not train, valid or test")
    try:
        label = type_.label_from_cell(row["label"], folder)
    except ValueError as error:
        yield Fault(line, "label", str(error))
        return
    table.clips.append(clip)
    table.raw.append(label)
    table.parts.append(part)
    table.names.append(clip.name if clip.is_absolute() and Path(path).is_absolute() else path)
    table.groups.append(row.get("group", "") or _source_group(type_.task, clip.stem, path))
    table.lines.append(line)
