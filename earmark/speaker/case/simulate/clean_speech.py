"""Clean speech to make a benchmark of: whose it is, where it is, and which pairs of files become trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import SUFFIXES
from earmark.errors import DataError, EarmarkError, Fault, shown_path
from earmark.files.csv_table import read_csv_table

TRIALS = (5000, 5000)  # target and non-target, as CASE has them
REASONS, EXAMPLES = 15, 5  # shown in a warning
GENDERS = {"": "", "f": "f", "female": "f", "m": "m", "male": "m"}

Pairs = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A clean file: where it is, what it is called below audio/<protocol>/, who speaks; line: in the CSV, or 0."""

    path: Path
    given: str
    name: str
    speaker: str
    gender: str
    line: int

    @property
    def recorded(self) -> str:
        """How the manifest names it: as given, but never by an absolute path."""
        return Path(self.given).name if Path(self.given).is_absolute() else self.given


@dataclass(frozen=True)
class LeftOut:
    """A file that no benchmark is made of. given: its path, never absolute. speaker: empty where there is none."""

    given: str
    speaker: str
    reason: str


def clean_speech(clean: Path) -> list[Source]:
    """The files of a folder `spk/…/file`, or of a CSV with columns path (relative to the CSV), speaker[, gender].

    Gender is f, m, female, male or empty. White space in names becomes "_", for trial lists are split at it.
    Raises DataError or EarmarkError with everything wrong with the list; the audio itself is not opened.
    """
    if not clean.exists():
        raise EarmarkError(f"{shown_path(clean)}: is not there. Give a folder spk/…/file, or a CSV of path, speaker.")
    rows = _listed(clean) if clean.is_file() else _found(clean)
    seen: dict[str, str] = {}
    faults: list[tuple[Source, str]] = []
    genders: dict[str, str] = {}
    for source in rows:
        if not source.path.is_file():
            faults.append((source, f"{source.given}: {'is a folder' if source.path.is_dir() else 'is not there'}"))
        elif source.name in seen:
            faults.append((source, f"{source.given}: would be written to the same file as {seen[source.name]}"))
        seen[source.name] = source.given
        if genders.setdefault(source.speaker, source.gender) != source.gender:
            faults.append((source, f"{source.given}: another row of {source.speaker} gives another gender"))
    if faults:
        raise faulty(clean, faults, "Nothing was made.")
    if not rows:
        raise EarmarkError(f"{shown_path(clean)}: holds no audio ({', '.join(SUFFIXES)}) in folders of speakers.")
    return sorted(rows, key=lambda source: source.name)


def not_by_suffix(folder: Path | None, *, owned: bool = True) -> list[LeftOut]:
    """The files of a folder that are no audio by their suffix. Hidden files are nobody's speech.

    A CSV names its files itself, whatever they are called. owned: whether the folder has a folder for each speaker;
    files of another, such as that of noises, are named with it.
    """
    if folder is None or not folder.is_dir():
        return []
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in SUFFIXES)
    left_out = []
    for path in (path.relative_to(folder) for path in paths if not path.name.startswith(".")):
        suffix = f"{path.suffix} is no suffix of audio" if path.suffix else "has no suffix"
        speaker = _name(path).split("/")[0] if owned and len(path.parts) > 1 else ""
        left_out.append(LeftOut(path.as_posix() if owned else f"{folder.name}/{path.as_posix()}", speaker, suffix))
    return left_out


def speakers_left_out(left_out: Sequence[LeftOut], used: Sequence[Source]) -> list[str]:
    """The speakers of whom no file is used."""
    return sorted({one.speaker for one in left_out if one.speaker} - {source.speaker for source in used})


def told_of_left_out(left_out: Sequence[LeftOut], used: Sequence[Source]) -> str:
    """How many files and speakers are left out, and which: by reason, with examples."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.given)
    lines = [f"{len(left_out):,} file{'s are' if len(left_out) > 1 else ' is'} left out:"]
    shown = list(by_reason.items())[:REASONS]
    lines += [f"  {len(names):,} {reason}: {_some(names)}" for reason, names in shown]
    if rest := sum(len(names) for names in by_reason.values()) - sum(len(names) for _, names in shown):
        lines.append(f"  {rest:,} for other reasons")
    if speakers := speakers_left_out(left_out, used):
        lines.append(f"No file of {len(speakers):,} speaker{'s' if len(speakers) > 1 else ''}: {_some(speakers)}")
    return "\n".join(lines)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")


def _found(folder: Path) -> list[Source]:
    audio = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = sorted(path for path in audio if not path.name.startswith("."))
    given = [path.relative_to(folder) for path in paths]
    if outside := [path.as_posix() for path in given if len(path.parts) == 1]:
        raise EarmarkError(f"{shown_path(folder)}: {', '.join(outside)} not in any speaker's folder (spk/…/file).")
    return [Source(folder / path, path.as_posix(), _name(path), _name(path).split("/")[0], "", 0) for path in given]


def _listed(path: Path) -> list[Source]:
    table = read_csv_table(path)
    table.require_columns(("path", "speaker"), "Nothing was made. Give a CSV of path, speaker.")
    sources, faults = [], []
    for line, row in table.records():
        given, speaker, gender = row["path"], row["speaker"], row.get("gender", "").lower()
        if Path(given).name in ("", ".."):
            faults.append(Fault(line, "path", f"{given!r} is not the path of a file"))
        if not speaker or "/" in speaker or speaker.startswith("."):
            faults.append(Fault(line, "speaker", f"{speaker!r} cannot be the name of a folder"))
        if gender not in GENDERS:
            faults.append(Fault(line, "gender", f"{gender!r} is not one of f, m, female, male"))
        if not faults:
            name = _name(_below(speaker, Path(given)))
            sources.append(Source(path.parent / given, given, name, name.split("/")[0], GENDERS[gender], line))
    if faults:
        raise DataError({shown_path(path): faults}, "Nothing was made.")
    return sources


def _below(speaker: str, given: Path) -> Path:
    """Where a listed file goes: as it is below its speaker's folder, or else put there; no outer folder shows."""
    parts = [part for part in given.parts if part not in ("..", given.anchor)]
    if speaker in parts[:-1]:
        return Path(*parts[parts.index(speaker) :])
    return Path(speaker, *(parts[-1:] if given.is_absolute() else parts))


def _name(path: Path) -> str:
    return "_".join(path.with_suffix(".wav").as_posix().split())


def faulty(clean: Path, faults: Sequence[tuple[Source, str]], remedy: str) -> EarmarkError:
    """One error for all of them: by line where there are lines."""
    if clean.is_file():
        return DataError({shown_path(clean): [Fault(source.line, "path", text) for source, text in faults]}, remedy)
    return EarmarkError(
        "\n".join([f"{shown_path(clean)}: {len(faults)} unusable", *(f"  {t}" for _, t in faults), remedy])
    )


# --- trials ---------------------------------------------------------------------------------------------------------


def trial_pairs(
    sources: Sequence[Source], rng: np.random.Generator, wanted: tuple[int, int] = TRIALS
) -> tuple[Pairs, Pairs]:
    """Target and non-target pairs of positions in `sources`, each (k, 2): enrolment, test.

    No file is paired with itself and no two files are paired twice, not even the other way round. Non-targets whose
    genders are both known have the same. As many as wanted, or all there are. EarmarkError where there is no pair.
    """
    key = [(source.gender, source.speaker) for source in sources]
    order = np.array(sorted(range(len(key)), key=key.__getitem__))  # unknown gender first, so that it precedes all
    speakers = [key[place] for place in order]
    first: dict[tuple[str, str], int] = {}
    after: dict[tuple[str, str] | str, int] = {}
    for place, speaker in enumerate(speakers):
        first.setdefault(speaker, place)
        after[speaker] = after[speaker[0]] = place + 1
    own_end = np.array([after[speaker] for speaker in speakers])
    last = np.array([after[speaker[0]] if speaker[0] else len(speakers) for speaker in speakers])
    targets = _drawn(np.arange(1, len(speakers) + 1), own_end, wanted[0], rng)
    others = _drawn(own_end, last, wanted[1], rng)
    if wanted[0] and not len(targets):
        raise EarmarkError("Trials need a speaker with two files. Give more speech of each speaker.")
    if wanted[1] and not len(others):
        raise EarmarkError("Trials need two speakers (of the same gender, where it is known). Give more speakers.")
    return order[targets], order[others]


def _drawn(start: Pairs, end: Pairs, wanted: int, rng: np.random.Generator) -> Pairs:
    """Pairs (i, j) with start[i] ≤ j < end[i], drawn without replacement, each turned round by a coin."""
    partners = end - start
    total = int(partners.sum())
    flat = np.sort(rng.choice(total, min(wanted, total), replace=False)) if total else np.zeros(0, dtype=np.int64)
    ends = np.cumsum(partners)
    one = np.searchsorted(ends, flat, side="right")
    pairs = np.stack([one, start[one] + flat - (ends - partners)[one]], axis=1)
    turned = rng.random(len(pairs)) < 0.5
    pairs[turned] = pairs[turned][:, ::-1]
    return pairs
