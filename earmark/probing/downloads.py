"""A published task's data, from its Zenodo record into the folder where they are looked for."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from earmark.errors import MissingError
from earmark.files.archives import unpack
from earmark.files.download import RemoteFile, fetch, zenodo_files
from earmark.probing.options import ZENODO
from earmark.probing.tasks import Task
from earmark.probing.xares import published_tasks

PACKED = (".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")  # a plain .tar is the data itself


def record_files(task: Task, base: str = ZENODO) -> list[RemoteFile]:
    """What a task's record holds, with sizes and checksums. MissingError for a task without one."""
    if task.home is not None:
        raise MissingError(f"{task.name}: a task of your own has nothing to download; its file names a manifest.")
    if task.private:
        raise MissingError(f"{task.name}: private: no data. They are not published.")
    if not task.zenodo:
        raise MissingError(
            f"{task.name}: no public record; put its tar files or a manifest.csv in a folder {task.name}."
        )
    return zenodo_files(task.zenodo, base=base)


def download_task(
    task: Task,
    data_root: Path,
    *,
    base: str = ZENODO,
    on_bytes: Callable[[RemoteFile, int], None] | None = None,
) -> list[Path]:
    """Fetch a task's record into <data-root>/<task> and unpack what is packed; tar files are the data and stay.

    on_bytes: told, for every file, of further bytes that are here. Returns the files that are now there: an archive's
    content in its place. What is there and right is left alone, and so is what another task of the same record has;
    interrupted or failed, the same call goes on where it stopped. Errors as in `record_files`, `fetch` and `unpack`.
    """
    folder = data_root / task.name
    beside = [
        data_root / other.name for other in published_tasks().values() if other.zenodo == task.zenodo and other != task
    ]
    found: list[Path] = []
    for file in record_files(task, base):
        _share(folder / file.name, [other / file.name for other in beside])
        path = fetch(file, folder, on_bytes=_bound(on_bytes, file))
        found += unpack(path, folder) if path.name.lower().endswith(PACKED) else [path]
    return found


def _share(path: Path, others: Sequence[Path]) -> None:
    """Let a file be one that another task has, which `fetch` then finds there, and checks."""
    there = next((other for other in others if other.is_file()), None)
    if there is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):  # a file system without links: the file is fetched again
        path.hardlink_to(there)


def _bound(on_bytes: Callable[[RemoteFile, int], None] | None, file: RemoteFile) -> Callable[[int], None] | None:
    return None if on_bytes is None else lambda n: on_bytes(file, n)
