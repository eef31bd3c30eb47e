"""Locate the data of a task in one of three layouts, without decoding audio.

X-ARES:    <data-root>/<task>/<split>*.tar, or folds: plain tar files of pairs <key>.<audio suffix> and <key>.json.
           Clips are read directly from the tar files.
manifest:  <data-root>/<task>/manifest.csv, or the file named by a user's task, with the columns
             path   path of the clip, relative to the manifest; with --embeddings the clips need not exist
             label  clip: a class; multilabel: classes separated by | or ;  regression: numbers separated by |
                    frame: JSON [{"onset", "offset", "label"}, …] in seconds, or the path of such a JSON file
                    retrieval: captions separated by |  asr: the transcript
             split  train, valid or test (valid is optional); or fold, with any names
             group  optional source of the clip, such as a recording or speaker: intervals resample whole sources,
                    and the strict recipe keeps each source in one part of a split
release:   a public data set as its authors publish it (`releases`), in <data-root>/<task>/, <data-root>/<release>/ or
           <data-root>/<task>/<release>/
A manifest takes precedence over complete tar files, and these over a release.
"""

import contextlib
import csv
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from earmark.audio.clips import file_stamp
from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.files.csv_table import CsvTable, read_csv_table
from earmark.files.remote import is_remote
from earmark.probing.releases import RELEASES, FoundRelease, find_release
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task

csv.field_size_limit(1 << 30)  # one cell can hold all events of a long recording

PRIVATE: Literal["private: no data"] = "private: no data"


@dataclass(frozen=True)
class LocatedTask:
    """A task and its files, on disk or remote; their contents are read on demand.

    Attributes
    ----------
    task : Task
        The task.
    data_root : Path
        Folder with the data of all tasks.
    manifest : Path or None
        The manifest, if there is one.
    tars : mapping
        {pattern: its tar files}; empty if there is a manifest or a release.
    release : FoundRelease or None
        The release, if there is no manifest and no complete set of tar files.
    """

    task: Task
    data_root: Path
    manifest: Path | None
    tars: Mapping[str, tuple[Path, ...]]
    release: FoundRelease | None = None

    @property
    def missing_patterns(self) -> tuple[str, ...]:
        """Patterns that no tar file matches."""
        return tuple(glob for glob, files in self.tars.items() if not files)

    @property
    def present(self) -> bool:
        """Whether the labels are complete enough to read; clips of a release are checked when it is read."""
        if self.release is not None:
            return not isinstance(self.release.contents, EarmarkError)
        return self.manifest is not None or (bool(self.tars) and not self.missing_patterns)

    @property
    def layout(self) -> str:
        """The layout as shown in lists: manifest, tar files, the name of a release, or a dash."""
        if self.release is not None:
            return f"{self.release.release.name} release"
        if self.manifest is not None:
            return self.manifest.name
        return "tar files" if self.tar_files else "–"

    @property
    def state(self) -> Literal["present", "incomplete", "missing", "private: no data"]:
        """State of the data as shown in lists."""
        if self.release is not None:
            return "incomplete" if self.release.error else "present"
        if self.present:
            return "present"
        return PRIVATE if self.task.private and not self.size else "missing"

    @property
    def notes(self) -> str:
        """What is missing, and how the splits of a release differ from the published ones; empty if nothing."""
        if self.release is not None:
            error = self.release.error
            return str(error).removeprefix(f"{self.task.name}: ") if error else self.release.release.own_split
        if self.tar_files and not self.present:
            return f"no {', '.join(self.missing_patterns)}"
        return ""

    @cached_property
    def size(self) -> int | None:
        """Size of the tar files or of the clips of a complete release in bytes; None for a manifest."""
        if self.manifest is not None:
            return None
        files = [] if self.release and self.release.error else self.release.files if self.release else self.tar_files
        return sum(file.stat().st_size for file in files)

    @property
    def clip_folder(self) -> Path | None:
        """Folder that the names of clips are relative to; None for tar files."""
        if self.release is not None:
            return self.release.folder
        return None if self.manifest is None else self.manifest.parent

    @property
    def label_files(self) -> dict[Path, int]:
        """{file with labels: its number of rows}, for provenance; empty if names and tar files hold the labels."""
        if self.manifest is not None:
            return {self.manifest: len(self.table.rows)}
        if self.release is None or not self.present:
            return {}
        paths = [self.release.folder / name for name in self.release.release.metadata]
        return {path: len(path.read_bytes().splitlines()) for path in paths}

    @property
    def tar_files(self) -> list[Path]:
        """All tar files, each once, sorted."""
        return sorted({tar for files in self.tars.values() for tar in files})

    @cached_property
    def table(self) -> CsvTable:
        """The manifest with its faults."""
        assert self.manifest is not None
        return read_csv_table(self.manifest, strict=True, pad_short_rows=True)

    @cached_property
    def fingerprint(self) -> str:
        """Digest that changes with labels or clips; clips are represented by file stamps.

        Raises
        ------
        MissingError
            If data are missing.
        """
        self.require_present()
        digest = sha256()
        files = self.tar_files
        if self.release is not None:
            digest.update(self.labels_hash.encode())
            files = list(self.release.files)
        if self.manifest is not None:
            digest.update(self.manifest.read_bytes())
            rows = [row for _, row in self.table.records()]
            files = [self.manifest.parent / row.get("path", "") for row in rows] + self._label_files
        for file in files:
            with contextlib.suppress(OSError):  # reading reports missing files
                digest.update(f"{file.name}\0{file_stamp(file)}\0".encode())
        return digest.hexdigest()

    @cached_property
    def labels_hash(self) -> str:
        """Digest of the labels, or of names and sizes of the tar files; independent of the location of the copy.

        Raises
        ------
        MissingError
            If data are missing.
        """
        self.require_present()
        if self.release is not None:
            return sha256("".join(f"{astuple(clip)}\n" for clip in self.release.clips).encode()).hexdigest()
        if self.manifest is None:
            return sha256("".join(f"{tar.name}\0{tar.stat().st_size}\0" for tar in self.tar_files).encode()).hexdigest()
        digest = sha256(self.manifest.read_bytes())
        for labels in self._label_files:
            digest.update(labels.read_bytes() if labels.is_file() else b"")
        return digest.hexdigest()

    @cached_property
    def _label_files(self) -> list[Path]:
        """Files that cells of the manifest reference as labels."""
        assert self.manifest is not None
        type_, folder = task_type(self.task), self.manifest.parent
        return [folder / name for _, row in self.table.records() for name in type_.label_files(row.get("label", ""))]

    @property
    def download_command(self) -> str:
        """Command that downloads a published task into the data root, or into data/ if that is remote."""
        where = (
            ""
            if self.data_root == Path("data") or is_remote(self.data_root)
            else f" --data-root {shown_path(self.data_root)}"
        )
        return f"uv run probe.py download {self.task.name}{where}"

    def require_present(self) -> None:
        """Raise MissingError, with the remedy, if data are missing."""
        if self.present:
            return
        if self.release is not None:
            _ = self.release.clips  # raises its error
        task, root = self.task, shown_path(self.data_root)
        if task.home is not None:
            raise MissingError(f"{task.name}: {task.manifest} not found next to the task file or in {root}.")
        absent = f"{task.name}: no {', '.join(self.missing_patterns)} in {shown_path(self.data_root / task.name)}."
        if task.private:
            remedy = "The data are private to the organisers of the challenge"
        elif not task.zenodo:
            remedy = "The data are not public in this form"
        else:
            copy = f" and copy data/{task.name} there" if is_remote(self.data_root) else ""
            raise MissingError(f"{absent} Run `{self.download_command}`{copy}{_release_names(task)}.")
        raise MissingError(f"{absent} {remedy}; provide the tar files{_release_names(task)} or a manifest.csv.")


def _release_names(task: Task) -> str:
    """Words for messages that offer the release of a task; empty without one."""
    return "".join(f" or provide the {each.name} release" for each in RELEASES if each.task == task.name)


def locate_task(task: Task, data_root: Path) -> LocatedTask:
    """Locate the manifest, the tar files or the release of a task.

    A manifest is searched first, next to the TOML file of a user's task and then in the data root. Tar files may lie in
    subfolders, but not in hidden ones. A release is used where there is no complete set of tar files.

    Parameters
    ----------
    task : Task
        The task.
    data_root : Path
        Folder with the data of all tasks; also remote.

    Returns
    -------
    LocatedTask
        Also if files are missing.
    """
    folder = data_root / task.name if task.home is None else data_root
    candidates = [folder / task.manifest] if task.home is None else [task.home / task.manifest, folder / task.manifest]
    if manifest := next((candidate for candidate in candidates if candidate.is_file()), None):
        return LocatedTask(task, data_root, manifest, {})
    files = sorted(path for path in folder.rglob("*.tar") if path.is_file()) if task.patterns else []
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    tars = {glob: tuple(f for f in files if f.match(glob)) for glob in task.patterns.values()}
    if task.home is None and not all(tars.values()) and (release := find_release(task.name, data_root)) is not None:
        return LocatedTask(task, data_root, None, {}, release)
    return LocatedTask(task, data_root, None, tars)
