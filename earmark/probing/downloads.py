"""Download the data of published tasks from Zenodo."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from earmark.errors import MissingError
from earmark.files.archives import unpack
from earmark.files.download import RemoteFile, fetch, zenodo_files
from earmark.probing.options import ZENODO
from earmark.probing.tasks import Task
from earmark.probing.xares import published_tasks

PACKED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # a plain .tar is data and stays packed


def record_files(task: Task, base: str = ZENODO) -> list[RemoteFile]:
    """List the files of a task's Zenodo record.

    Parameters
    ----------
    task : Task
        The task.
    base : str
        Address of the Zenodo server.

    Raises
    ------
    MissingError
        If the task has no public record.
    """
    if task.home is not None:
        raise MissingError(f"{task.name}: nothing to download for your own task; its file names a manifest.")
    if task.private:
        raise MissingError(f"{task.name}: the data are private and not published.")
    if not task.zenodo:
        raise MissingError(
            f"{task.name}: no public record. Put its tar files or a manifest.csv into <data-root>/{task.name}."
        )
    return zenodo_files(task.zenodo, base=base)


def download_task(
    task: Task,
    data_root: Path,
    *,
    base: str = ZENODO,
    on_bytes: Callable[[RemoteFile, int], None] | None = None,
) -> list[Path]:
    """Download the record of a task into <data-root>/<task> and unpack archives.

    Plain .tar files are data and stay packed. Complete files are kept, and files of another task with the same record
    are linked. An interrupted download continues with the same call.

    Parameters
    ----------
    task : Task
        The task.
    data_root : Path
        Folder with the data of all tasks.
    base : str
        Address of the Zenodo server.
    on_bytes : callable, optional
        Called with a file and the number of newly available bytes.

    Returns
    -------
    list of Path
        The files; for an archive, its contents.

    Raises
    ------
    MissingError, EarmarkError
        As `record_files`, `fetch` and `unpack`.
    """
    folder = data_root / task.name
    sibling_folders = [
        data_root / other.name for other in published_tasks().values() if other.zenodo == task.zenodo and other != task
    ]
    files: list[Path] = []
    for file in record_files(task, base):
        _share(folder / file.name, [other / file.name for other in sibling_folders])
        path = fetch(file, folder, on_bytes=_bound(on_bytes, file))
        files += unpack(path, folder) if path.name.lower().endswith(PACKED) else [path]
    return files


def _share(path: Path, siblings: Sequence[Path]) -> None:
    """Link a file that another task already has; `fetch` then verifies it."""
    existing = next((sibling for sibling in siblings if sibling.is_file()), None)
    if existing is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # file system without hard links: download again
        path.hardlink_to(existing)


def _bound(on_bytes: Callable[[RemoteFile, int], None] | None, file: RemoteFile) -> Callable[[int], None] | None:
    return None if on_bytes is None else lambda n: on_bytes(file, n)
