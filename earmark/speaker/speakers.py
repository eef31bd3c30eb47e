"""Whose utterances a list names: by a map, by their paths, by the target trials that link them, or nobody's known.

A map that lacks some of the utterances still counts for the others. Each that it lacks has, in this order,

  path     the speaker of its folder: the one that the map gives to others in that folder, else the folder's name,
           unless the trials' labels contradict that
  linked   the speaker that target trials link it to, directly or through others
  itself   no utterance beside it, so that intervals are too narrow where there is one
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
    """What says whose an utterance is, as summaries name it."""

    MAP = "map"
    PATH = "path"
    LINKED = "linked"
    ITSELF = "itself"


@dataclass(frozen=True)
class Speakers:
    """Of a list's utterances.

    names: the speaker of each of trials.names; None where they are not known. origins: {what says so: how many}, empty
    where they are not known. notes: what the user should know.
    """

    names: list[str] | None
    origins: dict[SpeakerOrigin, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SpeakerMap:
    """A file of `utterance speaker` lines, for a list.

    speakers: {utterance: speaker} of those asked for that it names. example: a name in the file. notes: where it names
    utterances otherwise than the list does.
    """

    speakers: Mapping[str, str]
    example: str = ""
    notes: list[str] = field(default_factory=list)


# --- maps ---------------------------------------------------------------------------------------------------


def read_speaker_map(path: Path, names: Iterable[str]) -> SpeakerMap:
    """The map of a file for these utterances. DataError for a wrong line, or an utterance of two speakers.

    Lines may be `speaker utterance`, where only their second values are utterances of the list. An utterance that the
    map lacks is looked for without its suffix, then without outer folders, on either side.
    """
    wanted = list(dict.fromkeys(map(str, names)))
    pairs = read_pairs(path)
    notes = []
    if _is_reversed(pairs, wanted):
        pairs = [(line, second, first) for line, first, second in pairs]
        notes.append(f"{shown_path(path)}: its lines are `speaker utterance`, and were read so.")
    given = speakers_from_pairs(pairs, path)
    found = {name: given[name] for name in wanted if name in given}
    if alike := _found_otherwise([name for name in wanted if name not in found], given):
        found |= {name: given[key] for name, key in alike.items()}
        notes.append(
            f"{shown_path(path)}: names {len(alike):,} utterances by another suffix or folder "
            f"({_some([f'{name} as {key}' for name, key in alike.items()])}), and was taken to mean them."
        )
    return SpeakerMap(found, next(iter(given), ""), notes)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")


def _is_reversed(pairs: Sequence[tuple[int, str, str]], wanted: Sequence[str]) -> bool:
    """Whether the second values are utterances of the list, in whatever spelling, and the first are not."""
    first, second = {first for _, first, _ in pairs}, {second for _, _, second in pairs}
    known = set(wanted)
    if first & known:
        return False
    if second & known:
        return True
    return not _found_otherwise(wanted, first) and bool(_found_otherwise(wanted, second))


def _found_otherwise(names: Sequence[str], keys: Iterable[str]) -> dict[str, str]:
    """{name: the key that differs from it by suffix or outer folders alone}, where there is one such key.

    A key that several names would share by leaving folders out is nobody's: it may be another speaker's file.
    """
    by_stem: dict[str, str | None] = {}
    by_file: dict[str, list[tuple[str, ...]]] = {}
    spelt: dict[tuple[str, ...], str] = {}
    for key in keys:
        stem = _stem(key)
        by_stem[stem] = None if stem in by_stem else key
        parts = PurePosixPath(stem).parts
        spelt[parts] = key
        by_file.setdefault(parts[-1] if parts else "", []).append(parts)
    found: dict[str, str] = {}
    shorter: dict[str, list[str]] = {}
    for name in names:
        stem = _stem(name)
        same = by_stem.get(stem)
        if same is not None:
            found[name] = same
            continue
        parts = PurePosixPath(stem).parts
        fit = [other for other in by_file.get(parts[-1] if parts else "", []) if _ends_alike(parts, other)]
        if len(fit) == 1:
            shorter.setdefault(spelt[fit[0]], []).append(name)
    return found | {alike[0]: key for key, alike in shorter.items() if len(alike) == 1}


def _stem(name: str) -> str:
    """A name without the suffix of audio; others may be part of it."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path)


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    n = min(len(one), len(other))
    return tuple(one[-n:]) == tuple(other[-n:])


# --- a list's speakers --------------------------------------------------------------------------------------


def resolve_speakers(
    trials: Trials, path: Path | None = None, models: Mapping[str, Sequence[str]] | None = None
) -> Speakers:
    """The speakers of a labelled list's utterances.

    path: of a map. models: {enrolment: utterances}; a model has the speaker of all its utterances, where that is one.
    """
    models = models or {}
    names = [str(name) for name in trials.names]
    if path is None:
        return _by_paths(trials, models, [])
    parts = (part for name in names for part in models.get(name, ()))
    known = read_speaker_map(path, [*names, *parts])
    mapped = [known.speakers.get(name) or _of(name, models, known.speakers.get) for name in names]
    lacking = [name for name, speaker in zip(names, mapped, strict=True) if speaker is None]
    if not lacking:
        return _unless_contradicted(trials, mapped, {SpeakerOrigin.MAP: len(names)}, known.notes)
    notes = [*known.notes, f"{shown_path(path)}: lacks {len(lacking):,} of the list's {len(names):,} utterances"]
    if len(lacking) == len(names):
        notes[-1] += f", as {names[0]}; it has {known.example or 'no lines'}. Nothing of it was used."
        return _by_paths(trials, models, notes)
    notes[-1] += f" ({_some(lacking)})"
    return _with_gaps_filled(trials, mapped, models, notes)


def _by_paths(trials: Trials, models: Mapping[str, Sequence[str]], notes: Sequence[str]) -> Speakers:
    speakers = [_of(str(name), models, speaker_from_path) for name in trials.names]
    return _unless_contradicted(trials, speakers, {SpeakerOrigin.PATH: len(speakers)}, notes)


def _of(name: str, models: Mapping[str, Sequence[str]], speaker: Callable[[str], str | None]) -> str | None:
    """The speaker of an utterance, or of a model's utterances where they have one."""
    found = {speaker(part) for part in models.get(name, (name,))}
    return found.pop() if len(found) == 1 else None


def _unless_contradicted(
    trials: Trials, speakers: Sequence[str | None], origins: dict[SpeakerOrigin, int], notes: Sequence[str]
) -> Speakers:
    """These speakers; not known where some utterance has none, or the labels say otherwise."""
    complete = [speaker for speaker in speakers if speaker is not None]
    if len(complete) < len(speakers):
        return Speakers(None, notes=[*notes])
    wrong = contradicting_trials(trials, complete)
    if not len(wrong):
        return Speakers(complete, origins, [*notes])
    return Speakers(None, notes=[*notes, _told(trials, complete, wrong)])


def _told(trials: Trials, speakers: Sequence[str], wrong: NDArray[np.int64]) -> str:
    """That labels contradict speakers, with how often and an example."""
    first = int(wrong[0])
    sides = trials.enrolment[first], trials.test[first]
    kind = "target" if np.asarray(trials.labels)[first] else "non-target"
    said = " and ".join(f"{trials.names[side]} of {speakers[side]}" for side in sides)
    return (
        f"The labels contradict the speakers in {len(wrong):,} of {len(trials):,} trials (a target trial has two, or a "
        f"non-target trial one), as in the {kind} trial of {said}: speakers are taken as not known. --speakers FILE "
        "maps utterances to them."
    )


def _with_gaps_filled(
    trials: Trials, mapped: Sequence[str | None], models: Mapping[str, Sequence[str]], notes: Sequence[str]
) -> Speakers:
    """A map's speakers, and those of the utterances that it lacks."""
    lacking = np.array([speaker is None for speaker in mapped])
    alone = [f"\0{number}" if speaker is None else speaker for number, speaker in enumerate(mapped)]
    between = trials.take(~lacking[trials.enrolment] & ~lacking[trials.test])
    if len(wrong := contradicting_trials(between, alone)):
        return Speakers(None, notes=[*notes, _told(between, alone, wrong)])
    speakers = _by_folder(trials, mapped, models)
    filled = [alone[number] if speaker is None else speaker for number, speaker in enumerate(speakers)]
    there = np.array([speaker is not None for speaker in speakers])
    if len(contradicting_trials(trials.take(there[trials.enrolment] & there[trials.test]), filled)):
        speakers = list(mapped)
    n_path = sum(speaker is not None for speaker in speakers) - int((~lacking).sum())
    names, n_linked = _by_links(trials, speakers)
    origins = {SpeakerOrigin.MAP: int((~lacking).sum()), SpeakerOrigin.PATH: n_path, SpeakerOrigin.LINKED: n_linked}
    origins[SpeakerOrigin.ITSELF] = len(names) - sum(origins.values())
    origins = {origin: n for origin, n in origins.items() if n}
    said = ", ".join(f"{n:,} {FILLED[origin]}" for origin, n in origins.items() if origin != SpeakerOrigin.MAP)
    return _unless_contradicted(trials, names, origins, [*notes[:-1], f"{notes[-1]}: {said}."])


FILLED = {
    SpeakerOrigin.PATH: "taken to be of the speaker of their folder",
    SpeakerOrigin.LINKED: "of the speaker that target trials link them to",
    SpeakerOrigin.ITSELF: "each for itself, so that intervals are too narrow where its speaker has others",
}


def _by_folder(trials: Trials, mapped: Sequence[str | None], models: Mapping[str, Sequence[str]]) -> list[str | None]:
    """A map's speakers, with those of folders where the map says nothing against that."""
    folders = [_of(str(name), models, speaker_from_path) for name in trials.names]
    of_folder: dict[str, set[str]] = {}
    for folder, speaker in zip(folders, mapped, strict=True):
        if folder is not None and speaker is not None:
            of_folder.setdefault(folder, set()).add(speaker)

    def speaker_of(folder: str | None) -> str | None:
        if folder is None:
            return None
        others = of_folder.get(folder, {folder})
        return next(iter(others)) if len(others) == 1 else None

    return [
        speaker if speaker is not None else speaker_of(folder) for speaker, folder in zip(mapped, folders, strict=True)
    ]


def _by_links(trials: Trials, speakers: Sequence[str | None]) -> tuple[list[str], int]:
    """Speakers with those of linked utterances where there are none, and how many were linked to another utterance."""
    code = linked_components(trials)
    size = np.bincount(code)
    known: dict[int, set[str]] = {}
    for group, speaker in zip(code.tolist(), speakers, strict=True):
        if speaker is not None:
            known.setdefault(group, set()).add(speaker)
    names, linked = [], 0
    for number, (group, speaker) in enumerate(zip(code.tolist(), speakers, strict=True)):
        others = known.get(group, set())
        if speaker is not None:
            names.append(speaker)
        elif len(others) <= 1 and size[group] > 1:
            names.append(next(iter(others), f"linked {group}"))
            linked += 1
        else:
            names.append(f"utterance {trials.names[number]}")
    return names, linked
