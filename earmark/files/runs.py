"""Runs kept by the system that they are of, so that no system's result is replaced by another's.

A command writes its latest run to a fixed folder, such as benchmark_outputs/speaker/trials. Beside that, each run is
kept in benchmark_outputs/runs/<name>/<suite>/. A name belongs to one state of a system, such as the weights of an
encoder, or the contents of a score file: another state of the same name is kept in <name>-2, then <name>-3, …
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from earmark.files.atomic import LOCK, locked, write_together

OUTPUTS, RUNS = "benchmark_outputs", "runs"
SYSTEM = "system.json"  # in the folder of a name: the state that it belongs to

Content = str | bytes | None


def runs_folder(folder: Path) -> Path:
    """Where runs are kept that a command writes to a folder.

    In the folder `benchmark_outputs` that it lies in; elsewhere in the folder itself, for a run writes nothing outside
    the --output-dir that a user chose.

    >>> runs_folder(Path("benchmark_outputs/speaker/trials")).as_posix()
    'benchmark_outputs/runs'
    >>> runs_folder(Path("results")).as_posix()
    'results/runs'
    """
    for place in (folder, *folder.parents):
        if place.name == OUTPUTS:
            return place / RUNS
    return folder / RUNS


def system_folder(runs: Path, name: str, state: str) -> Path:
    """The folder of a system's runs: the first of <name>, <name>-2, … that is this state's already, or is free.

    Parameters
    ----------
    runs : as `runs_folder` gives it.
    name : of the system, fit for a folder (`report.provenance.file_name`).
    state : what tells this system from others of its name: an encoder's identity, a hash of a score file.

    Returns
    -------
    Path
        It is claimed: a process that asks for another state of the name from now on gets another folder.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / LOCK):
        number = 1
        while True:
            folder = runs / (name if number == 1 else f"{name}-{number}")
            if not folder.exists() or not any(folder.iterdir()):
                write_together({folder / SYSTEM: json.dumps({"name": name, "state": state}, indent=2) + "\n"})
                return folder
            if _state(folder / SYSTEM) == state:
                return folder
            number += 1


def _state(path: Path) -> str | None:
    """The state that a folder belongs to; None where nobody can tell, so that nothing in it is replaced."""
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
    """Write the files of a finished run to its folder, and to where runs of its system are kept.

    All of them are replaced together or none is, in both places, and files of an earlier run do not stay beside them.

    Parameters
    ----------
    folder : of the latest run, whatever its system; the caller has locked it.
    contents : {path below the folder: its text or bytes, or None to remove it}.
    name, state : of the system, as in `system_folder`.
    suite : where the run lies below its system's folder, such as "speaker/trials".
    owned : patterns of the files that runs of this kind write, as `Path.glob` takes them. What matches them and is not
        in `contents` is an earlier run's, and is removed. Other files are left alone.
    once : files that somebody may have filled in since; they are written only where they are not there.
    runs : where runs are kept; by default `runs_folder(folder)`.

    Returns
    -------
    Path
        The folder that the run is kept in. EarmarkError where another run is writing to it.
    """
    kept = system_folder(runs or runs_folder(folder), name, state) / suite
    with locked([kept]):
        write_together(
            {path: content for place in (folder, kept) for path, content in _in(place, contents, owned, once)}
        )
    return kept


def _in(
    folder: Path, contents: Mapping[str, Content], owned: Sequence[str], once: Sequence[str]
) -> list[tuple[Path, Content]]:
    """What becomes of each file of a folder."""
    stale = {path: None for pattern in owned for path in folder.glob(pattern) if path.is_file()}
    new = {folder / name: content for name, content in contents.items()}
    filled_in = {folder / name for name in once if (folder / name).exists()}
    return [(path, content) for path, content in {**stale, **new}.items() if path not in filled_in]
