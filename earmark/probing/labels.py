"""Read labels from JSON and map class names to indices.

A reader in READERS turns one JSON value into a raw label (class name, list of names, events, captions, text or numbers)
and raises ValueError for an invalid value. The task types (`task_types`) read the cells of manifests and encode the raw
labels of all clips with the classes that occur in training.
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
    """An invalid label: index of the clip, and the problem."""

    clip: int
    problem: str


class EncodedLabels(NamedTuple):
    """Labels of all clips in the form that heads are trained on.

    Attributes
    ----------
    labels : array or list
        By task type; not usable if there are faults.
    classes : list of str
        Class names; empty if labels are not classes.
    faults : list of LabelFault
        Invalid labels.
    """

    labels: Labels
    classes: list[str]
    faults: list[LabelFault]


# --- readers --------------------------------------------------------------------------------------------------------


def _value_at(content: Any, key: str) -> Any:
    """The value of a key; the whole content for an empty key."""
    if not key:
        return content
    if not isinstance(content, dict):
        raise ValueError(f"the JSON is {_json_type(content)}, not an object with {key!r}")
    if key not in content:
        raise ValueError(f"the JSON has no key {key!r}; its keys: {', '.join(map(repr, content)) or 'none'}")
    return content[key]


def _json_type(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a Boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, not a string")
    return value.strip()


def parse_number(value: Any, name: str) -> float:
    """Convert a value to a finite number.

    Parameters
    ----------
    value : number, str or other JSON value
        The value.
    name : str
        Its name in the error message.

    Raises
    ------
    ValueError
        If the value is not a finite number.
    """
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {json.dumps(value)[:40]}, not a finite number")
    return number


def _string(content: Any, key: str) -> str:
    value = _value_at(content, key)
    return str(value) if isinstance(value, int) else _text(value, key)  # some data sets number their classes


def _integer(content: Any, key: str) -> str:
    number = parse_number(_value_at(content, key), key)
    if number != int(number):
        raise ValueError(f"{key} is {number}, not an integer")
    return str(int(number))


def _spoof(content: Any, key: str) -> str:
    value = _string(content, key)
    if value not in ("human", "spoof"):
        raise ValueError(f"{key} is {value!r}, not human or spoof")
    return value


def _gender(content: Any, key: str) -> str:
    return "M" if _string(content, key) == "M" else "other"


def _list(content: Any, key: str) -> list[str]:
    value = _value_at(content, key)
    return sorted(
        {_text(name, key) for name in value} if isinstance(value, list) else split_text(_text(value, key), ";")
    )


def split_text(text: str, *separators: str) -> set[str]:
    """Split a text at separators.

    Returns
    -------
    set of str
        The non-empty parts without surrounding spaces.

    Examples
    --------
    >>> sorted(split_text("dog | cat;", "|", ";"))
    ['cat', 'dog']
    """
    for separator in separators[1:]:
        text = text.replace(separator, separators[0])
    return {part.strip() for part in text.split(separators[0])} - {""}


def _events(onset: str, offset: str, label: str) -> Callable[[Any, str], list[tuple[float, float, str]]]:
    """Make a reader for a list of events with these key names; a label `a,b` gives two events."""

    def read(content: Any, key: str) -> list[tuple[float, float, str]]:
        events = []
        items = _value_at(content, key)
        if not isinstance(items, list):
            raise ValueError(f"{key or 'the JSON'} is {_json_type(items)}, not a list of events")
        for event in items:
            start, end = parse_number(_value_at(event, onset), onset), parse_number(_value_at(event, offset), offset)
            if not 0 <= start <= end:
                raise ValueError(f"invalid event from {start:g} s to {end:g} s")
            events += [(start, end, name) for name in sorted(split_text(_string(event, label), ","))]
        return events

    return read


def parse_captions(content: Any, key: str) -> list[str]:
    """Read captions from a list or an object.

    Parameters
    ----------
    content : list or dict
        Captions, or an object with captions as values.
    key : str
        Key of the captions in the content; empty if the content itself holds them.

    Raises
    ------
    ValueError
        If there are no captions, or if one is not a string.
    """
    value = _value_at(content, key)
    captions = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(captions, list) or not captions:
        raise ValueError("no captions")
    return [_text(caption, "a caption") for caption in captions]


def _transcript(content: Any, key: str) -> str:
    return _text(_value_at(content, key), key)


def _numbers(content: Any, keys: str) -> list[float]:
    return [parse_number(_value_at(content, key), key) for key in keys.split("|")]


READERS: dict[str, Callable[[Any, str], Any]] = {
    "string": _string,  # a class name or number
    "integer": _integer,  # an integer class
    "spoof": _spoof,  # ASVspoof: human, spoof
    "gender": _gender,  # LibriSpeech: M or other
    "list": _list,  # FSD50K: names separated by ;
    "events": _events("onset", "offset", "label"),  # DESED: [{onset, offset, label}]
    "notes": _events("start", "end", "note"),  # MAESTRO: [{start, end, note}]
    "phonemes": _events("start", "end", "phone"),  # [{start, end, phone}]
    "captions": parse_captions,  # Clotho: {caption_1: text, …}
    "transcript": _transcript,
    "numbers": _numbers,  # speechocean762: one number per key
}


def parse_json(content: str | bytes) -> Any:
    """Parse a JSON text; ValueError if it is invalid."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from None


def label_from_json(task: Task, content: bytes) -> Any:
    """The raw label in a JSON file.

    Parameters
    ----------
    task : Task
        Its `reader` and `key` select the value.
    content : bytes
        The JSON text.

    Raises
    ------
    ValueError
        If the JSON or the label is invalid.
    """
    return READERS[task.reader](parse_json(content), task.key)


# --- classes --------------------------------------------------------------------------------------------------------


def training_classes(
    names: Sequence[Sequence[str]], parts: Sequence[str], *, folds: bool
) -> tuple[dict[str, int], list[LabelFault]]:
    """Collect the classes that occur in training.

    Parameters
    ----------
    names : sequence of sequences of str
        Class names of each clip.
    parts : sequence of str
        Split or fold of each clip.
    folds : bool
        Whether `parts` are folds. A class must then occur in at least two folds, because each fold is tested with heads
        trained on the others.

    Returns
    -------
    codes : dict
        {class: index}, in numeric order if all names are integers, otherwise in alphabetical order.
    faults : list of LabelFault
        Clips whose class does not occur in training.
    """
    if folds:
        first_part: dict[str, str] = {}
        clips = zip(names, parts, strict=True)
        trained = {
            name for clip_names, part in clips for name in clip_names if first_part.setdefault(name, part) != part
        }
    else:
        trained = {
            name for clip_names, part in zip(names, parts, strict=True) if part == "train" for name in clip_names
        }
    codes = {name: code for code, name in enumerate(sorted_names(trained))}
    where = "in other folds" if folds else "in the training labels"
    similar = {normalised_spelling(name): name for name in codes}

    def problem(name: str) -> str:
        match = similar.get(normalised_spelling(name))
        return f"{name!r} does not occur {where}" + (f"; did you mean {match!r}?" if match is not None else "")

    faults = [
        LabelFault(i, problem(name)) for i, clip_names in enumerate(names) for name in clip_names if name not in codes
    ]
    return codes, faults


def normalised_spelling(name: str) -> str:
    """A name without spaces, case and differences in Unicode normal form, for finding near-duplicates.

    >>> normalised_spelling("Sea  Waves ")
    'seawaves'
    """
    return unicodedata.normalize("NFC", "".join(name.split()).casefold())


def near_duplicate_names(classes: Sequence[str]) -> list[list[str]]:
    """Groups of class names that differ only in case or spaces.

    >>> near_duplicate_names(["Dog", "cat", "dog", "dog "])
    [['Dog', 'dog', 'dog ']]
    """
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(normalised_spelling(name), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def sorted_names(names: Iterable[str]) -> list[str]:
    """Unique names, in numeric order if all are integers.

    >>> sorted_names(["10", "9", "1", "9"]), sorted_names(["b", "10", "9"])
    (['1', '9', '10'], ['10', '9', 'b'])
    """
    unique = set(names)
    all_numbers = all(name.isdecimal() for name in unique)
    return sorted(unique, key=lambda name: (int(name), name)) if all_numbers else sorted(unique)
