"""Labels of a task: from the JSON beside a clip to raw labels, and from names of classes to positions.

A reader turns one JSON value into a raw label: a class name, a list of them, events, captions, a text or numbers. It
raises ValueError with what is wrong. A task's type (`task_types`) reads the cells of manifests and turns the raw labels
of all clips into what probes are trained on, with the classes that training knows.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from earmark.probing.tasks import Task

Event = tuple[float, float, int]  # onset and offset in seconds, position in classes
Labels = NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float64] | list[list[Event]] | list[list[str]] | list[str]


class LabelFault(NamedTuple):
    """clip: its position; problem: what is wrong with its label."""

    clip: int
    problem: str


class EncodedLabels(NamedTuple):
    """labels: by the task's type. classes: empty where labels are none. wrong: labels that do not fit; where there are
    any, the array is not to be used.
    """

    labels: Labels
    classes: list[str]
    wrong: list[LabelFault]


# --- readers --------------------------------------------------------------------------------------------------------


def _at(said: Any, key: str) -> Any:
    """The value of a key; of the empty key, the whole."""
    if not key:
        return said
    if not isinstance(said, dict):
        raise ValueError(f"the JSON is {_kind(said)}, not a table with {key!r}")
    if key not in said:
        raise ValueError(f"the JSON has no {key!r}, only {', '.join(map(repr, said)) or 'nothing'}")
    return said[key]


def _kind(value: Any) -> str:
    kinds = {dict: "a table", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} is {json.dumps(value)[:40]}, not a text")
    return value.strip()


def parse_number(value: Any, what: str) -> float:
    """A finite number; what: how a message calls the value."""
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what} is {json.dumps(value)[:40]}, not a finite number")
    return number


def _string(said: Any, key: str) -> str:
    value = _at(said, key)
    return str(value) if isinstance(value, int) else _text(value, key)  # some sets number their classes


def _integer(said: Any, key: str) -> str:
    number = parse_number(_at(said, key), key)
    if number != int(number):
        raise ValueError(f"{key} is {number}, not a whole number")
    return str(int(number))


def _spoof(said: Any, key: str) -> str:
    value = _string(said, key)
    if value not in ("human", "spoof"):
        raise ValueError(f"{key} is {value!r}, not human or spoof")
    return value


def _gender(said: Any, key: str) -> str:
    return "M" if _string(said, key) == "M" else "other"


def _list(said: Any, key: str) -> list[str]:
    value = _at(said, key)
    return sorted(
        {_text(name, key) for name in value} if isinstance(value, list) else split_text(_text(value, key), ";")
    )


def split_text(text: str, *separators: str) -> set[str]:
    """The parts of a text between separators, without spaces around them; no empty ones."""
    for other in separators[1:]:
        text = text.replace(other, separators[0])
    return {part.strip() for part in text.split(separators[0])} - {""}


def _events(onset: str, offset: str, label: str) -> Callable[[Any, str], list[tuple[float, float, str]]]:
    """A reader of a list of events whose three keys have these names; `a,b` as a label is two events."""

    def read(said: Any, key: str) -> list[tuple[float, float, str]]:
        found = []
        listed = _at(said, key)
        if not isinstance(listed, list):
            raise ValueError(f"{key or 'the JSON'} is {_kind(listed)}, not a list of events")
        for event in listed:
            start, end = parse_number(_at(event, onset), onset), parse_number(_at(event, offset), offset)
            if not 0 <= start <= end:
                raise ValueError(f"an event lasts from {start:g} s to {end:g} s")
            found += [(start, end, name) for name in sorted(split_text(_string(event, label), ","))]
        return found

    return read


def parse_captions(said: Any, key: str) -> list[str]:
    """Captions from a list or a table of them."""
    value = _at(said, key)
    listed = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        raise ValueError("there are no captions")
    return [_text(caption, "a caption") for caption in listed]


def _transcript(said: Any, key: str) -> str:
    return _text(_at(said, key), key)


def _numbers(said: Any, keys: str) -> list[float]:
    return [parse_number(_at(said, key), key) for key in keys.split("|")]


READERS: dict[str, Callable[[Any, str], Any]] = {
    "string": _string,  # a class name, or a number that stands for one
    "integer": _integer,  # a class that is a number
    "spoof": _spoof,  # ASVspoof: human, spoof
    "gender": _gender,  # LibriSpeech: M, and all else
    "list": _list,  # FSD50K: names joined by ;
    "events": _events("onset", "offset", "label"),  # DESED: [{onset, offset, label}]
    "notes": _events("start", "end", "note"),  # MAESTRO: [{start, end, note}]
    "phonemes": _events("start", "end", "phone"),  # [{start, end, phone}]
    "captions": parse_captions,  # Clotho: {caption_1: text, …}
    "transcript": _transcript,
    "numbers": _numbers,  # speechocean762: one of each key
}


def parse_json(content: str | bytes) -> Any:
    """What a JSON text holds. ValueError where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None


def label_from_json(task: Task, content: bytes) -> Any:
    """The raw label that a JSON file holds, as the task reads it. ValueError with what is wrong."""
    return READERS[task.reader](parse_json(content), task.key)


# --- classes --------------------------------------------------------------------------------------------------------


def training_classes(
    names: Sequence[Sequence[str]], parts: Sequence[str], *, folds: bool
) -> tuple[dict[str, int], list[LabelFault]]:
    """{class: its position} of the classes that training has, and the clips that name others.

    names: the classes that each clip names; parts: its split or fold. Classes are sorted (as numbers where all are);
    with folds, those of at least two folds, for each fold is tested by what the others teach.
    """
    if folds:
        first: dict[str, str] = {}
        clips = zip(names, parts, strict=True)
        taught = {name for found, part in clips for name in found if first.setdefault(name, part) != part}
    else:
        taught = {name for found, part in zip(names, parts, strict=True) if part == "train" for name in found}
    places = {name: code for code, name in enumerate(sorted_names(taught))}
    where = "in other folds" if folds else "among the training labels"
    known = {normalised_spelling(name): name for name in places}

    def problem(name: str) -> str:
        other = known.get(normalised_spelling(name))
        return f"{name!r} is not {where}" + (f"; {other!r} is" if other is not None else "")

    wrong = [LabelFault(i, problem(name)) for i, found in enumerate(names) for name in found if name not in places]
    return places, wrong


def normalised_spelling(name: str) -> str:
    """What names share that differ only in case, blanks or the form of Unicode.

    >>> normalised_spelling("Sea  Waves ")
    'seawaves'
    """
    return unicodedata.normalize("NFC", "".join(name.split()).casefold())


def near_duplicate_names(classes: Sequence[str]) -> list[list[str]]:
    """Classes that differ only in case or blanks, each with all that it is like.

    >>> near_duplicate_names(["Dog", "cat", "dog", "dog "])
    [['Dog', 'dog', 'dog ']]
    """
    found: dict[str, list[str]] = {}
    for name in classes:
        found.setdefault(normalised_spelling(name), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def sorted_names(names: Iterable[str]) -> list[str]:
    """Each name once, sorted: as numbers where all are.

    >>> sorted_names(["10", "9", "1", "9"]), sorted_names(["b", "10", "9"])
    (['1', '9', '10'], ['10', '9', 'b'])
    """
    found = set(names)
    numbers = all(name.isdecimal() for name in found)
    return sorted(found, key=lambda name: (int(name), name)) if numbers else sorted(found)
