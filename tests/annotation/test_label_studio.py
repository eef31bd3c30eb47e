"""JSON exports of Label Studio."""

import json

import pytest

from earmark.annotation.label_studio import Roles, read_label_studio, roles


def result(value, kind="choices", control="emotion"):
    return {"id": "r", "from_name": control, "to_name": "audio", "type": kind, "value": value}


def annotation(number, rater, *results, **fields):
    return {
        "id": number,
        "completed_by": rater,
        "result": list(results),
        "created_at": "2026-05-01T10:00:00Z",
        **fields,
    }


def written(tmp_path, content):
    path = tmp_path / "export.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


TASKS = [
    {
        "id": 1,
        "data": {"audio": "/data/upload/1/a.wav"},
        "annotations": [
            annotation(7, 3, result({"choices": ["Joy"]}), result({"rating": 4}, "rating", "arousal")),
            annotation(8, {"id": 4, "email": "ann@uni.example"}, result({"choices": ["Fear"]})),
            annotation(9, 5, result({"choices": ["Joy"]}), was_cancelled=True),
            annotation(10, 5),
        ],
    },
    {
        "id": 2,
        "data": {"audio": "/data/upload/1/b.wav"},
        "annotations": [annotation(11, 3, result({"choices": ["Joy"]}), result({"number": 2.5}, "number", "seconds"))],
    },
]


def test_read_label_studio_has_one_row_per_annotation(tmp_path):
    table, faults = read_label_studio(written(tmp_path, TASKS))
    assert not faults
    columns = ["audio", "annotation_id", "annotator", "created_at", "emotion", "arousal", "seconds"]
    assert list(table.columns) == columns
    time = "2026-05-01T10:00:00Z"
    assert table.to_numpy().tolist() == [
        ["/data/upload/1/a.wav", "7", "3", time, "Joy", "4", ""],
        ["/data/upload/1/a.wav", "8", "ann@uni.example", time, "Fear", "", ""],
        ["/data/upload/1/b.wav", "11", "3", time, "Joy", "", "2.5"],
    ]
    assert list(table.index) == [1, 1, 2]


def test_several_choices_are_a_fault(tmp_path):
    task = {"data": {"audio": "a"}, "annotations": [annotation(1, 3, result({"choices": ["Joy", "Fear"]}))]}
    _, (fault,) = read_label_studio(written(tmp_path, [task]))
    assert (fault.line, fault.column) == (1, "emotion")
    assert fault.problem == "has 2 choices in one annotation; an item needs one rating per rater"


def test_two_regions_are_a_fault(tmp_path):
    answers = [result({"choices": ["Joy"]}), result({"choices": ["Fear"]})]
    _, (fault,) = read_label_studio(
        written(tmp_path, [{"data": {"a": "a"}, "annotations": [annotation(1, 3, *answers)]}])
    )
    assert "two results in one annotation" in fault.problem


def test_json_min_is_read(tmp_path):
    rows = [
        {"audio": "a.wav", "id": 1, "emotion": "Joy", "annotator": 3, "annotation_id": 7, "lead_time": 2.5},
        {"audio": "a.wav", "id": 1, "emotion": "Fear", "annotator": 4, "annotation_id": 8, "arousal": [{"rating": 4}]},
    ]
    table, faults = read_label_studio(written(tmp_path, rows))
    assert not faults
    assert table[["audio", "annotator", "emotion", "arousal"]].to_numpy().tolist() == [
        ["a.wav", "3", "Joy", ""],
        ["a.wav", "4", "Fear", "4"],
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ({"projects": []}, "is not a JSON export of Label Studio"),
        ([], "is not a JSON export of Label Studio"),
        ([1, 2], "is not a JSON export of Label Studio"),
        ([{"clip": "a.wav", "labels": ["joy"]}], "is not a JSON export of Label Studio"),
        ([{"data": {"audio": "a"}, "annotations": []}], "has no annotation with a choice, rating or number"),
        ("[" * 100_000, "is not JSON"),
    ],
    ids=["cut short", "an object", "empty", "numbers", "another tool", "no annotations", "too deep"],
)
def test_other_json_is_named(tmp_path, content, problem):
    table, (fault,) = read_label_studio(written(tmp_path, content))
    assert problem in fault.problem
    assert not len(table)


def test_roles_where_there_is_one_candidate(tmp_path):
    single = [{**TASKS[1], "annotations": [annotation(1, 3, result({"choices": ["Joy"]}))]}]
    found = roles(written(tmp_path, single))
    assert (found.item, found.rater, found.rating) == (("audio",), "annotator", "emotion")
    found = roles(written(tmp_path, TASKS))
    assert (found.item, found.rating) == (("audio",), None)


def test_roles_of_another_file_are_unknown(tmp_path):
    assert roles(written(tmp_path, [{"clip": "a.wav"}])).rating is None


def test_roles_of_json_min_are_only_the_rater(tmp_path):
    path = tmp_path / "min.json"
    path.write_text(json.dumps([{"annotation_id": 1, "annotator": 3, "audio": "a.wav", "mood": "joy"}]))
    assert roles(path) == Roles(rater="annotator")
