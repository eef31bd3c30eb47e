"""Labels of a task: from the JSON beside a clip or the cell of a manifest to what probes are trained on.

A reader turns one JSON value into a raw label: a class name, a list of them, events, captions, a text or numbers. It
raises ValueError with what is wrong. `encoded` then turns the raw labels of all clips into arrays, with the classes
that training knows.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.probing.tasks import Task

Event = tuple[float, float, int]  # onset and offset in seconds, position in classes
Labels = NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float64] | list[list[Event]] | list[list[str]] | list[str]
Wrong = tuple[int, str]  # a clip's position, and what is wrong with its label


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


def _number(value: Any, what: str) -> float:
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
    number = _number(_at(said, key), key)
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
    return sorted({_text(name, key) for name in value} if isinstance(value, list) else _split(_text(value, key), ";"))


def _split(text: str, *separators: str) -> set[str]:
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
            start, end = _number(_at(event, onset), onset), _number(_at(event, offset), offset)
            if not 0 <= start <= end:
                raise ValueError(f"an event lasts from {start:g} s to {end:g} s")
            found += [(start, end, name) for name in sorted(_split(_string(event, label), ","))]
        return found

    return read


def _captions(said: Any, key: str) -> list[str]:
    value = _at(said, key)
    listed = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(listed, list) or not listed:
        raise ValueError("there are no captions")
    return [_text(caption, "a caption") for caption in listed]


def _transcript(said: Any, key: str) -> str:
    return _text(_at(said, key), key)


def _numbers(said: Any, keys: str) -> list[float]:
    return [_number(_at(said, key), key) for key in keys.split("|")]


READERS: dict[str, Callable[[Any, str], Any]] = {
    "string": _string,  # a class name, or a number that stands for one
    "integer": _integer,  # a class that is a number
    "spoof": _spoof,  # ASVspoof: human, spoof
    "gender": _gender,  # LibriSpeech: M, and all else
    "list": _list,  # FSD50K: names joined by ;
    "events": _events("onset", "offset", "label"),  # DESED: [{onset, offset, label}]
    "notes": _events("start", "end", "note"),  # MAESTRO: [{start, end, note}]
    "phonemes": _events("start", "end", "phone"),  # [{start, end, phone}]
    "captions": _captions,  # Clotho: {caption_1: text, …}
    "transcript": _transcript,
    "numbers": _numbers,  # speechocean762: one of each key
}


def label_of_json(task: Task, content: bytes) -> Any:
    """The raw label that a JSON file holds, as the task reads it. ValueError with what is wrong."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    return READERS[task.reader](said, task.key)


def label_of_cell(task: Task, cell: str, folder: Path) -> Any:
    """The raw label that a manifest's cell holds; folder: where paths in it start. ValueError with what is wrong.

    >>> from earmark.probing.tasks import tasks
    >>> label_of_cell(tasks()["fsd50k"], "Rain|Wind; Rain", Path())
    ['Rain', 'Wind']
    >>> label_of_cell(tasks()["speechocean762"], "8|9|7.5", Path())
    [8.0, 9.0, 7.5]
    """
    cell = cell.strip()
    if task.type == "multilabel":
        return sorted(_split(cell, "|", ";"))
    if not cell:
        raise ValueError("is empty")
    if task.type == "regression":
        return [_number(part, "a part of it") for part in cell.split("|")]
    if task.type == "retrieval":
        return _captions([part for part in cell.split("|") if part.strip()], "")
    if task.type == "frame":
        return _events_of_cell(task, cell, folder)
    return cell


def _events_of_cell(task: Task, cell: str, folder: Path) -> Any:
    try:
        said = json.loads(cell if cell.startswith("[") else (folder / cell).read_bytes())
    except OSError as error:
        raise ValueError(f"{cell}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {error}") from None
    return READERS[task.reader](said, "" if isinstance(said, list) else task.key)


# --- arrays ---------------------------------------------------------------------------------------------------------


def encoded(
    task: Task, raw: Sequence[Any], parts: Sequence[str], *, folds: bool
) -> tuple[Labels, list[str], list[Wrong]]:
    """Raw labels as arrays, the classes, and the clips whose labels do not fit.

    parts: each clip's split or fold. Classes are those of the training clips, sorted (as numbers where all are); with
    folds, those of at least two folds, for each fold is tested by what the others teach. Shapes: clip (N,) int64;
    multilabel (N, C) uint8; regression (N, k) float64; the others lists of N. Where clips are wrong, the array is not
    to be used.
    """
    if task.type == "regression":
        width = len(raw[0])
        wrong = [(i, f"{len(x)} numbers where others have {width}") for i, x in enumerate(raw) if len(x) != width]
        return (np.zeros((0, width)) if wrong else np.array(raw, dtype=np.float64)), [], wrong
    if task.type in ("retrieval", "asr"):
        return list(raw), [], []
    names = [_names(task, label) for label in raw]
    classes = in_order(_taught(names, parts, folds))
    place = {name: code for code, name in enumerate(classes)}
    where = "in other folds" if folds else "among the training labels"
    wrong = [(i, f"{name!r} is not {where}") for i, found in enumerate(names) for name in found if name not in place]
    if wrong:
        return [], classes, wrong
    if task.type == "frame":
        return [[(on, off, place[name]) for on, off, name in events] for events in raw], classes, []
    if task.type == "clip":
        return np.array([place[name] for name in raw], dtype=np.int64), classes, []
    hot = np.zeros((len(raw), len(classes)), dtype=np.uint8)
    rows = np.repeat(np.arange(len(raw)), [len(found) for found in names])
    hot[rows, [place[name] for found in names for name in found]] = 1
    return hot, classes, []


def _names(task: Task, label: Any) -> Sequence[str]:
    """The classes that a raw label names, each once."""
    if task.type == "clip":
        return (label,)
    return sorted({name for _, _, name in label}) if task.type == "frame" else label


def _taught(names: Sequence[Sequence[str]], parts: Sequence[str], folds: bool) -> set[str]:
    if not folds:
        return {name for found, part in zip(names, parts, strict=True) if part == "train" for name in found}
    first: dict[str, str] = {}
    return {
        name for found, part in zip(names, parts, strict=True) for name in found if first.setdefault(name, part) != part
    }


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once, sorted: as numbers where all are.

    >>> in_order(["10", "9", "1", "9"]), in_order(["b", "10", "9"])
    (['1', '9', '10'], ['10', '9', 'b'])
    """
    found = set(names)
    numbers = all(name.isdecimal() for name in found)
    return sorted(found, key=lambda name: (int(name), name)) if numbers else sorted(found)
