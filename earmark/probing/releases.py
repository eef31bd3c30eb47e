"""Public data sets in the folders of their ordinary releases, as they are downloaded and unpacked.

RELEASES holds one entry per data set and task: where it may lie, which of its files say what a clip is, and how many
clips it has. The readers list the clips with label, split or fold; no audio is decoded.

A release gives the task of X-ARES where the splits of X-ARES are those of the release: its scripts read the folds of
ESC-50 and the speaker lists of VocalSound; its test set of Speech Commands has the 6,835 clips of testing_list.txt; its
files are named after the ten folds of UrbanSound8K (8,732 clips) and the three splits of FSD50K. X-ARES drew its own
splits of CREMA-D (at random, without a seed), RAVDESS and GTZAN, and only its tar files contain them. These releases
get splits of their own (`Release.own_split`), and their scores are not shown beside published ones.

References
----------
Piczak (2015), ESC: dataset for environmental sound classification.
Salamon, Jacoby and Bello (2014), A dataset and taxonomy for urban sound research.
Cao et al. (2014), CREMA-D: crowd-sourced emotional multimodal actors dataset.
Livingstone and Russo (2018), The Ryerson audio-visual database of emotional speech and song (RAVDESS).
Warden (2018), Speech Commands: a dataset for limited-vocabulary speech recognition.
Tzanetakis and Cook (2002), Musical genre classification of audio signals.
Sturm (2013), The GTZAN dataset: its contents, its faults, their effects on evaluation, and its future use.
Gong, Yu and Glass (2022), VocalSound: a dataset for improving human vocal sounds recognition.
Fonseca et al. (2022), FSD50K: an open dataset of human-labeled sound events.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from earmark.errors import DataError, EarmarkError, Fault, MissingError, shown_path
from earmark.files.csv_table import read_csv_table
from earmark.probing.labels import split_text
from earmark.probing.tasks import SPLITS

MIN_SHARE = 0.99  # of the clips of a release without a list of its files; with fewer it counts as half unpacked
MAX_NAMES = 5  # listed in messages
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".7z", ".rar")
POINTER = b"version https://git-lfs"  # start of a file that Git LFS has not fetched

# The words of Speech Commands 0.01; version 0.02 has five more.
WORDS = (
    "bed bird cat dog down eight five four go happy house left marvin nine no off on one right seven sheila six stop "
    "three tree two up wow yes zero"
)
NEW_WORDS = "backward follow forward learn visual"
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # 01 to 08 in RAVDESS
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
DAMAGED_TRACK = "jazz.00054"  # cannot be decoded in any copy; the data of X-ARES have 999 clips, too
CREMAD_NAME = re.compile(r"(\d{4})_[A-Z]{3}_(ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}\.wav")
VOCAL_NAME = re.compile(r"([fm]\d+)_\d+_([a-z]+)\.wav")


@dataclass(frozen=True)
class ReleaseClip:
    """A clip of a release.

    Attributes
    ----------
    path : str
        Relative to the folder of the release.
    label : str or list of str
        Class, or classes of a multi-label task.
    part : str
        Split or fold.
    group : str
        Source, where it is not in the name of the file.
    """

    path: str
    label: str | list[str]
    part: str
    group: str = ""


@dataclass(frozen=True)
class Release:
    """A data set as its authors publish it.

    Attributes
    ----------
    name, task : str
        Name of the release, and the task that it gives.
    folders : tuple of str
        Names of its folder in the data root, besides that of the task; compared without case. "." is the data root.
    signs : tuple of str
        Files or folders, relative to that folder, of which at least one shows that the release lies there.
    metadata : tuple of str
        Files that say what the clips are; all are required.
    n_clips : int
        Clips of the task in the complete release.
    read : callable
        Lists the clips of the release in a folder.
    layout : str
        What the folder contains, for documentation.
    parts : str
        Origin of splits or folds, for documentation.
    own_split : str
        Why the splits are not those of X-ARES; empty if they are.
    other_versions : tuple of str
        Names of folders with another version, which is named and refused.
    """

    name: str
    task: str
    folders: tuple[str, ...]
    signs: tuple[str, ...]
    metadata: tuple[str, ...]
    n_clips: int
    read: Callable[["Release", Path], list[ReleaseClip]]
    layout: str
    parts: str
    own_split: str = ""
    other_versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundRelease:
    """A release on disk; its contents are read on demand.

    Attributes
    ----------
    release : Release
    folder : Path
        Where it lies.
    """

    release: Release
    folder: Path

    @cached_property
    def contents(self) -> list[ReleaseClip] | EarmarkError:
        """The clips, splits or folds in order, or the error that prevents their reading."""
        release = self.release
        try:
            if absent := [name for name in release.metadata if not (self.folder / name).is_file()]:
                raise MissingError(f"{self.shown}: {', '.join(absent)} not found.{_archives(self.folder)}")
            clips = release.read(release, self.folder)
        except EarmarkError as error:
            return error
        except (OSError, ValueError) as error:
            return EarmarkError(f"{self.shown}: {error}")
        paths = Counter(clip.path for clip in clips)
        if repeated := [path for path, n in paths.items() if n > 1]:
            return EarmarkError(f"{self.shown}: listed more than once: {_listed(repeated)}.")
        if unlabelled := [clip.path for clip in clips if not clip.label]:
            return EarmarkError(f"{self.shown}: no label: {_listed(unlabelled)}.")
        order = {part: i for i, part in enumerate(SPLITS)}
        return sorted(clips, key=lambda clip: order[clip.part] if clip.part in order else int(clip.part))

    @property
    def clips(self) -> list[ReleaseClip]:
        """The clips.

        Raises
        ------
        MissingError
            If metadata files, or most clips, are missing.
        EarmarkError
            If the metadata are invalid, or if it is another version of the data set.
        """
        if isinstance(self.contents, EarmarkError):
            raise self.contents
        return self.contents

    @property
    def shown(self) -> str:
        """Task, release and folder, as messages begin."""
        return f"{self.release.task}: {self.release.name} release in {shown_path(self.folder)}"

    @cached_property
    def absent(self) -> list[str]:
        """Paths of clips that the metadata list and that do not exist."""
        by_folder: dict[PurePosixPath, list[str]] = defaultdict(list)
        for clip in self.clips:
            by_folder[PurePosixPath(clip.path).parent].append(clip.path)
        absent: list[str] = []
        for folder, paths in by_folder.items():
            names = set(_names(self.folder / folder))
            absent += [path for path in paths if PurePosixPath(path).name not in names]
        return absent

    @cached_property
    def error(self) -> EarmarkError | None:
        """What prevents the use of the release with its audio; None if it is complete."""
        if isinstance(self.contents, EarmarkError):
            return self.contents
        if absent := self.absent:
            return MissingError(
                f"{self.shown}: {len(absent):,} of {len(self.clips):,} clips not found: {_listed(absent)}. "
                f"Unpack the archives completely.{_archives(self.folder)}"
            )
        pointers = [clip.path for clip in self.clips if _is_pointer(self.folder / clip.path)]
        if pointers:
            return MissingError(
                f"{self.shown}: {len(pointers):,} clips are links of Git LFS without audio: {_listed(pointers)}. "
                "Run `git lfs pull` in this folder."
            )
        return None

    @property
    def files(self) -> Iterator[Path]:
        """The clips and metadata files."""
        yield from (self.folder / name for name in self.release.metadata)
        yield from (self.folder / clip.path for clip in self.clips)


def readme_row(release: Release) -> str:
    """The row of a release in the table of README.md.

    >>> readme_row(RELEASES[0])
    "| ESC-50 | `esc50` | `ESC-50-master`, `ESC-50` | `meta/esc50.csv`, `audio/` | the authors' 5 folds |"
    """
    folders = ", ".join(f"`{name}`" if name != "." else "the data directory" for name in release.folders)
    return f"| {release.name} | `{release.task}` | {folders} | {release.layout} | {release.parts} |"


def find_release(task: str, data_root: Path) -> FoundRelease | None:
    """Find the release of a task in a data root.

    Parameters
    ----------
    task : str
        Name of the task.
    data_root : Path
        Folder with the data of all tasks.

    Returns
    -------
    FoundRelease or None
        In <data-root>/<task>/, <data-root>/<task>/<release>/ or <data-root>/<release>/; also if it is incomplete. None
        if the task has no release or none lies there.

    Examples
    --------
    >>> find_release("esc50", Path("no such folder")) is None
    True
    """
    for release in (each for each in RELEASES if each.task == task):
        own = data_root / task
        names = (*release.folders, *release.other_versions)
        for folder in (own, *_named(own, names), *_named(data_root, names)):
            if any((folder / sign).exists() for sign in release.signs):
                return FoundRelease(release, folder)
    return None


def _named(parent: Path, names: Sequence[str]) -> list[Path]:
    """Folders with these names in any case, in the order of the names."""
    present = {path.name.casefold(): path for path in sorted(parent.iterdir())} if parent.is_dir() else {}
    found = [parent if name == "." else present.get(name.casefold()) for name in names]
    return [path for path in found if path is not None and path.is_dir()]


def _names(folder: Path) -> list[str]:
    """Names in a folder, sorted, without hidden ones; empty if it does not exist."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _archives(folder: Path) -> str:
    """A sentence on archives in a folder; empty without any."""
    packed = [name for name in _names(folder) if name.lower().endswith(ARCHIVES)]
    return f" Not unpacked: {_listed(packed)}." if packed else ""


def _is_pointer(path: Path) -> bool:
    if path.stat().st_size >= 1024:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def _first(folder: Path, names: Sequence[str], missing: str) -> str:
    """The first of these subfolders that exists."""
    if found := next((name for name in names if (folder / name).is_dir()), None):
        return found
    raise MissingError(f"{missing}: {' or '.join(f'{name}/' for name in names)} not found.{_archives(folder)}")


def _require_most(clips: list[ReleaseClip], release: Release, shown: str) -> list[ReleaseClip]:
    """Refuse a release that lacks clips and has no list of them."""
    if len(clips) < MIN_SHARE * release.n_clips:
        raise MissingError(
            f"{shown}: {len(clips):,} of {release.n_clips:,} clips found. Unpack the archives completely, or describe "
            "the clips that you have in a manifest.csv."
        )
    return clips


def _shown(release: Release, folder: Path) -> str:
    return FoundRelease(release, folder).shown


def _table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a metadata file; DataError for missing columns and malformed rows."""
    table = read_csv_table(path)
    table.require_columns(columns, "Use the metadata file of the release.")
    yield from table.records()


def _require_no_faults(path: Path, faults: Sequence[Fault]) -> None:
    if faults:
        raise DataError({shown_path(path): faults}, "Use the metadata file of the release.")


# --- readers --------------------------------------------------------------------------------------------------------


def _read_esc50(release: Release, folder: Path) -> list[ReleaseClip]:
    """The five folds of the authors; classes are the numbers in `target`, as in X-ARES."""
    path = folder / release.metadata[0]
    clips, faults = [], []
    for line, row in _table(path, ("filename", "fold", "target")):
        faults += [
            Fault(line, key, "is not a number", row[key]) for key in ("fold", "target") if not row[key].isdigit()
        ]
        clips.append(ReleaseClip(f"audio/{row['filename']}", row["target"], row["fold"]))
    _require_no_faults(path, faults)
    return clips


def _read_urbansound(release: Release, folder: Path) -> list[ReleaseClip]:
    """The ten folds of the authors."""
    path = folder / release.metadata[0]
    clips, faults = [], []
    for line, row in _table(path, ("slice_file_name", "fold", "class")):
        fold = row["fold"]
        faults += [] if fold.isdigit() else [Fault(line, "fold", "is not a number", fold)]
        clips.append(ReleaseClip(f"audio/fold{fold}/{row['slice_file_name']}", row["class"], fold))
    _require_no_faults(path, faults)
    return clips


def _read_cremad(release: Release, folder: Path) -> list[ReleaseClip]:
    """Splits by actor: of seven consecutive actors, five train, one validates and one tests (65, 13 and 13 of 91)."""
    audio = _first(folder, ("AudioWAV",), _shown(release, folder))
    names = [name for name in _names(folder / audio) if name.lower().endswith(".wav")]
    if unknown := [name for name in names if not CREMAD_NAME.fullmatch(name)]:
        raise EarmarkError(f"{_shown(release, folder)}: {len(unknown):,} unknown file names: {_listed(unknown)}.")
    parts = ("train",) * 5 + ("valid", "test")
    clips = []
    for name in names:
        actor, _, emotion, _ = name.split("_")
        clips.append(ReleaseClip(f"{audio}/{name}", emotion[0], parts[(int(actor) - 1001) % 7]))
    return _require_most(clips, release, _shown(release, folder))


def _read_ravdess(release: Release, folder: Path) -> list[ReleaseClip]:
    """Four folds of six actors, three women and three men each; speech only, without songs and videos."""
    inner = next((name for name in _names(folder) if name.casefold().startswith("audio_speech_actors")), None)
    prefix = f"{inner}/" if inner and (folder / inner).is_dir() else ""
    clips = []
    for actor in range(1, 25):
        for number, emotion in enumerate(EMOTIONS, 1):
            levels = (1,) if emotion == "neutral" else (1, 2)
            takes = [(level, text, take) for level in levels for text in (1, 2) for take in (1, 2)]
            for level, text, take in takes:
                name = f"03-01-{number:02d}-{level:02d}-{text:02d}-{take:02d}-{actor:02d}.wav"
                fold = (actor - 1) // 2 % 4
                clips.append(ReleaseClip(f"{prefix}Actor_{actor:02d}/{name}", emotion, str(fold)))
    return clips


def _read_gtzan(release: Release, folder: Path) -> list[ReleaseClip]:
    """Ten folds of ten consecutive tracks of each genre: neighbouring numbers often share the artist."""
    base = _first(folder, ("genres_original", "genres", "Data/genres_original"), _shown(release, folder))
    present = {name for genre in GENRES for name in _names(folder / base / genre)}
    suffix = "au" if "blues.00000.au" in present else "wav"
    clips = []
    for genre in GENRES:
        for number in range(100):
            stem = f"{genre}.{number:05d}"
            if stem != DAMAGED_TRACK:
                clips.append(ReleaseClip(f"{base}/{genre}/{stem}.{suffix}", genre, str(number // 10)))
    return clips


def _read_speech_commands(release: Release, folder: Path) -> list[ReleaseClip]:
    """The authors' lists for validation and test, which keep each speaker in one split; without background noise."""
    shown = _shown(release, folder)
    second = release.task == "speechcommandsv2"
    words = sorted(f"{WORDS} {NEW_WORDS}".split() if second else WORDS.split())
    extra = [word for word in NEW_WORDS.split() if (folder / word).is_dir()]
    if bool(extra) != second:
        found, other = ("0.02", "speechcommandsv2") if extra else ("0.01", "speechcommandsv1")
        count = "35" if extra else "30"
        raise EarmarkError(f"{shown}: version {found} with {count} words is another task. Use the task {other}.")
    if absent := [word for word in words if not (folder / word).is_dir()]:
        raise MissingError(f"{shown}: folders not found: {_listed(absent)}. Unpack the archive completely.")
    split: dict[str, str] = {}
    for part, name in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        split |= dict.fromkeys((folder / name).read_text(encoding="utf-8").split(), part)
    on_disk = [f"{word}/{name}" for word in words for name in _names(folder / word) if name.lower().endswith(".wav")]
    paths = list(dict.fromkeys([*on_disk, *split]))
    if unknown := [path for path in split if path.partition("/")[0] not in words]:
        raise EarmarkError(f"{shown}: unknown words in the lists: {_listed(unknown)}.")
    clips = [ReleaseClip(path, path.partition("/")[0], split.get(path, "train")) for path in paths]
    return _require_most(clips, release, shown)


def _read_vocalsound(release: Release, folder: Path) -> list[ReleaseClip]:
    """The authors' splits, which are lists of speakers; the class is in the file name."""
    shown = _shown(release, folder)
    split = _vocalsound_speakers(folder, shown)
    audio = _first(folder, ("audio_16k", "audio_44k"), shown)
    clips, unknown = [], []
    for name in (name for name in _names(folder / audio) if name.lower().endswith(".wav")):
        match = VOCAL_NAME.fullmatch(name)
        if match is None or match[1] not in split:
            unknown.append(name)
        else:
            clips.append(ReleaseClip(f"{audio}/{name}", match[2], split[match[1]]))
    if unknown:
        raise EarmarkError(f"{shown}: {len(unknown):,} files with no speaker in the metadata: {_listed(unknown)}.")
    return _require_most(clips, release, shown)


def _vocalsound_speakers(folder: Path, shown: str) -> dict[str, str]:
    """{speaker: split} from the lists of speakers, or from those of clips where these are missing."""
    parts = {"train": "tr", "valid": "val", "test": "te"}
    lists = {part: folder / "meta" / f"{short}_meta.csv" for part, short in parts.items()}
    if all(path.is_file() for path in lists.values()):
        lines = {part: path.read_text(encoding="utf-8-sig").splitlines() for part, path in lists.items()}
        return {line.partition(",")[0].strip(): part for part in parts for line in lines[part]}
    datafiles = {part: folder / "datafiles" / f"{short}.json" for part, short in parts.items()}
    if absent := [path.name for path in datafiles.values() if not path.is_file()]:
        names = ", ".join(f"meta/{short}_meta.csv" for short in parts.values())
        raise MissingError(f"{shown}: {names} or {', '.join(f'datafiles/{name}' for name in absent)} not found.")
    names_of = {part: _json(path, shown)["data"] for part, path in datafiles.items()}
    return {PurePosixPath(row["wav"]).name.partition("_")[0]: part for part in parts for row in names_of[part]}


def _json(path: Path, shown: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise EarmarkError(f"{shown}: {path.name}: invalid JSON: {error}") from None


def _read_fsd50k(release: Release, folder: Path) -> list[ReleaseClip]:
    """The authors' split of the development set into training and validation; the evaluation set tests."""
    clips = []
    for name, in_eval in (("dev", False), ("eval", True)):
        path = folder / "FSD50K.ground_truth" / f"{name}.csv"
        uploaders = _uploaders(folder / "FSD50K.metadata" / f"{name}_clips_info_FSD50K.json", _shown(release, folder))
        faults = []
        for line, row in _table(path, ("fname", "labels", *(() if in_eval else ("split",)))):
            part = "test" if in_eval else {"train": "train", "val": "valid"}.get(row["split"], "")
            faults += [] if part else [Fault(line, "split", "is not train or val", row["split"])]
            labels = sorted(split_text(row["labels"], ","))
            file = f"FSD50K.{name}_audio/{row['fname']}.wav"
            clips.append(ReleaseClip(file, labels, part, uploaders.get(row["fname"], "")))
        _require_no_faults(path, faults)
    return clips


def _uploaders(path: Path, shown: str) -> dict[str, str]:
    """{clip: who uploaded it}; empty without the optional metadata."""
    info: Mapping[str, Mapping[str, str]] = _json(path, shown) if path.is_file() else {}
    return {name: f"uploader {row['uploader']}" for name, row in info.items() if row.get("uploader")}


# --- table ----------------------------------------------------------------------------------------------------------

SPEECH_COMMANDS = ("validation_list.txt", "testing_list.txt")
TAR_FILES_ONLY = "the {} of X-ARES are only in its tar files"

RELEASES = (
    Release(
        "ESC-50", "esc50", ("ESC-50-master", "ESC-50"), ("meta/esc50.csv", "audio"), ("meta/esc50.csv",), 2000,
        _read_esc50, "`meta/esc50.csv`, `audio/`", "the authors' 5 folds",
    ),
    Release(
        "UrbanSound8K", "urbansound8k", ("UrbanSound8K",), ("metadata/UrbanSound8K.csv", "audio/fold1"),
        ("metadata/UrbanSound8K.csv",), 8732, _read_urbansound, "`metadata/UrbanSound8K.csv`, `audio/fold1/` …",
        "the authors' 10 folds",
    ),
    Release(
        "CREMA-D", "cremad", ("CREMA-D", "CREMA-D-master"), ("AudioWAV", "finishedResponses.csv"), (), 7442,
        _read_cremad, "`AudioWAV/1001_DFA_ANG_XX.wav` …", "own split by actor",
        f"own split by actor ({TAR_FILES_ONLY.format('random splits')})",
    ),
    Release(
        "RAVDESS", "ravdess", ("RAVDESS", "Audio_Speech_Actors_01-24"),
        ("Actor_01", "Audio_Speech_Actors_01-24", "audio_speech_actors_01-24"), (), 1440,
        _read_ravdess, "`Actor_01/03-01-….wav` …", "own 4 folds by actor",
        f"own folds by actor ({TAR_FILES_ONLY.format('folds')})",
    ),
    Release(
        "Speech Commands 0.01", "speechcommandsv1",
        ("speech_commands_v0.01", "speech_commands"), SPEECH_COMMANDS, SPEECH_COMMANDS, 64721,
        _read_speech_commands, "`testing_list.txt`, `validation_list.txt`, one folder per word", "the authors' lists",
        other_versions=("speech_commands_v0.02",),
    ),
    Release(
        "Speech Commands 0.02", "speechcommandsv2", ("speech_commands_v0.02", "speech_commands"), SPEECH_COMMANDS,
        SPEECH_COMMANDS, 105829, _read_speech_commands,
        "`testing_list.txt`, `validation_list.txt`, one folder per word", "the authors' lists",
    ),
    Release(
        "GTZAN", "gtzan_genre", ("GTZAN", "Data", "."), ("genres_original", "genres", "Data/genres_original"), (), 999,
        _read_gtzan, "`genres/` or `genres_original/`, without the damaged jazz.00054", "own 10 folds by number",
        f"own folds by track number ({TAR_FILES_ONLY.format('folds')})",
    ),
    Release(
        "VocalSound", "vocalsound", ("vs_release_16k", "vs_release_44k", "VocalSound"),
        ("audio_16k", "audio_44k", "meta/te_meta.csv"), (), 21024, _read_vocalsound,
        "`audio_16k/` or `audio_44k/`, `meta/` or `datafiles/`", "the authors' splits",
    ),
    Release(
        "FSD50K", "fsd50k", ("FSD50K", "."), ("FSD50K.ground_truth", "FSD50K.dev_audio", "FSD50K.eval_audio"),
        ("FSD50K.ground_truth/dev.csv", "FSD50K.ground_truth/eval.csv"), 51197, _read_fsd50k,
        "`FSD50K.dev_audio/`, `FSD50K.eval_audio/`, `FSD50K.ground_truth/`, optionally `FSD50K.metadata/`",
        "the authors' splits",
    ),
)  # fmt: skip
