"""Label readers on the JSON formats of data sets, and encoded labels by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark.metrics.sound_events import events_to_frames
from earmark.probing.labels import READERS, label_from_json, near_duplicate_names, training_classes
from earmark.probing.task_types import task_type
from earmark.probing.tasks import Task
from earmark.probing.xares import published_tasks


def label_of(name: str, content: Any) -> Any:
    return label_from_json(published_tasks()[name], json.dumps(content).encode())


@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("cremad", {"label": "ANG", "x": 1}, "ANG"),
        ("key_scratching", {"tag": 1}, "1"),
        ("esc50", {"label": 14}, "14"),
        ("libricount", {"num_speakers": "3"}, "3"),
        ("nsynthpitch", {"pitch": 60}, "60"),
        ("asvspoof2015", {"binary_spoof": "spoof"}, "spoof"),
        ("librispeechmalefemale", {"gender": "M"}, "M"),
        ("librispeechmalefemale", {"gender": "F"}, "other"),
        ("fsd50k", {"soundevent": "Rain;Water;Rain"}, ["Rain", "Water"]),
        ("fsd50k", {"soundevent": ["Water", "Rain"]}, ["Rain", "Water"]),
        ("desed", [{"onset": 0.5, "offset": 2, "label": "Speech,Dog"}], [(0.5, 2.0, "Dog"), (0.5, 2.0, "Speech")]),
        ("desed", [], []),
        ("maestro", [{"start": 0.0, "end": 0.1, "note": 60}], [(0.0, 0.1, "60")]),
        ("librispeechphoneme", {"phonemes": [{"start": 0, "end": 0.2, "phone": "AH"}]}, [(0.0, 0.2, "AH")]),
        ("clotho", {"caption_1": "rain ", "caption_2": "it rains"}, ["rain", "it rains"]),
        ("librispeech", {"trans": "HE HOPED"}, "HE HOPED"),
        ("speechocean762", {"accuracy": 8, "fluency": "9", "prosodic": 7.5}, [8.0, 9.0, 7.5]),
    ],
)
def test_readers_on_data_set_formats(name, content, label):
    assert label_of(name, content) == label


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cremad", {"emotion": "ANG", "path": "x"}, "the JSON has no key 'label'; its keys: 'emotion', 'path'"),
        ("cremad", ["ANG"], "the JSON is a list, not an object with 'label'"),
        ("cremad", {"label": ""}, 'label is "", not a string'),
        ("cremad", {"label": None}, "label is null"),
        ("esc50", {"label": "dog"}, 'label is "dog", not a finite number'),
        ("esc50", {"label": 1.5}, "not an integer"),
        ("esc50", {"label": True}, "label is true"),
        ("asvspoof2015", {"binary_spoof": "fake"}, "binary_spoof is 'fake', not human or spoof"),
        ("desed", {"onset": 1}, "the JSON is an object, not a list of events"),
        ("desed", [{"onset": 1, "offset": 0.5, "label": "Dog"}], "invalid event from 1 s to 0.5 s"),
        ("desed", [{"onset": -1, "offset": 0.5, "label": "Dog"}], "invalid event from -1 s"),
        ("desed", [{"onset": 1, "label": "Dog"}], "the JSON has no key 'offset'"),
        ("desed", [3], "the JSON is a number, not an object"),
        ("clotho", {}, "no captions"),
        ("clotho", {"caption_1": 3}, "a caption is 3, not a string"),
        ("speechocean762", {"accuracy": 8, "fluency": 9}, "has no key 'prosodic'"),
        ("speechocean762", {"accuracy": float("nan"), "fluency": 9, "prosodic": 1}, "accuracy is NaN"),
    ],
)
def test_readers_reject_invalid_labels(name, content, message):
    with pytest.raises(ValueError, match=message):
        label_of(name, content)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"", b"[" * 100_000])
def test_parse_json_rejects_invalid_text(content):
    with pytest.raises(ValueError, match="invalid JSON"):
        label_from_json(published_tasks()["cremad"], content)


def test_readers_exist_for_all_tasks():
    assert {task.reader for task in published_tasks().values()} == set(READERS)


def test_label_from_cell(tmp_path: Path):
    events = [{"onset": 0, "offset": 1, "label": "Dog"}]
    (tmp_path / "dog.json").write_text(json.dumps(events))
    desed, clotho = published_tasks()["desed"], published_tasks()["clotho"]
    assert task_type(desed).label_from_cell(json.dumps(events), tmp_path) == [(0.0, 1.0, "Dog")]
    assert task_type(desed).label_from_cell("dog.json", tmp_path) == [(0.0, 1.0, "Dog")]
    assert task_type(clotho).label_from_cell("rain| it rains", tmp_path) == ["rain", "it rains"]
    assert task_type(published_tasks()["fsd50k"]).label_from_cell("", tmp_path) == []
    with pytest.raises(ValueError, match=r"cat\.json: No such file"):
        task_type(desed).label_from_cell("cat.json", tmp_path)
    with pytest.raises(ValueError, match="is empty"):
        task_type(published_tasks()["cremad"]).label_from_cell(" ", tmp_path)
    with pytest.raises(ValueError, match='a value is "x"'):
        task_type(published_tasks()["speechocean762"]).label_from_cell("1|x", tmp_path)


# --- arrays ---------------------------------------------------------------------------------------------------------

SPLIT = ["train", "train", "valid", "test"]


def arrays(task: Task, raw: list[Any], parts: list[str], folds: bool = False) -> Any:
    return task_type(task).encode(raw, parts, folds=folds)


def test_training_classes_sorted():
    y, classes, wrong = arrays(published_tasks()["cremad"], ["SAD", "ANG", "SAD", "ANG"], SPLIT)
    assert (y.tolist(), y.dtype, classes, wrong) == ([1, 0, 1, 0], np.int64, ["ANG", "SAD"], [])


def test_training_classes_sort_numbers_numerically():
    assert arrays(published_tasks()["esc50"], ["10", "9", "100", "9"], ["train"] * 4)[1] == ["9", "10", "100"]


def test_training_classes_report_unknown_class():
    wrong = arrays(published_tasks()["cremad"], ["SAD", "ANG", "FEA", "ANG"], SPLIT)[2]
    assert wrong == [(2, "'FEA' does not occur in the training labels")]


def test_training_classes_need_two_folds():
    y, classes, wrong = arrays(published_tasks()["esc50"], ["1", "2", "1", "2"], ["1", "1", "2", "3"], folds=True)
    assert (y.tolist(), classes, wrong) == ([0, 1, 0, 1], ["1", "2"], [])
    wrong = arrays(published_tasks()["esc50"], ["1", "2", "1", "2"], ["1", "2", "2", "2"], folds=True)[2]
    assert wrong == [(1, "'2' does not occur in other folds"), (3, "'2' does not occur in other folds")]


def test_encode_multilabel():
    y, classes, _ = arrays(published_tasks()["fsd50k"], [["Rain", "Wind"], ["Cat"], [], ["Cat"]], SPLIT)
    assert (y.tolist(), y.dtype) == ([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 0]], np.uint8)
    assert classes == ["Cat", "Rain", "Wind"]


def test_encode_events():
    raw = [[(0.0, 0.2, "Dog"), (0.1, 0.3, "Cat")], [], [(0.0, 9.0, "Dog")], []]
    y, classes, _ = arrays(published_tasks()["desed"], raw, SPLIT)
    assert classes == ["Cat", "Dog"]
    frames = [events_to_frames(events, 3, 0.1, len(classes)).tolist() for events in y]
    assert frames[0] == [[0, 1], [1, 1], [1, 0]] and frames[1] == [[0, 0]] * 3 and frames[2] == [[0, 1]] * 3


def test_encode_numbers_require_equal_length():
    task = published_tasks()["speechocean762"]
    y, classes, _ = arrays(task, [[1.0, 2.0], [3.0, 4.0]], ["train", "test"])
    assert (y.tolist(), y.dtype, classes) == ([[1, 2], [3, 4]], np.float64, [])
    assert arrays(task, [[1.0, 2.0], [3.0]], ["train", "test"])[2] == [
        (1, "1 numbers, expected 2 as in the first clip")
    ]


def test_encode_texts_unchanged():
    assert arrays(published_tasks()["librispeech"], ["a", "b"], ["train", "test"]) == (["a", "b"], [], [])


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=30), st.randoms())
def test_encode_independent_of_clip_order(names, random):
    task = replace(published_tasks()["cremad"], n_classes=5)
    y, classes, _ = arrays(task, names, ["train"] * len(names))
    assert [classes[code] for code in y] == names
    shuffled = names.copy()
    random.shuffle(shuffled)
    assert arrays(task, shuffled, ["train"] * len(names))[1] == classes


def test_training_classes_suggest_near_duplicate():
    _, wrong = training_classes([["Dog"], ["cat"], ["dog "], ["owl"]], ["train", "train", "test", "test"], folds=False)
    assert wrong == [
        (2, "'dog ' does not occur in the training labels; did you mean 'Dog'?"),
        (3, "'owl' does not occur in the training labels"),
    ]
    assert near_duplicate_names(["a b", "ab", "A  B", "b", "e\u0301", "\u00e9"]) == [
        ["a b", "ab", "A  B"],
        ["e\u0301", "\u00e9"],
    ]
