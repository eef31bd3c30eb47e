"""The files of the CASE benchmark: fetched from the hub, found on disk, checked one by one.

On the hub are trial lists (`trials/`), facts (`*.json`) and twelve archives, one for each set of recordings and
condition: `audio/{voxceleb1_o,librispeech}_{clean,codec,mic,noise,reverb,playback}.tar.gz`. Archives unpack into the
benchmark's folder, and the lists name audio relative to it.
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

RATE = 16_000  # Hz
LAYOUTS = ("trials", "benchmark/trials")
COMMAND = "uv run --extra download evaluate_speaker.py download --output-dir DIR"


# --- fetching -------------------------------------------------------------------------------------------------------


def wanted_files(
    *, conditions: Sequence[str] = (), sets: Sequence[str] = (), base: str = HUB, token: str | None = None
) -> list[RemoteFile]:
    """The benchmark's files on the hub, or a part of them: lists and facts first, then archives by set and condition.

    conditions, sets: of the audio, all if none; the lists always come whole. base, token: of the hub.
    MissingError for a condition or set that CASE has not; EarmarkError when the hub has not all of it.
    """
    conditions, sets = conditions or categories(), sets or recording_sets()
    for kind, given, known in (("condition", conditions, categories()), ("set", sets, recording_sets())):
        if unknown := [name for name in given if name not in known]:
            raise MissingError(f"{', '.join(unknown)}: no {kind} of CASE; they are {', '.join(known)}.")
    archives = [f"audio/{name}_{condition}.tar.gz" for name in sets for condition in conditions]
    there = {file.name: file for file in hub_files(case_definition()["hub"], base=base, token=token)}
    small = [name for name in there if any(fnmatch(name, pattern) for pattern in ("trials/*", "*.json"))]
    needed = [*(f"trials/{protocol}.txt" for protocol in condition_names()), *archives]
    if lacking := [name for name in needed if name not in there]:
        raise EarmarkError(f"{base}/datasets/{case_definition()['hub']} does not have {', '.join(lacking)}.")
    return [there[name] for name in dict.fromkeys([*sorted(small), *archives])]


def download(
    wanted: Sequence[RemoteFile], folder: Path, on_bytes: Callable[[RemoteFile, int], None], token: str | None = None
) -> None:
    """Fetch and unpack files of the benchmark into a folder. What is there and right is left alone.

    token: of the hub. on_bytes: told, for every file, of further bytes that are here. Archives stay, in `audio/`.
    Interrupted or failed, the same call goes on where it stopped. Errors as in `fetch` and `unpack`.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else None
    for file in wanted:
        path = fetch(file, folder, headers=headers, on_bytes=partial(on_bytes, file))
        if path.name.endswith(".tar.gz"):
            unpack(path, folder)


# --- on disk --------------------------------------------------------------------------------------------------------


def trials_folder(folder: Path) -> Path:
    """Where the lists of a benchmark lie: `trials/` or `benchmark/trials/`, whichever holds one of the 24 first.

    MissingError, which names both, when neither does.
    """
    for layout in LAYOUTS:
        if any((folder / layout / f"{protocol}.txt").is_file() for protocol in condition_names()):
            return folder / layout
    places = " nor ".join(f"{shown_path(folder / layout)}/" for layout in LAYOUTS)
    raise MissingError(f"Neither {places} holds trial lists of CASE. `{COMMAND}` supplies them.")


def verify(folder: Path) -> list[str]:
    """Everything that is wrong with a benchmark on disk, one line each; empty when it is complete.

    Lists that are missing; their wrong lines; audio that a list names and that leaves the folder, is missing, empty,
    no file, unreadable, or not 16 kHz mono WAV by its header. Audio is named once, with the first list that wants it;
    the right lines of a list that has wrong ones count too. MissingError when no list is there at all.
    """
    lists = trials_folder(folder)
    problems = []
    first: dict[str, str] = {}  # audio → the list that named it first
    for protocol in condition_names():
        path = lists / f"{protocol}.txt"
        if not path.is_file():
            problems.append(f"{_below(path, folder)}: missing")
            continue
        names, wrong = _named(path)
        problems += [f"{_below(path, folder)}: {problem}" for problem in wrong]
        for name in names:
            first.setdefault(name, protocol)
    for name, protocol in first.items():
        if wrong_audio := _audio_problem(folder, name):
            problems.append(f"{name}: {wrong_audio}; {protocol} names it")
    return problems


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _named(path: Path) -> tuple[Iterable[str], list[str]]:
    """The audio that a list names, each once, and what is wrong with the list."""
    try:
        trials = read_trials(path)
    except DataError as error:
        faults = [str(fault).strip() for found in error.faults.values() for fault in found]
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            cells = (line.split() for line in lines)
            right = [line[1:] for line in cells if len(line) == 3 and line[0] in ("0", "1")]
        return dict.fromkeys(_normal(name) for pair in right for name in pair), faults
    if trials.labels is None or trials.scores is not None:
        return (), ["no list of CASE, whose lines are `1|0 enrol test`"]
    return dict.fromkeys(_normal(name) for name in trials.names), []


def _normal(name: str) -> str:
    """One name for one file: without `.` and doubled slashes."""
    return PurePosixPath(name).as_posix()


def _audio_problem(folder: Path, name: str) -> str:
    """What is wrong with an audio file, by its header; empty when nothing is."""
    if escapes_directory(name):
        return "leaves the benchmark's folder"
    path = folder / name
    try:
        if not path.exists():
            return "missing"
        if not path.is_file():
            return "no file"
        if path.stat().st_size == 0:
            return "empty"
        header = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        return f"cannot be read: {getattr(error, 'error_string', None) or getattr(error, 'strerror', error)}"
    if (header.format, header.samplerate, header.channels) not in (("WAV", RATE, 1), ("WAVEX", RATE, 1)):
        return f"{header.format} at {header.samplerate} Hz with {header.channels} channels, not 16 kHz mono WAV"
    return "" if header.frames else "holds no samples"
