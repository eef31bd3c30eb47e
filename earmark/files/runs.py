"""Saved runs, separated by system, so that one system's results never replace another's.

A command writes its latest run to a fixed directory, such as benchmark_outputs/speaker/trials. Each run is also saved
in benchmark_outputs/runs/<name>/<suite>/. A name belongs to one state of a system, such as the weights of an encoder or
the contents of a score file. Another state with the same name is saved in <name>-2, then <name>-3, …
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from earmark.files.atomic import LOCK, locked, write_together

OUTPUTS, RUNS = "benchmark_outputs", "runs"
SYSTEM_FILE = "system.json"  # holds the name and state of the system

Content = str | bytes | None | Callable[[Path], str]


def runs_folder(folder: Path) -> Path:
    """Directory of saved runs for a command's output directory.

    It is in the parent directory `benchmark_outputs` if there is one, else in the output directory itself: a run never
    writes outside a user's --output-dir.

    Examples
    --------
    >>> runs_folder(Path("benchmark_outputs/speaker/trials")).as_posix()
    'benchmark_outputs/runs'
    >>> runs_folder(Path("results")).as_posix()
    'results/runs'
    """
    for directory in (folder, *folder.parents):
        if directory.name == OUTPUTS:
            return directory / RUNS
    return folder / RUNS


def system_folder(runs: Path, name: str, state: str) -> Path:
    """Directory of a system's runs: the first of <name>, <name>-2, … that has this state or is free.

    Parameters
    ----------
    runs : Path
        From `runs_folder`.
    name : str
        Valid as a directory name (`report.provenance.file_name`).
    state : str
        Identifies the system among those with the same name: an encoder key, or the hash of a score file.

    Returns
    -------
    Path
        Reserved for this state.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / LOCK):
        number = 1
        while True:
            folder = runs / (name if number == 1 else f"{name}-{number}")
            if not folder.exists() or not any(folder.iterdir()):
                write_together({folder / SYSTEM_FILE: json.dumps({"name": name, "state": state}, indent=2) + "\n"})
                return folder
            if _state(folder / SYSTEM_FILE) == state:
                return folder
            number += 1


def _state(path: Path) -> str | None:
    """State that a directory belongs to; None if unknown, in which case its contents are not replaced."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_run(
    folder: Path,
    contents: Mapping[str, Content],
    *,
    name: str,
    state: str,
    suite: str,
    owned: Sequence[str] = (),
    once: Sequence[str] = (),
    runs: Path | None = None,
) -> Path:
    """Write the files of a finished run to its output directory and to the system's saved runs.

    All files are replaced together in both directories, and files of earlier runs are removed.

    Parameters
    ----------
    folder : Path
        Output directory of the latest run, locked by the caller.
    contents : mapping of str to str, bytes or None
        Content of each file by relative path; None removes it.
    name, state : str
        As in `system_folder`.
    suite : str
        Directory below the system's directory, such as "speaker/trials".
    owned : sequence of str
        Glob patterns of files that runs of this kind write. Matching files that are not in `contents` are removed;
        other files are left alone.
    once : sequence of str
        Files that users may edit; written only if they do not exist.
    runs : Path, optional
        Directory of saved runs; `runs_folder(folder)` by default.

    Returns
    -------
    Path
        Directory of the saved run.

    Raises
    ------
    EarmarkError
        If another run is writing to it.
    """
    saved = system_folder(runs or runs_folder(folder), name, state) / suite
    with locked([saved]):
        write_together(
            {
                path: content
                for directory in (folder, saved)
                for path, content in _changes(directory, contents, owned, once)
            }
        )
    return saved


def _changes(
    folder: Path, contents: Mapping[str, Content], owned: Sequence[str], once: Sequence[str]
) -> list[tuple[Path, str | bytes | None]]:
    """New content of each file in a directory; None for files to remove."""
    stale = {path: None for pattern in owned for path in folder.glob(pattern) if path.is_file()}
    new = {folder / name: content(folder) if callable(content) else content for name, content in contents.items()}
    edited = {folder / name for name in once if (folder / name).exists()}
    return [(path, content) for path, content in {**stale, **new}.items() if path not in edited]
