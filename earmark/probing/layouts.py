"""Where a task's data lie, in either of two layouts, and what can be told of them without opening a clip.

X-ARES:    <data-root>/<task>/<split>*.tar, or folds: plain tar files of pairs <key>.<audio suffix> and <key>.json;
           clips stay in the tar and are read where they lie.
manifest:  <data-root>/<task>/manifest.csv, or the file that a user's task names, with columns
             path   of the clip, relative to the manifest; with --embeddings no clip has to be there
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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Literal

from earmark.audio.clips import file_stamp
from earmark.errors import MissingError, shown_path
from earmark.files.csv_table import CsvTable, read_csv_table
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task

csv.field_size_limit(1 << 30)  # the events of a long recording, in one cell

PRIVATE: Literal["private: no data"] = "private: no data"


@dataclass(frozen=True)
class LocatedTask:
    """A task's data as they lie on disk, looked for once; what is in the files is read when it is asked for.

    manifest: None where there is none. tars: {pattern: its tar files}, looked for where there is no manifest.
    """

    task: Task
    data_root: Path
    manifest: Path | None
    tars: Mapping[str, tuple[Path, ...]]

    @property
    def missing_patterns(self) -> tuple[str, ...]:
        """Patterns of tar files that nothing matches."""
        return tuple(glob for glob, files in self.tars.items() if not files)

    @property
    def present(self) -> bool:
        """Whether there is something to read."""
        return self.manifest is not None or (bool(self.tars) and not self.missing_patterns)

    @property
    def state(self) -> Literal["present", "missing", "private: no data"]:
        """In words."""
        if self.present:
            return "present"
        return PRIVATE if self.task.private and not self.size else "missing"

    @cached_property
    def size(self) -> int | None:
        """Bytes of the tar files; None for a manifest, whose clips lie anywhere."""
        return None if self.manifest else sum(tar.stat().st_size for tar in self.tar_files)

    @property
    def tar_files(self) -> list[Path]:
        """All of them, each once."""
        return sorted({tar for files in self.tars.values() for tar in files})

    @cached_property
    def table(self) -> CsvTable:
        """The manifest, whatever is wrong with it."""
        assert self.manifest is not None
        return read_csv_table(self.manifest, strict=True, pad_short_rows=True)

    @cached_property
    def fingerprint(self) -> str:
        """A digest that changes when labels or clips do, without opening a clip: file stamps stand for them.

        MissingError where data are missing.
        """
        self.require_present()
        digest = sha256()
        files = self.tar_files
        if self.manifest is not None:
            digest.update(self.manifest.read_bytes())
            rows = [row for _, row in self.table.records()]
            files = [self.manifest.parent / row.get("path", "") for row in rows] + self._label_files
        for file in files:
            with contextlib.suppress(OSError):  # reading says what is not there
                digest.update(f"{file.name}\0{file_stamp(file)}\0".encode())
        return digest.hexdigest()

    @cached_property
    def labels_hash(self) -> str:
        """A digest of the manifest, or of the names and sizes of the tar files: the same wherever a copy lies.

        MissingError where data are missing.
        """
        self.require_present()
        if self.manifest is None:
            return sha256("".join(f"{tar.name}\0{tar.stat().st_size}\0" for tar in self.tar_files).encode()).hexdigest()
        digest = sha256(self.manifest.read_bytes())
        for labels in self._label_files:
            digest.update(labels.read_bytes() if labels.is_file() else b"")
        return digest.hexdigest()

    @cached_property
    def _label_files(self) -> list[Path]:
        """Files that cells of the manifest name in place of labels."""
        assert self.manifest is not None
        kind, folder = task_type(self.task), self.manifest.parent
        return [folder / name for _, row in self.table.records() for name in kind.label_files(row.get("label", ""))]

    @property
    def download_command(self) -> str:
        """What fetches a published task's data into this folder."""
        where = "" if self.data_root == Path("data") else f" --data-root {shown_path(self.data_root)}"
        return f"uv run probe.py download {self.task.name}{where}"

    def require_present(self) -> None:
        """MissingError where data are not there, with what brings them."""
        if self.present:
            return
        task, root = self.task, shown_path(self.data_root)
        if task.home is not None:
            raise MissingError(f"{task.name}: no {task.manifest} beside the task's file, nor in {root}.")
        lacks = f"{task.name}: no {', '.join(self.missing_patterns)} in {shown_path(self.data_root / task.name)}."
        if task.private:
            remedy = "The data are private to the challenge's organisers"
        elif not task.zenodo:
            remedy = "The data are not published in this form"
        else:
            raise MissingError(f"{lacks} Run `{self.download_command}`.")
        raise MissingError(f"{lacks} {remedy}; put such files there, or a manifest.csv.")


def locate_task(task: Task, data_root: Path) -> LocatedTask:
    """Look for a task's manifest, beside a user's TOML file and below the data root, and else for its tar files.

    Tar files also lie in folders that an archive brought along; not in hidden ones.
    """
    below = data_root / task.name if task.home is None else data_root
    places = [below / task.manifest] if task.home is None else [task.home / task.manifest, below / task.manifest]
    if manifest := next((place for place in places if place.is_file()), None):
        return LocatedTask(task, data_root, manifest, {})
    files = sorted(path for path in below.rglob("*.tar") if path.is_file()) if task.patterns else []
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(below).parts)]
    return LocatedTask(
        task, data_root, None, {glob: tuple(f for f in files if f.match(glob)) for glob in task.patterns.values()}
    )
