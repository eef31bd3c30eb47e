"""Training clips: reading lists and folders, checking audio, holding speakers out, batches of an epoch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import SUFFIXES
from earmark.errors import DataError, EarmarkError, MissingError, shown_path
from earmark.files.csv_table import read_csv_table
from earmark.speaker.case.simulate.clean_speech import GENDERS, Source, sample_trial_pairs
from earmark.speaker.finetune.recipe import Recipe
from earmark.speaker.line_faults import LineFaults
from earmark.speaker.speakers import read_speaker_map
from earmark.speaker.trial_files import read_trials
from earmark.speaker.trials import Trials, speaker_from_path
from earmark.speaker.trials import language_from_path as language

VALIDATION_TRIALS = (20_000, 20_000)  # target and non-target trials of held-out speakers
MIN_VALIDATION_SPEAKERS = 2
SHOWN = 5  # names in a message
MAX_REASONS = 15
REMEDY = "Nothing was written. Repair the list or the files, or leave unusable clips out with --allow-missing."
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Utterance:
    """A training clip.

    Attributes
    ----------
    path : Path
    name : str
        As in the list, or relative to the folder.
    speaker : str
    language, gender : str
        Empty if unknown.
    """

    path: Path
    name: str
    speaker: str
    language: str = ""
    gender: str = ""


@dataclass(frozen=True)
class TrainingData:
    """Clips after exclusions.

    Attributes
    ----------
    training, held_out : tuple of Utterance
        Of different speakers; `held_out` is empty without a validation share.
    excluded : dict
        {reason: number of clips}.
    """

    training: tuple[Utterance, ...]
    held_out: tuple[Utterance, ...]
    excluded: dict[str, int]

    @property
    def speakers(self) -> list[str]:
        """Training speakers, sorted; their positions are the classes."""
        return sorted({utterance.speaker for utterance in self.training})

    @property
    def labels(self) -> IntArray:
        """(n,) class of each training clip."""
        classes = {speaker: number for number, speaker in enumerate(self.speakers)}
        return np.array([classes[utterance.speaker] for utterance in self.training], dtype=np.int64)


# --- reading --------------------------------------------------------------------------------------------------


def read_utterances(train: Path, audio_root: Path | None = None, speakers: Path | None = None) -> list[Utterance]:
    """Read the training clips. The audio is not opened.

    Parameters
    ----------
    train : Path
        A folder `spk/…/file`; a CSV with the column path and, optionally, speaker, language and gender; or a text file
        with lines `path` or `path speaker`.
    audio_root : Path, optional
        Folder that paths in a list are relative to; the folder of the list by default.
    speakers : Path, optional
        Map of `utterance speaker` lines, which takes precedence.

    Returns
    -------
    list of Utterance
        Sorted by name. Without a speaker in map and list, the speaker is the first folder of the path; without a
        language in the list, the language is that of a path `spk/lang/file`.

    Raises
    ------
    MissingError
        If `train` does not exist.
    EarmarkError, DataError
        With all faults: invalid lines, missing files, files listed twice, clips without a speaker.
    """
    if not train.exists():
        raise MissingError(
            f"{shown_path(train)} does not exist. Give a folder spk/…/file, a CSV with the column path, or a text file "
            "of `path speaker` lines."
        )
    if train.is_dir():
        found = sorted(path for path in train.rglob("*") if path.suffix.lower() in SUFFIXES)
        names = [path.relative_to(train).as_posix() for path in found if not path.name.startswith(".")]
        listed, root = [Utterance(train / name, name, "") for name in names], train
    else:
        root = audio_root or train.parent
        listed = _from_csv(train, root) if train.suffix.lower() == ".csv" else _from_lines(train, root)
    if not listed:
        raise EarmarkError(f"{shown_path(train)}: contains no clips ({', '.join(SUFFIXES)}).")
    mapped: Mapping[str, str] = {}
    if speakers is not None:
        mapped = read_speaker_map(speakers, [utterance.name for utterance in listed]).speakers
    completed = [
        replace(
            utterance,
            speaker=mapped.get(utterance.name) or utterance.speaker or speaker_from_path(utterance.name) or "",
            language=utterance.language or language(utterance.name) or "",
        )
        for utterance in listed
    ]
    if faults := _list_faults(completed):
        advice = f"Paths are relative to {shown_path(root)}/ (--audio-root DIR); --speakers FILE names speakers."
        raise EarmarkError(f"{grouped_faults(shown_path(train), faults)}\nNothing was written. {advice}")
    return sorted(completed, key=lambda utterance: utterance.name)


def _list_faults(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    """(name, problem) of each clip without a speaker, listed twice, or without a file."""
    counts = Counter(utterance.name for utterance in utterances)
    faults = [(name, "is listed more than once") for name, n in counts.items() if n > 1]
    faults += [(each.name, "has no speaker") for each in utterances if not each.speaker]
    return faults + [(each.name, "does not exist") for each in utterances if not each.path.is_file()]


def _from_csv(path: Path, root: Path) -> list[Utterance]:
    table = read_csv_table(path)
    table.require_columns(("path",), "Nothing was written. Give a CSV with the columns path and speaker.")
    utterances, faults = [], LineFaults()
    for line, row in table.records():
        gender = row.get("gender", "").lower()
        if not row["path"]:
            faults.add(line, "path", "is empty")
        if gender not in GENDERS:
            faults.add(line, "gender", f"{gender!r} is not one of f, m, female, male")
            continue
        utterances.append(
            Utterance(root / row["path"], row["path"], row.get("speaker", ""), row.get("language", ""), GENDERS[gender])
        )
    if faults:
        raise DataError({shown_path(path): faults.grouped()}, "Nothing was written.")
    return utterances


def _from_lines(path: Path, root: Path) -> list[Utterance]:
    utterances, faults = [], LineFaults()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            cells = line.decode("utf-8-sig").split()
        except UnicodeDecodeError:
            faults.add(number, "", "is not UTF-8; save the file as UTF-8")
            continue
        if len(cells) not in (1, 2):
            faults.add(number, "", f"has {len(cells)} values, expected `path` or `path speaker`")
            continue
        utterances.append(Utterance(root / cells[0], cells[0], cells[1] if len(cells) == 2 else ""))
    if faults:
        raise DataError(
            {shown_path(path): faults.grouped()},
            "Nothing was written. Valid lines are `path speaker`; for names with spaces, give a CSV with the columns "
            "path and speaker.",
        )
    return utterances


def grouped_faults(where: str, faults: Sequence[tuple[str, str]]) -> str:
    """List faults of clips by problem, with the first names.

    Examples
    --------
    >>> print(grouped_faults("train", [("a.wav", "is silent"), ("b.wav", "is silent")]))
    train: 2 faults
      2 × is silent: a.wav, b.wav
    """
    by_problem: dict[str, list[str]] = {}
    for name, problem in faults:
        by_problem.setdefault(problem, []).append(name)
    kinds = sorted(by_problem.items(), key=lambda kind: -len(kind[1]))
    lines = [f"{where}: {len(faults):,} fault{'s' if len(faults) > 1 else ''}"]
    lines += [f"  {len(names):,} × {problem}: {some(names)}" for problem, names in kinds[:MAX_REASONS]]
    if rest := sum(len(names) for _, names in kinds[MAX_REASONS:]):
        lines.append(f"  {rest:,} × other problems")
    return "\n".join(lines)


def some(names: Sequence[str]) -> str:
    """The first names of a list."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


# --- selection ------------------------------------------------------------------------------------------------


def prepare_data(
    utterances: Sequence[Utterance], lengths: Mapping[str, int], min_samples: int, recipe: Recipe, seed: int
) -> TrainingData:
    """Leave unusable clips out and hold speakers out for validation.

    Parameters
    ----------
    utterances : sequence of Utterance
    lengths : mapping
        {name: number of samples at 16 kHz}; clips that are not in it are unusable.
    min_samples : int
        Shorter clips are left out of training and validation.
    recipe : Recipe
    seed : int
        Decides the held-out speakers.

    Returns
    -------
    TrainingData

    Raises
    ------
    EarmarkError
        If fewer than two training speakers remain, every speaker has one clip, or too few speakers can be held out.
    """
    usable = [each for each in utterances if each.name in lengths]
    long = [each for each in usable if lengths[each.name] >= min_samples]
    n_clips = Counter(each.speaker for each in long)
    kept = [each for each in long if n_clips[each.speaker] >= recipe.min_utterances]
    excluded = {
        "unusable clips": len(utterances) - len(usable),
        f"clips shorter than {recipe.min_frames} frames": len(usable) - len(long),
        f"clips of speakers with fewer than {recipe.min_utterances} clips": len(long) - len(kept),
    }
    left_out = "; ".join(f"{n:,} {reason} were left out" for reason, n in excluded.items() if n)
    if n_clips and max(n_clips.values()) == 1:
        raise EarmarkError(
            f"Each of the {len(n_clips):,} speakers has one clip, so there is nothing to learn about the variation "
            f"of a voice. Give several clips per speaker.{f' ({left_out}.)' if left_out else ''}"
        )
    held_out = _held_out_speakers(kept, recipe, seed)
    data = TrainingData(
        tuple(each for each in kept if each.speaker not in held_out),
        tuple(each for each in kept if each.speaker in held_out),
        excluded,
    )
    if len(data.speakers) < 2:
        raise EarmarkError(
            f"Training needs clips of at least two speakers; {len(data.speakers)} remain"
            f"{f' ({left_out})' if left_out else ''}."
        )
    return data


def _held_out_speakers(utterances: Sequence[Utterance], recipe: Recipe, seed: int) -> set[str]:
    """A random share of the speakers with at least two clips; at least two speakers."""
    if not recipe.validation_share:
        return set()
    n_clips = Counter(each.speaker for each in utterances)
    n = max(MIN_VALIDATION_SPEAKERS, round(recipe.validation_share * len(n_clips)))
    candidates = sorted(speaker for speaker, count in n_clips.items() if count > 1)
    if len(candidates) < n:
        raise EarmarkError(
            f"{n} speakers with two clips are needed for validation, and {len(candidates)} have them. Give more "
            "speakers, a list with --validation FILE, or --set validation_share=0 select=last."
        )
    return set(np.random.default_rng([seed, 0]).permutation(candidates)[:n].tolist())


def validation_trials(held_out: Sequence[Utterance], seed: int) -> Trials:
    """Sample trials of the held-out speakers.

    Parameters
    ----------
    held_out : sequence of Utterance
    seed : int

    Returns
    -------
    Trials
        At most `VALIDATION_TRIALS`, with labels; non-targets have the same gender if it is known.

    Raises
    ------
    EarmarkError
        If there are no targets or no non-targets.
    """
    sources = [Source(each.path, each.name, each.name, each.speaker, each.gender, 0) for each in held_out]
    targets, others = sample_trial_pairs(sources, np.random.default_rng([seed, 1]), VALIDATION_TRIALS)
    pairs = np.concatenate([targets, others])
    names = np.array([each.name for each in held_out], dtype=object)
    return Trials(names, pairs[:, 0], pairs[:, 1], np.arange(len(pairs)) < len(targets)).compact()


def crosses_languages(trials: Trials, languages: Mapping[str, str]) -> NDArray[np.bool_] | None:
    """Find the trials whose two utterances differ in language.

    Parameters
    ----------
    trials : Trials
    languages : mapping
        {utterance: language}; empty or missing if unknown.

    Returns
    -------
    (n,) bool or None
        None if a language is unknown, or if there are no such targets or non-targets.
    """
    known = np.array([languages.get(str(name), "") for name in trials.names], dtype=object)
    if not all(known):
        return None
    crossing = known[trials.enrolment] != known[trials.test]
    labels = np.asarray(trials.labels)
    return crossing if (crossing & labels).any() and (crossing & ~labels).any() else None


# --- overlap with lists ---------------------------------------------------------------------------------------


def overlapping_speakers(
    utterances: Iterable[Utterance], lists: Sequence[Path], speakers: Path | None = None
) -> dict[Path, list[str]]:
    """Find training speakers that occur in trial lists.

    Parameters
    ----------
    utterances : iterable of Utterance
        Training clips.
    lists : sequence of Path
        Trial lists.
    speakers : Path, optional
        Map of `utterance speaker` lines for the lists; the first folder of a path otherwise.

    Returns
    -------
    dict
        {list: sorted speakers that also have training clips, or whose utterances are training clips}; only lists with
        such speakers.

    Raises
    ------
    EarmarkError, DataError
        If a list is invalid.
    """
    utterances = list(utterances)
    by_name = {each.name: each.speaker for each in utterances}
    training = {each.speaker for each in utterances}
    found = {}
    for path in lists:
        names = [str(name) for name in read_trials(path).names]
        mapped = read_speaker_map(speakers, names).speakers if speakers is not None else {}
        own = {by_name.get(name) or mapped.get(name) or speaker_from_path(name) for name in names}
        if shared := sorted(speaker for speaker in own if speaker in training):
            found[path] = shared
    return found


def require_no_overlap(found: Mapping[Path, Sequence[str]], *, allowed: bool) -> None:
    """Raise EarmarkError if training speakers occur in a list and that is not allowed."""
    if not found or allowed:
        return
    lines = [
        f"  {shown_path(path)}: {len(names):,} training speaker{'s' if len(names) > 1 else ''} ({some(names)})"
        for path, names in found.items()
    ]
    raise EarmarkError(
        "\n".join(
            [
                "Training speakers occur in lists for validation or test, whose error rates would be too low:",
                *lines,
                "Remove them from the training list, or train on them with --allow-overlap.",
            ]
        )
    )


# --- batches --------------------------------------------------------------------------------------------------


def steps_per_epoch(n_clips: int, batch_size: int, processes: int = 1) -> int:
    """Number of steps of an epoch; the clips that do not fill a batch of every process are left for other epochs.

    >>> steps_per_epoch(100, 24), steps_per_epoch(100, 24, processes=2), steps_per_epoch(10, 24)
    (4, 2, 1)
    """
    return max(1, n_clips // (batch_size * processes))


def epoch_batches(
    n_clips: int, batch_size: int, seed: int, epoch: int, rank: int = 0, processes: int = 1
) -> list[IntArray]:
    """Clips of each batch of a process.

    Parameters
    ----------
    n_clips, batch_size : int
    seed, epoch : int
        Decide the order of the clips.
    rank, processes : int
        Number of this process, and of processes; each gets its own clips.

    Returns
    -------
    list of (b,) int
        Positions of clips; b = batch_size, or fewer if there are not enough clips for one step.
    """
    order = np.random.default_rng([seed, 2, epoch]).permutation(n_clips)
    steps = steps_per_epoch(n_clips, batch_size, processes)
    width = min(batch_size, n_clips // processes)
    return [order[(step * processes + rank) * width :][:width] for step in range(steps)]
