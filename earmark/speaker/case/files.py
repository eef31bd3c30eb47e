"""The files of the official CASE benchmark: download from the Hugging Face hub, and validation on disk.

The hub repository contains trial lists (`trials/`), metadata (`*.json`) and twelve archives, one for each set of
recordings and category: `audio/{voxceleb1_o,librispeech}_{clean,codec,mic,noise,reverb,playback}.tar.gz`. The
archives are unpacked into the benchmark folder; names in the trial lists are relative to this folder.
"""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath

import soundfile

from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.archives import escapes_directory, unpack
from earmark.files.download import RemoteFile, fetch, hub_files
from earmark.speaker.case.conditions import case_definition, categories, condition_names, recording_sets
from earmark.speaker.options import HUB
from earmark.speaker.trial_files import read_trials

SAMPLE_RATE = 16_000  # Hz
TRIALS_FOLDERS = ("trials", "benchmark/trials")
DOWNLOAD_COMMAND = "uv run --extra download evaluate_speaker.py download --output-dir DIR"


# --- download -------------------------------------------------------------------------------------------------------


def select_files(
    *,
    selected_categories: Sequence[str] = (),
    selected_sets: Sequence[str] = (),
    base: str = HUB,
    token: str | None = None,
) -> list[RemoteFile]:
    """List the files of the benchmark on the hub.

    Parameters
    ----------
    selected_categories : sequence of str
        Categories of audio to include; all six if empty.
    selected_sets : sequence of str
        Sets of recordings to include; both if empty.
    base : str
        URL of the hub.
    token : str or None
        Access token of the hub.

    Returns
    -------
    list of RemoteFile
        All trial lists and metadata, then the archives of the selected sets and categories.

    Raises
    ------
    MissingError
        If a category or set is unknown.
    EarmarkError
        If the hub does not have all of these files.
    """
    chosen, sets = selected_categories or categories(), selected_sets or recording_sets()
    for kind, names, known in (("category", chosen, categories()), ("set", sets, recording_sets())):
        if unknown := [name for name in names if name not in known]:
            raise MissingError(f"{', '.join(unknown)}: unknown {kind}. Known: {', '.join(known)}.")
    archives = [f"audio/{name}_{category}.tar.gz" for name in sets for category in chosen]
    available = {file.name: file for file in hub_files(case_definition()["hub"], base=base, token=token)}
    small = [name for name in available if any(fnmatch(name, pattern) for pattern in ("trials/*", "*.json"))]
    needed = [*(f"trials/{condition}.txt" for condition in condition_names()), *archives]
    if missing := [name for name in needed if name not in available]:
        raise EarmarkError(f"{base}/datasets/{case_definition()['hub']}: {', '.join(missing)} not found.")
    return [available[name] for name in dict.fromkeys([*sorted(small), *archives])]


def download_files(
    selected: Sequence[RemoteFile], folder: Path, on_bytes: Callable[[RemoteFile, int], None], token: str | None = None
) -> None:
    """Download files of the benchmark and unpack the archives.

    Files that are complete are not downloaded again; an interrupted download resumes. Archives are kept in `audio/`.
    Raises the errors of `fetch` and `unpack`.

    Parameters
    ----------
    selected : sequence of RemoteFile
        See `select_files`.
    folder : Path
        Destination.
    on_bytes : callable
        Called with the file and the number of further bytes on disk, for progress bars.
    token : str or None
        Access token of the hub.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else None
    for file in selected:
        path = fetch(file, folder, headers=headers, on_bytes=partial(on_bytes, file))
        if path.name.endswith(".tar.gz"):
            unpack(path, folder)


# --- validation -----------------------------------------------------------------------------------------------------


def trials_folder(folder: Path) -> Path:
    """Find the trial lists of a benchmark.

    Returns
    -------
    Path
        The first of `trials/` and `benchmark/trials/` that contains a list of one of the 24 conditions.

    Raises
    ------
    MissingError
        If neither folder contains such a list.
    """
    for subfolder in TRIALS_FOLDERS:
        if any((folder / subfolder / f"{condition}.txt").is_file() for condition in condition_names()):
            return folder / subfolder
    tried = " or ".join(f"{shown_path(folder / subfolder)}/" for subfolder in TRIALS_FOLDERS)
    raise MissingError(f"No CASE trial lists in {tried}. To download them: `{DOWNLOAD_COMMAND}`")


def verify_files(folder: Path) -> list[str]:
    """Validate the trial lists and audio files of a benchmark.

    Returns
    -------
    list of str
        Problems, one per line to print; empty if the benchmark is complete. Reported are missing lists, invalid
        lines, and audio files that are outside the folder, missing, empty, unreadable or not 16 kHz mono WAV
        according to their header. An audio file is reported once, with the first list that contains it. The valid
        lines of a list with invalid lines are included.

    Raises
    ------
    MissingError
        If there are no trial lists.
    """
    lists = trials_folder(folder)
    problems = []
    first_list: dict[str, str] = {}  # audio file → the first condition that contains it
    for condition in condition_names():
        path = lists / f"{condition}.txt"
        if not path.is_file():
            problems.append(f"{_relative(path, folder)}: missing")
            continue
        names, faults = _read_names(path)
        problems += [f"{_relative(path, folder)}: {fault}" for fault in faults]
        for name in names:
            first_list.setdefault(name, condition)
    for name, condition in first_list.items():
        if problem := _audio_problem(folder, name):
            problems.append(f"{name}: {problem} (in the list of {condition})")
    return problems


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_names(path: Path) -> tuple[Iterable[str], list[str]]:
    """The audio files of a list, without repeats, and the faults of the list."""
    try:
        trials = read_trials(path)
    except DataError as error:
        faults = [str(fault).strip() for file_faults in error.faults.values() for fault in file_faults]
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            rows = (line.split() for line in lines)
            pairs = [row[1:] for row in rows if len(row) == 3 and row[0] in ("0", "1")]
        return dict.fromkeys(_normalised(name) for pair in pairs for name in pair), faults
    if trials.labels is None or trials.scores is not None:
        return (), ["not a CASE list; expected lines: `1|0 enrol test`"]
    return dict.fromkeys(_normalised(name) for name in trials.names), []


def _normalised(name: str) -> str:
    """The name without `.` components and repeated slashes."""
    return PurePosixPath(name).as_posix()


def _audio_problem(folder: Path, name: str) -> str:
    """Describe what is wrong with an audio file, from its header; empty if nothing is."""
    if escapes_directory(name):
        return "outside the benchmark folder"
    path = folder / name
    try:
        if not path.exists():
            return "missing"
        if not path.is_file():
            return "not a file"
        if path.stat().st_size == 0:
            return "empty"
        header = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        return f"cannot be read: {getattr(error, 'error_string', None) or getattr(error, 'strerror', error)}"
    if (header.format, header.samplerate, header.channels) not in (("WAV", SAMPLE_RATE, 1), ("WAVEX", SAMPLE_RATE, 1)):
        plural = "" if header.channels == 1 else "s"
        return f"{header.format}, {header.samplerate} Hz, {header.channels} channel{plural}; expected WAV, 16 kHz, mono"
    return "" if header.frames else "contains no samples"
