"""Where a task's data lie, in either of two layouts, and what can be told of them without opening a clip.

X-ARES:    <data-root>/<task>/<split>*.tar, or folds: plain tar files of pairs <key>.<audio suffix> and <key>.json;
           clips stay in the tar and are read where they lie.
manifest:  <data-root>/<task>/manifest.csv, or the file that a user's task names, with columns
             path   of the clip, relative to the manifest
             label  clip: a class; multilabel: classes split by | or ;  regression: numbers split by |
                    frame: JSON [{"onset", "offset", "label"}, …] in seconds, or the path of a file of it
                    retrieval: captions split by |  asr: the transcript
             split  train, valid or test (valid may be missing); or fold, with any names
             group  the source of a clip, such as a recording or speaker: intervals resample it whole, and under the
                    strict protocol it is on one side of a split alone; may be missing
A manifest goes before tar files.
"""

import contextlib
import csv
import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from earmark.audio.clips import file_stamp
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.probing.tasks import Task

csv.field_size_limit(1 << 30)  # the events of a long recording, in one cell


@dataclass(frozen=True)
class Status:
    """Whether a task's data are there. size: bytes of its tar files; None for a manifest, whose clips lie anywhere.

    lacks: patterns of tar files that nothing matches.
    """

    state: Literal["present", "missing", "private: no data"]
    size: int | None = None
    lacks: tuple[str, ...] = ()

    @property
    def present(self) -> bool:
        """Whether `read_data` has something to read."""
        return self.state == "present"


def download_command(task: Task, data_root: Path) -> str:
    """What fetches a published task's data into this folder."""
    where = "" if data_root == Path("data") else f" --data-root {shown_path(data_root)}"
    return f"uv run probe.py download {task.name}{where}"


def manifest_of(task: Task, data_root: Path) -> Path:
    """Where a task's manifest is, or would be: beside a user's TOML file if it is there, else below the data root."""
    if task.home is None:
        return data_root / task.name / task.manifest
    beside = task.home / task.manifest
    return beside if beside.is_file() else data_root / task.manifest


def status(task: Task, data_root: Path) -> Status:
    """Whether the data are there, without opening them."""
    if manifest_of(task, data_root).is_file():
        return Status("present")
    found = {glob: tar_files(task, data_root, glob) for glob in task.patterns.values()}
    lacks = tuple(glob for glob, paths in found.items() if not paths)
    size = sum(path.stat().st_size for path in {path for paths in found.values() for path in paths})
    if found and not lacks:
        return Status("present", size)
    return Status("private: no data" if task.private and not size else "missing", size, lacks)


def fingerprint(task: Task, data_root: Path) -> str:
    """A digest that changes when a task's labels or clips do, without opening a clip: file stamps stand for them.

    MissingError where data are missing.
    """
    digest = sha256()
    manifest = manifest_of(task, data_root)
    if manifest.is_file():
        content = manifest.read_bytes()
        digest.update(content)
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""), restval="")
        try:
            clips = [manifest.parent / name for row in rows for name in _named(task, row)]
        except csv.Error as error:
            raise EarmarkError(f"{shown_path(manifest)}: is no CSV ({error}).") from error
    else:
        require_tars(task, data_root)
        patterns = task.patterns.values()
        clips = sorted({tar for glob in patterns for tar in tar_files(task, data_root, glob)})
    for clip in clips:
        with contextlib.suppress(OSError):  # reading says what is not there
            digest.update(f"{clip.name}\0{file_stamp(clip)}\0".encode())
    return digest.hexdigest()


def _named(task: Task, row: dict[str, str]) -> list[str]:
    """The files that a row of a manifest names: its clip and, of a frame task, perhaps its events."""
    label = row.get("label", "").strip()
    return [row.get("path", "").strip(), *([label] if task.type == "frame" and label[:1] not in ("", "[") else [])]


def labels_hash(task: Task, data_root: Path) -> str:
    """A digest of a task's manifest, or of the names and sizes of its tar files: the same wherever a copy lies."""
    manifest = manifest_of(task, data_root)
    if manifest.is_file():
        digest = sha256(content := manifest.read_bytes())
        if task.type == "frame":
            rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""), restval="")
            for events in (manifest.parent / name for row in rows for name in _named(task, row)[1:]):
                digest.update(events.read_bytes() if events.is_file() else b"")
        return digest.hexdigest()
    require_tars(task, data_root)
    tars = sorted({tar for glob in task.patterns.values() for tar in tar_files(task, data_root, glob)})
    return sha256("".join(f"{tar.name}\0{tar.stat().st_size}\0" for tar in tars).encode()).hexdigest()


def tar_files(task: Task, data_root: Path, glob: str) -> list[Path]:
    """The task's tar files of a pattern, also in folders that an archive brought along; not in hidden ones."""
    folder = data_root / task.name
    found = (path for path in folder.rglob(glob) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def require_tars(task: Task, data_root: Path) -> None:
    """MissingError where a task's tar files are not there, with what brings them."""
    there = status(task, data_root)
    if there.present:
        return
    if task.home is not None:
        raise MissingError(f"{task.name}: no {task.manifest} beside the task's file, nor in {shown_path(data_root)}.")
    folder, lacks = shown_path(data_root / task.name), ", ".join(there.lacks)
    if task.private:
        remedy = "The data are private to the challenge's organisers"
    elif not task.zenodo:
        remedy = "The data are not published in this form"
    else:
        raise MissingError(f"{task.name}: no {lacks} in {folder}. Run `{download_command(task, data_root)}`.")
    raise MissingError(f"{task.name}: no {lacks} in {folder}. {remedy}; put such files there, or a manifest.csv.")
