"""A task's clips and labels, from tar files or a manifest (`task_layouts` says what these hold)."""

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import Clip, TarMember, shown_clip, tar_members
from earmark.audio.formats import SUFFIXES
from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.probing.labels import Labels, encoded, label_of_cell, label_of_json
from earmark.probing.layouts import download_command, manifest_of, require_tars, tar_files
from earmark.probing.tasks import SPLITS, Task

SHOWN = 20  # faults in tar files; the rest are counted


@dataclass(frozen=True)
class TaskData:
    """The clips of a task.

    labels: by the task's type: clip (N,) int64, positions in classes; multilabel (N, C) 0/1; regression (N, k);
    frame: each clip's events (onset, offset, position in classes) in seconds; retrieval: each clip's captions; asr:
    transcripts. classes: of the training labels; empty where labels are no classes. split: (N,) train, valid or test;
    where the published recipe chooses the epoch on the test clips, there is no valid. fold: (N,). One of them is None.
    group: each clip's source recording or speaker where it is known, else the clip itself. names: what outputs call the
    clips: their path in the manifest, or x.tar:member.
    """

    clips: list[Clip]
    labels: Labels
    classes: list[str]
    split: NDArray[np.str_] | None
    fold: NDArray[np.str_] | None
    group: list[str]
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", [shown_clip(clip) for clip in self.clips])

    @property
    def named(self) -> list[Collection[int]]:
        """The classes that each clip's label names; none where labels are no classes."""
        if not self.classes:
            return [()] * len(self.clips)
        if isinstance(self.labels, list):
            return [{int(event[2]) for event in events} for events in self.labels]
        return [(int(x),) for x in self.labels] if self.labels.ndim == 1 else [np.flatnonzero(x) for x in self.labels]

    def take(self, kept: NDArray[np.bool_]) -> "TaskData":
        """The clips where `kept` is True."""
        places = np.flatnonzero(kept)

        def of(each: Any) -> Any:
            return [each[place] for place in places] if isinstance(each, list) else each[places]

        split, fold = (None if part is None else of(part) for part in (self.split, self.fold))
        return TaskData(of(self.clips), of(self.labels), self.classes, split, fold, of(self.group), of(self.names))


@dataclass
class _Found:
    """What a layout holds, a row for each clip; where: as messages name it; lines: in the manifest."""

    folds: bool
    clips: list[Clip] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def read_data(task: Task, data_root: Path) -> TaskData:
    """A task's clips, labels, splits or folds, and groups; only headers and JSON are read, audio is not opened.

    The order is that of the files' names and of what is in them. Where the published recipe trains on the test
    files, every clip is there twice, once for either.
    MissingError where data are missing, with the command that fetches them. DataError (manifest) or EarmarkError (tar
    files) with everything wrong: wrong labels, clips without a partner or not there, classes that training does not
    have, tars that are cut short.
    """
    manifest = manifest_of(task, data_root)
    given = manifest if manifest.is_file() else None
    found = _of_manifest(task, given) if given else _of_tars(task, data_root)
    _require_parts(task, found, given)
    labels, classes, wrong = encoded(task, found.raw, found.parts, folds=found.folds)
    if wrong and given:
        listed = [Fault(found.lines[place], "label", text) for place, text in wrong]
        raise DataError({shown_path(given): listed}, "A class has to occur in training, a list to have one length.")
    if wrong:
        remedy = "A class has to occur in training; put tar files of the same edition together."
        raise _refused(task, data_root, [f"{shown_clip(found.clips[place])}: {text}" for place, text in wrong], remedy)
    _require_classes(task, classes)
    parts = np.array(found.parts)
    folds = found.folds
    split, fold = (None, parts) if folds else (parts, None)
    return TaskData(found.clips, labels, classes, split, fold, found.groups, found.names)


def _require_parts(task: Task, found: _Found, manifest: Path | None) -> None:
    counts = Counter(found.parts)
    needed = list(task.patterns) if manifest is None else [] if found.folds else ["train", "test"]
    where = shown_path(manifest) if manifest else task.name
    if empty := [name for name in needed if not counts[name]]:
        raise EarmarkError(f"{where}: no clips in {', '.join(empty)}.")
    if found.folds and len(counts) < 2:
        raise EarmarkError(f"{where}: {len(counts)} fold; leaving one out needs two at least.")


def _require_classes(task: Task, classes: Sequence[str]) -> None:
    """Something to tell apart: two classes where there is one label each, one label where there may be none."""
    needed = 2 if task.type == "clip" or task.one_label_per_frame else 1 if task.type in ("multilabel", "frame") else 0
    if len(classes) < needed:
        listed = ", ".join(classes) or "no label"
        raise EarmarkError(f"{task.name}: all that training has is {listed}; it takes {needed} or more.")


def _group(task: Task, name: str, clip: str) -> str:
    """The source recording that a file name tells, where the task has a rule for it and the name fits it."""
    rule = re.match(task.group, name) if task.group else None
    return rule[1] if rule else clip


def _refused(task: Task, data_root: Path, faults: Sequence[str], remedy: str = "") -> EarmarkError:
    more = [f"  and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
    count = f"{len(faults):,} fault{'s' if len(faults) != 1 else ''}"
    fetched = f"Repair the files, or copy them again: `{download_command(task, data_root)}` fetches what is broken."
    remedy = remedy or (fetched if task.zenodo else "Repair the files.")
    return EarmarkError(
        "\n".join([f"{task.name}: {count}", *(f"  {fault}" for fault in faults[:SHOWN]), *more, remedy])
    )


# --- tar files ------------------------------------------------------------------------------------------------------


def _of_tars(task: Task, data_root: Path) -> _Found:
    """Every pair of every tar file, each file indexed once however many splits it is in."""
    require_tars(task, data_root)
    found = _Found(folds=bool(task.folds))
    faults: list[str] = []
    read: dict[Path, list[tuple[TarMember, Any]]] = {}
    for part, glob in task.patterns.items():
        for tar in tar_files(task, data_root, glob):
            if tar not in read:
                read[tar] = list(_pairs(task, tar, faults))
            for clip, label in read[tar]:
                found.clips.append(clip)
                found.raw.append(label)
                found.parts.append(part)
                found.groups.append(_group(task, PurePosixPath(clip.name).stem, shown_clip(clip)))
                found.names.append(shown_clip(clip))
    if faults:
        raise _refused(task, data_root, faults)
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
                yield clip, label_of_json(task, os.pread(file.fileno(), note.size, note.offset))
            except ValueError as error:
                faults.append(f"{shown_clip(note)}: {error}")


# --- manifests ------------------------------------------------------------------------------------------------------


def _of_manifest(task: Task, path: Path) -> _Found:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            part = _part_column(path, reader.fieldnames or [])
            found = _Found(folds=part == "fold")
            faults: list[Fault] = []
            seen: dict[str, int] = {}
            for row in reader:
                faults += _take(task, path.parent, row, reader.line_num, found, seen)
    except UnicodeDecodeError as error:
        raise EarmarkError(f"{shown_path(path)}: is not a CSV in UTF-8.") from error
    except csv.Error as error:
        raise DataError({shown_path(path): [Fault(reader.line_num, "", f"is no CSV: {error}")]}, _COLUMNS) from error
    if faults:
        raise DataError({shown_path(path): faults}, _COLUMNS)
    return found


_COLUMNS = "A manifest has columns path, label, and split (train, valid, test) or fold; group if clips have one."


def _part_column(path: Path, columns: Sequence[str]) -> str:
    faults = [Fault(1, name, "is missing") for name in ("path", "label") if name not in columns]
    parts = [name for name in ("split", "fold") if name in columns]
    if len(parts) != 1:
        faults.append(Fault(1, "split", "there is a fold too; keep one" if parts else "is missing, and so is fold"))
    if faults:
        raise DataError({shown_path(path): faults}, _COLUMNS)
    return parts[0]


def _take(
    task: Task, folder: Path, row: dict[str, str], line: int, found: _Found, seen: dict[str, int]
) -> Iterator[Fault]:
    """Add a row to what was found; yields what is wrong with it."""
    if None in row:
        yield Fault(line, "", "more cells than columns; quote a label that holds commas")
    given, part = row["path"].strip(), row["fold" if found.folds else "split"].strip()
    clip = folder / given
    if not given or not clip.is_file():
        yield Fault(line, "path", f"{given!r} is not there" if given else "is empty")
    elif (first := seen.setdefault(os.path.normpath(given), line)) != line:
        yield Fault(line, "path", f"{given!r} is there already, in line {first}")
    if not part or not (found.folds or part in SPLITS):
        yield Fault(line, "fold" if found.folds else "split", "is empty" if not part else f"{part!r} is no split")
    try:
        label = label_of_cell(task, row["label"], folder)
    except ValueError as error:
        yield Fault(line, "label", str(error))
        return
    found.clips.append(clip)
    found.raw.append(label)
    found.parts.append(part)
    found.names.append(clip.name if clip.is_absolute() and Path(given).is_absolute() else given)
    found.groups.append((row.get("group") or "").strip() or _group(task, clip.stem, given))
    found.lines.append(line)
