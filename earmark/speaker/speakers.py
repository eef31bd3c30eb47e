"""Find the speaker of each utterance of a trial list.

The speakers come from a --speakers map if there is one, else from the paths `spk/…`. An utterance that the map does not
contain gets a speaker from the first of these sources that applies:

  path     the speaker that the map gives to other utterances in the same folder, or the name of the folder, unless
           the labels of the trials contradict that
  linked   the speaker of an utterance that target trials link to this one, directly or through others
  itself   the utterance counts as a speaker; intervals are too narrow if its speaker has other utterances
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from earmark.audio.decode import SUFFIXES
from earmark.errors import shown_path
from earmark.speaker.trial_files import read_pairs, speakers_from_pairs
from earmark.speaker.trials import Trials, contradicting_trials, linked_components, speaker_from_path

EXAMPLES = 3  # names in a message


class SpeakerOrigin(StrEnum):
    """Source of an utterance's speaker, as named in summaries."""

    MAP = "map"
    PATH = "path"
    LINKED = "linked"
    ITSELF = "itself"


@dataclass(frozen=True)
class Speakers:
    """Speakers of the utterances of a list.

    Attributes
    ----------
    names : list of str or None
        The speaker of each of `trials.names`; None if the speakers are unknown.
    origins : dict
        {source: number of utterances}; empty if the speakers are unknown.
    notes : list of str
        Warnings for the user.
    """

    names: list[str] | None
    origins: dict[SpeakerOrigin, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SpeakerMap:
    """The part of a speaker map that concerns a list.

    Attributes
    ----------
    speakers : mapping
        {utterance of the list: its speaker}.
    example : str
        An utterance name of the file, for messages.
    notes : list of str
        Warnings about names that differ between the file and the list.
    """

    speakers: Mapping[str, str]
    example: str = ""
    notes: list[str] = field(default_factory=list)


# --- maps ---------------------------------------------------------------------------------------------------


def read_speaker_map(path: Path, names: Iterable[str], value: str = "speaker") -> SpeakerMap:
    """Read the speakers of some utterances from a map, or another value of each.

    Lines are `utterance speaker`; `speaker utterance` is also accepted if only the second values are utterances of the
    list. An utterance that is not in the map is matched without its suffix, then without outer folders on either side.

    Parameters
    ----------
    path : Path
        The map.
    names : iterable of str
        Utterances of the list.
    value : str
        What the map gives for each utterance, for messages.

    Returns
    -------
    SpeakerMap

    Raises
    ------
    DataError
        With all invalid lines, or all utterances that have two values.
    """
    requested = list(dict.fromkeys(map(str, names)))
    pairs = read_pairs(path, value)
    notes = []
    if _is_reversed(pairs, requested):
        pairs = [(line, second, first) for line, first, second in pairs]
        notes.append(f"{shown_path(path)}: its lines are read as `{value} utterance`.")
    by_name = speakers_from_pairs(pairs, path, value)
    speakers = {name: by_name[name] for name in requested if name in by_name}
    if matches := match_similar([name for name in requested if name not in speakers], by_name):
        speakers |= {name: by_name[key] for name, key in matches.items()}
        notes.append(
            f"{shown_path(path)}: {len(matches):,} {'utterance is' if len(matches) == 1 else 'utterances are'} matched "
            "despite another suffix or folder "
            f"({_some([f'{name} as {key}' for name, key in matches.items()])})."
        )
    return SpeakerMap(speakers, next(iter(by_name), ""), notes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")


def _is_reversed(pairs: Sequence[tuple[int, str, str]], names: Sequence[str]) -> bool:
    """Whether the second values of the lines match utterances of the list, and the first values do not."""
    first, second = {first for _, first, _ in pairs}, {second for _, _, second in pairs}
    known = set(names)
    if first & known:
        return False
    if second & known:
        return True
    return not match_similar(names, first) and bool(match_similar(names, second))


def match_similar(names: Sequence[str], keys: Iterable[str]) -> dict[str, str]:
    """{name: the only key that differs from it by suffix or outer folders alone}.

    A key that matches several names by omitting folders is not used, because it may be the file of another speaker.
    """
    by_stem: dict[str, str | None] = {}
    by_file: dict[str, list[tuple[str, ...]]] = {}
    key_of_parts: dict[tuple[str, ...], str] = {}
    for key in keys:
        stem = _stem(key)
        by_stem[stem] = None if stem in by_stem else key
        parts = PurePosixPath(stem).parts
        key_of_parts[parts] = key
        by_file.setdefault(parts[-1] if parts else "", []).append(parts)
    matches: dict[str, str] = {}
    by_folder: dict[str, list[str]] = {}  # {key: names that match it by omitting folders}
    for name in names:
        stem = _stem(name)
        match = by_stem.get(stem)
        if match is not None:
            matches[name] = match
            continue
        parts = PurePosixPath(stem).parts
        candidates = [other for other in by_file.get(parts[-1] if parts else "", []) if _is_suffix(parts, other)]
        if len(candidates) == 1:
            by_folder.setdefault(key_of_parts[candidates[0]], []).append(name)
    return matches | {matched[0]: key for key, matched in by_folder.items() if len(matched) == 1}


def _stem(name: str) -> str:
    """A name without the suffix of an audio file; other suffixes may be part of the name."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path)


def _is_suffix(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether one path ends with the other."""
    n = min(len(first), len(second))
    return tuple(first[-n:]) == tuple(second[-n:])


# --- speakers of a list -------------------------------------------------------------------------------------


def resolve_speakers_of_other_labels(
    trials: Trials, path: Path | None = None, models: Mapping[str, Sequence[str]] | None = None
) -> Speakers:
    """Find the speakers of a list whose labels do not say which speakers are the same, such as one of languages.

    Parameters
    ----------
    trials, path, models
        As in `resolve_speakers`.

    Returns
    -------
    Speakers
        With names: an utterance whose speaker cannot be found is a speaker of its own.

    Raises
    ------
    DataError
        With all invalid lines of the map.
    """
    none = trials.take(np.zeros(len(trials), dtype=bool))  # no labels that would link utterances or contradict speakers
    found = resolve_speakers(none, path, models)
    if found.names is not None:
        return found
    names = [f"utterance {name}" for name in trials.names]
    note = (
        "The speakers are unknown, so each utterance is counted as a speaker. Intervals are too narrow if a speaker "
        "has several utterances. Use --speakers FILE to map utterances to speakers."
    )
    return Speakers(names, {SpeakerOrigin.ITSELF: len(names)}, [*found.notes, note])


def resolve_speakers(
    trials: Trials, path: Path | None = None, models: Mapping[str, Sequence[str]] | None = None
) -> Speakers:
    """Find the speakers of the utterances of a labelled list.

    Parameters
    ----------
    trials : Trials
        A labelled list.
    path : Path, optional
        A speaker map; without one, the speakers are the first folders of the paths.
    models : mapping, optional
        {enrolment model: its utterances}. A model has the speaker of its utterances, if they all have the same.

    Returns
    -------
    Speakers
        Without names if a speaker cannot be found, or if the labels of the trials contradict the speakers.

    Raises
    ------
    DataError
        With all invalid lines of the map.
    """
    models = models or {}
    names = [str(name) for name in trials.names]
    if path is None:
        return _from_paths(trials, models, [])
    parts = (part for name in names for part in models.get(name, ()))
    speaker_map = read_speaker_map(path, [*names, *parts])
    mapped = [
        speaker_map.speakers.get(name) or _single_speaker(name, models, speaker_map.speakers.get) for name in names
    ]
    missing = [name for name, speaker in zip(names, mapped, strict=True) if speaker is None]
    if not missing:
        return _unless_contradicted(trials, mapped, {SpeakerOrigin.MAP: len(names)}, speaker_map.notes)
    notes = [*speaker_map.notes, f"{shown_path(path)}: no speaker for {len(missing):,} of {len(names):,} utterances"]
    if len(missing) == len(names):
        example = f"the list has {names[0]}, the map has {speaker_map.example or 'no lines'}"
        notes[-1] += f" ({example}). The map is not used."
        return _from_paths(trials, models, notes)
    notes[-1] += f" ({_some(missing)})"
    return _fill_gaps(trials, mapped, models, notes)


def _from_paths(trials: Trials, models: Mapping[str, Sequence[str]], notes: Sequence[str]) -> Speakers:
    speakers = [_single_speaker(str(name), models, speaker_from_path) for name in trials.names]
    return _unless_contradicted(trials, speakers, {SpeakerOrigin.PATH: len(speakers)}, notes)


def _single_speaker(
    name: str, models: Mapping[str, Sequence[str]], speaker_of: Callable[[str], str | None]
) -> str | None:
    """The speaker of an utterance, or of all utterances of a model; None if unknown or not the same."""
    speakers = {speaker_of(part) for part in models.get(name, (name,))}
    return speakers.pop() if len(speakers) == 1 else None


def _unless_contradicted(
    trials: Trials, speakers: Sequence[str | None], origins: dict[SpeakerOrigin, int], notes: Sequence[str]
) -> Speakers:
    """These speakers; unknown if one is missing or the labels contradict them."""
    complete = [speaker for speaker in speakers if speaker is not None]
    if len(complete) < len(speakers):
        return Speakers(None, notes=[*notes])
    conflicts = contradicting_trials(trials, complete)
    if not len(conflicts):
        return Speakers(complete, origins, [*notes])
    return Speakers(None, notes=[*notes, _contradiction_note(trials, complete, conflicts)])


def _contradiction_note(trials: Trials, speakers: Sequence[str], conflicts: NDArray[np.int64]) -> str:
    """Warning that labels contradict speakers, with the number of trials and an example."""
    first = int(conflicts[0])
    sides = trials.enrolment[first], trials.test[first]
    kind = "target" if np.asarray(trials.labels)[first] else "non-target"
    utterances = " and ".join(f"{trials.names[side]} (speaker {speakers[side]})" for side in sides)
    return (
        f"The labels contradict the speakers in {len(conflicts):,} of {len(trials):,} trials (target trials of two "
        f"speakers or non-target trials of one), for example the {kind} trial of {utterances}. Speakers are treated as "
        "unknown. Use --speakers FILE to map utterances to speakers."
    )


def _fill_gaps(
    trials: Trials, mapped: Sequence[str | None], models: Mapping[str, Sequence[str]], notes: Sequence[str]
) -> Speakers:
    """Speakers of a map, completed for the utterances that it does not contain."""
    missing = np.array([speaker is None for speaker in mapped])
    placeholders = [f"\0{number}" if speaker is None else speaker for number, speaker in enumerate(mapped)]
    between = trials.take(~missing[trials.enrolment] & ~missing[trials.test])
    if len(conflicts := contradicting_trials(between, placeholders)):
        return Speakers(None, notes=[*notes, _contradiction_note(between, placeholders, conflicts)])
    speakers = _fill_by_folder(trials, mapped, models)
    filled = [placeholders[number] if speaker is None else speaker for number, speaker in enumerate(speakers)]
    known = np.array([speaker is not None for speaker in speakers])
    if len(contradicting_trials(trials.take(known[trials.enrolment] & known[trials.test]), filled)):
        speakers = list(mapped)
    n_path = sum(speaker is not None for speaker in speakers) - int((~missing).sum())
    names, n_linked = _fill_by_links(trials, speakers)
    origins = {SpeakerOrigin.MAP: int((~missing).sum()), SpeakerOrigin.PATH: n_path, SpeakerOrigin.LINKED: n_linked}
    origins[SpeakerOrigin.ITSELF] = len(names) - sum(origins.values())
    origins = {origin: n for origin, n in origins.items() if n}
    sources = ", ".join(f"{n:,} {FILLED[origin]}" for origin, n in origins.items() if origin != SpeakerOrigin.MAP)
    return _unless_contradicted(trials, names, origins, [*notes[:-1], f"{notes[-1]}: {sources}."])


FILLED = {
    SpeakerOrigin.PATH: "assigned by folder",
    SpeakerOrigin.LINKED: "assigned by target trials",
    SpeakerOrigin.ITSELF: "each counted as its own speaker, so intervals are too narrow if it has other utterances",
}


def _fill_by_folder(
    trials: Trials, mapped: Sequence[str | None], models: Mapping[str, Sequence[str]]
) -> list[str | None]:
    """Speakers of a map, and of folders in which the map has at most one speaker."""
    folders = [_single_speaker(str(name), models, speaker_from_path) for name in trials.names]
    by_folder: dict[str, set[str]] = {}
    for folder, speaker in zip(folders, mapped, strict=True):
        if folder is not None and speaker is not None:
            by_folder.setdefault(folder, set()).add(speaker)

    def speaker_of(folder: str | None) -> str | None:
        if folder is None:
            return None
        others = by_folder.get(folder, {folder})
        return next(iter(others)) if len(others) == 1 else None

    return [
        speaker if speaker is not None else speaker_of(folder) for speaker, folder in zip(mapped, folders, strict=True)
    ]


def _fill_by_links(trials: Trials, speakers: Sequence[str | None]) -> tuple[list[str], int]:
    """Speakers completed by target trials, and the number of utterances that have their speaker from a link."""
    code = linked_components(trials)
    size = np.bincount(code)
    known: dict[int, set[str]] = {}
    for component, speaker in zip(code.tolist(), speakers, strict=True):
        if speaker is not None:
            known.setdefault(component, set()).add(speaker)
    names, linked = [], 0
    for number, (component, speaker) in enumerate(zip(code.tolist(), speakers, strict=True)):
        others = known.get(component, set())
        if speaker is not None:
            names.append(speaker)
        elif len(others) <= 1 and size[component] > 1:
            names.append(next(iter(others), f"linked {component}"))
            linked += 1
        else:
            names.append(f"utterance {trials.names[number]}")
    return names, linked
