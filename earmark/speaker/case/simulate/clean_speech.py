"""Clean speech for the simulation: finding the files, excluding unusable ones, and sampling trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import SUFFIXES
from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.files.csv_table import read_csv_table

TRIALS = (5000, 5000)  # target and non-target trials per condition, as in CASE
MAX_REASONS, MAX_EXAMPLES = 15, 5  # in a warning
GENDERS = {"": "", "f": "f", "female": "f", "m": "m", "male": "m"}

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A file of clean speech.

    Attributes
    ----------
    path : Path
    listed_path : str
        Path as given in the CSV, or relative to the folder of clean speech.
    name : str
        Path of the simulated files below audio/<condition>/.
    speaker : str
    gender : str
        "f", "m", or empty if unknown.
    line : int
        Line in the CSV; 0 for a file found in a folder.
    """

    path: Path
    listed_path: str
    name: str
    speaker: str
    gender: str
    line: int

    @property
    def manifest_path(self) -> str:
        """Path for the manifest: `listed_path`, or only the file name if that is absolute."""
        return Path(self.listed_path).name if Path(self.listed_path).is_absolute() else self.listed_path


@dataclass(frozen=True)
class ExcludedFile:
    """A file that is not simulated.

    Attributes
    ----------
    path : str
        Never absolute.
    speaker : str
        Empty if the file has no speaker.
    reason : str
    """

    path: str
    speaker: str
    reason: str


def clean_speech(clean: Path) -> list[Source]:
    """List the files of clean speech. The audio is not opened.

    Parameters
    ----------
    clean : Path
        A folder with files spk/…/file, or a CSV with the columns path (relative to the CSV), speaker and, optionally,
        gender (f, m, female, male or empty).

    Returns
    -------
    list of Source
        Sorted by name. Whitespace in names is replaced by "_", because it separates the columns of trial lists.

    Raises
    ------
    DataError, EarmarkError
        With all faults: missing files, two files with the same name, two genders of one speaker, invalid cells.
    """
    if not clean.exists():
        raise EarmarkError(
            f"{shown_path(clean)} does not exist. Give a folder spk/…/file, or a CSV with columns path, speaker."
        )
    sources = _listed_in_csv(clean) if clean.is_file() else _found_in_folder(clean)
    listed: dict[str, str] = {}
    faults: list[tuple[Source, str]] = []
    genders: dict[str, str] = {}
    for source in sources:
        if not source.path.is_file():
            problem = "is a folder" if source.path.is_dir() else "does not exist"
            faults.append((source, f"{source.listed_path}: {problem}"))
        elif source.name in listed:
            faults.append((source, f"{source.listed_path}: same output file as {listed[source.name]}"))
        listed[source.name] = source.listed_path
        if genders.setdefault(source.speaker, source.gender) != source.gender:
            faults.append((source, f"{source.listed_path}: another row of {source.speaker} has a different gender"))
    if faults:
        raise source_error(clean, faults, "No files were written.")
    if not sources:
        raise EarmarkError(f"{shown_path(clean)}: no audio ({', '.join(SUFFIXES)}) in folders of speakers.")
    return sorted(sources, key=lambda source: source.name)


def find_non_audio(folder: Path | None, *, by_speaker: bool = True) -> list[ExcludedFile]:
    """List the files of a folder that do not have an audio suffix, except hidden files.

    Parameters
    ----------
    folder : Path or None
        Not a folder (a CSV, or None): the result is empty.
    by_speaker : bool
        Whether the first level of folders are speakers. If False (recordings of noise or rooms), paths start with
        the name of the folder and speakers are empty.
    """
    if folder is None or not folder.is_dir():
        return []
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in SUFFIXES)
    excluded = []
    for path in (path.relative_to(folder) for path in paths if not path.name.startswith(".")):
        reason = f"suffix {path.suffix} is not supported" if path.suffix else "has no suffix"
        speaker = _output_name(path).split("/")[0] if by_speaker and len(path.parts) > 1 else ""
        shown = path.as_posix() if by_speaker else f"{folder.name}/{path.as_posix()}"
        excluded.append(ExcludedFile(shown, speaker, reason))
    return excluded


def excluded_speakers(excluded: Sequence[ExcludedFile], used: Sequence[Source]) -> list[str]:
    """The speakers that have excluded files and no used file."""
    return sorted({file.speaker for file in excluded if file.speaker} - {source.speaker for source in used})


def describe_excluded(excluded: Sequence[ExcludedFile], used: Sequence[Source]) -> str:
    """Describe the excluded files by reason, with examples, and the excluded speakers."""
    by_reason: dict[str, list[str]] = {}
    for file in excluded:
        by_reason.setdefault(file.reason, []).append(file.path)
    lines = [f"{_count(len(excluded), 'file')} excluded:"]
    shown = list(by_reason.items())[:MAX_REASONS]
    lines += [f"  {len(paths):,} × {reason}: {_examples(paths)}" for reason, paths in shown]
    if rest := len(excluded) - sum(len(paths) for _, paths in shown):
        lines.append(f"  {rest:,} × other reasons")
    if speakers := excluded_speakers(excluded, used):
        lines.append(f"{_count(len(speakers), 'speaker')} excluded: {_examples(speakers)}")
    return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_EXAMPLES]) + (", …" if len(names) > MAX_EXAMPLES else "")


def _found_in_folder(folder: Path) -> list[Source]:
    audio = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = sorted(path for path in audio if not path.name.startswith("."))
    relative = [path.relative_to(folder) for path in paths]
    if no_speaker := [path.as_posix() for path in relative if len(path.parts) == 1]:
        raise EarmarkError(f"{shown_path(folder)}: {', '.join(no_speaker)} not in a speaker's folder (spk/…/file).")
    return [
        Source(folder / path, path.as_posix(), _output_name(path), _output_name(path).split("/")[0], "", 0)
        for path in relative
    ]


def _listed_in_csv(path: Path) -> list[Source]:
    table = read_csv_table(path)
    table.require_columns(("path", "speaker"), "No files were written. Give a CSV with columns path, speaker.")
    sources, faults = [], []
    for line, row in table.records():
        listed_path, speaker, gender = row["path"], row["speaker"], row.get("gender", "").lower()
        if Path(listed_path).name in ("", ".."):
            faults.append(Fault(line, "path", f"{listed_path!r} is not the path of a file"))
        if not speaker or "/" in speaker or speaker.startswith("."):
            faults.append(Fault(line, "speaker", f"{speaker!r} is not a valid folder name"))
        if gender not in GENDERS:
            faults.append(Fault(line, "gender", f"{gender!r} is not one of f, m, female, male"))
        if not faults:
            name = _output_name(_below_speaker(speaker, Path(listed_path)))
            sources.append(
                Source(path.parent / listed_path, listed_path, name, name.split("/")[0], GENDERS[gender], line)
            )
    if faults:
        raise DataError({shown_path(path): faults}, "No files were written.")
    return sources


def _below_speaker(speaker: str, listed_path: Path) -> Path:
    """The part of the path that starts with the speaker's folder, or the path below a folder of that name."""
    parts = [part for part in listed_path.parts if part not in ("..", listed_path.anchor)]
    if speaker in parts[:-1]:
        return Path(*parts[parts.index(speaker) :])
    return Path(speaker, *(parts[-1:] if listed_path.is_absolute() else parts))


def _output_name(path: Path) -> str:
    return "_".join(path.with_suffix(".wav").as_posix().split())


def source_error(clean: Path, faults: Sequence[tuple[Source, str]], remedy: str) -> EarmarkError:
    """One error for all faults; with line numbers if the sources come from a CSV."""
    if clean.is_file():
        return DataError({shown_path(clean): [Fault(source.line, "path", text) for source, text in faults]}, remedy)
    header = f"{shown_path(clean)}: {_count(len(faults), 'unusable file')}"
    return EarmarkError("\n".join([header, *(f"  {text}" for _, text in faults), remedy]))


# --- trials ---------------------------------------------------------------------------------------------------------


def sample_trial_pairs(
    sources: Sequence[Source], rng: np.random.Generator, n_trials: tuple[int, int] = TRIALS
) -> tuple[Pairs, Pairs]:
    """Sample target and non-target pairs without replacement.

    A file is never paired with itself, and two files form at most one pair, in either order. Non-target pairs have
    the same gender if both genders are known.

    Parameters
    ----------
    sources : sequence of Source
    rng : Generator
    n_trials : (int, int)
        Number of target and non-target pairs; all possible pairs if there are fewer.

    Returns
    -------
    targets, non_targets : (k, 2) int
        Positions in `sources` of the enrolment and the test file.

    Raises
    ------
    EarmarkError
        If pairs of a kind are requested and there are none.
    """
    key = [(source.gender, source.speaker) for source in sources]
    order = np.array(sorted(range(len(key)), key=key.__getitem__))  # unknown gender sorts first, before all it may meet
    speakers = [key[position] for position in order]
    end: dict[tuple[str, str] | str, int] = {}  # end of the range of each speaker and of each gender
    for position, speaker in enumerate(speakers):
        end[speaker] = end[speaker[0]] = position + 1
    speaker_end = np.array([end[speaker] for speaker in speakers])
    gender_end = np.array([end[speaker[0]] if speaker[0] else len(speakers) for speaker in speakers])
    targets = _sample_pairs(np.arange(1, len(speakers) + 1), speaker_end, n_trials[0], rng)
    non_targets = _sample_pairs(speaker_end, gender_end, n_trials[1], rng)
    if n_trials[0] and not len(targets):
        raise EarmarkError("No target trials: no speaker has two files. Add files per speaker.")
    if n_trials[1] and not len(non_targets):
        raise EarmarkError(
            "No non-target trials: they need two speakers, of the same gender if it is known. Add speakers."
        )
    return order[targets], order[non_targets]


def _sample_pairs(start: Pairs, end: Pairs, n_pairs: int, rng: np.random.Generator) -> Pairs:
    """Sample pairs (i, j) with start[i] ≤ j < end[i] without replacement, each in random order."""
    partners = end - start
    total = int(partners.sum())
    flat = np.sort(rng.choice(total, min(n_pairs, total), replace=False)) if total else np.zeros(0, dtype=np.int64)
    ends = np.cumsum(partners)
    first = np.searchsorted(ends, flat, side="right")
    pairs = np.stack([first, start[first] + flat - (ends - partners)[first]], axis=1)
    swapped = rng.random(len(pairs)) < 0.5
    pairs[swapped] = pairs[swapped][:, ::-1]
    return pairs
