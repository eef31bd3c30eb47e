"""Read the JSON export of Label Studio: choices, ratings and numbers.

Both formats are accepted: JSON (tasks with their annotations) and JSON-MIN (one flat object per annotation).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from earmark.errors import Fault

RATER, TIME, IDENTIFIER = "annotator", "created_at", "annotation_id"
VALUES = {"choices": "choices", "rating": "rating", "number": "number"}  # type of a result: key of its value
NOT_LABEL_STUDIO = (
    "is not a JSON export of Label Studio, which is a list of tasks with `data` and `annotations` (JSON) or of flat "
    "objects with `annotation_id` (JSON-MIN); export a table (CSV) from the other tool"
)


def read_label_studio(path: Path) -> tuple[pd.DataFrame, list[Fault]]:
    """Read a JSON export of Label Studio as a table of ratings.

    Parameters
    ----------
    path : Path

    Returns
    -------
    table : DataFrame
        One row per annotation, as text, indexed by the number of the task from 1: the fields of the task's data,
        `annotation_id`, `annotator`, `created_at`, and one column per control with its choice, rating or number.
        Cancelled annotations and those without a result are left out.
    faults : list of Fault
        Results that cannot be read, such as several choices in one answer; `line` is the number of the task.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return pd.DataFrame(), [Fault(getattr(error, "lineno", 1), "", f"is not JSON: {error}")]
    if not isinstance(content, list) or not content or not all(isinstance(task, dict) for task in content):
        return pd.DataFrame(), [Fault(1, "", NOT_LABEL_STUDIO)]
    if all("annotation_id" in task for task in content):
        return _flat(content)
    if not all(isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list) for task in content):
        return pd.DataFrame(), [Fault(1, "", NOT_LABEL_STUDIO)]
    rows: list[dict[str, str]] = []
    numbers: list[int] = []
    faults: list[Fault] = []
    for number, task in enumerate(content, start=1):
        data = {key: _text(value) for key, value in task["data"].items() if _is_scalar(value)}
        for annotation in task["annotations"]:
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                continue
            answers, wrong = _answers(annotation.get("result") or [], number)
            faults += wrong
            if answers:
                rows.append(
                    {
                        **data,
                        IDENTIFIER: _text(annotation.get("id", "")),
                        RATER: _rater(annotation.get("completed_by")),
                        TIME: _text(annotation.get("created_at", "")),
                        **answers,
                    }
                )
                numbers.append(number)
    if not rows and not faults:
        faults.append(Fault(1, "", "has no annotation with a choice, rating or number"))
    index = pd.Index(numbers, name="line", dtype=int)
    return pd.DataFrame(rows, index=index, dtype=str).fillna(""), faults


@dataclass(frozen=True)
class Roles:
    """Columns of an export whose role is unambiguous; empty or None where it is not.

    Attributes
    ----------
    item : tuple of str
    rater, rating : str or None
    """

    item: tuple[str, ...] = ()
    rater: str | None = None
    rating: str | None = None


def roles(path: Path) -> Roles:
    """The columns of the item, the rater and the rating of an export, where there is only one candidate.

    Parameters
    ----------
    path : Path
        A file that `read_label_studio` reads.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if all("annotation_id" in row for row in content):  # JSON-MIN does not tell fields of the task from answers
            return Roles(rater=RATER if any(RATER in row for row in content) else None)
        data = list(dict.fromkeys(key for task in content for key, value in task["data"].items() if _is_scalar(value)))
        answers = [_answers(one.get("result") or [], 0)[0] for task in content for one in task["annotations"]]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Roles()  # a file that read_label_studio reports
    controls = list(dict.fromkeys(control for answer in answers for control in answer))
    return Roles(
        item=tuple(data) if len(data) == 1 else (),
        rater=RATER,
        rating=controls[0] if len(controls) == 1 else None,
    )


def _flat(content: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, list[Fault]]:
    """Table of a JSON-MIN export."""
    faults: list[Fault] = []
    rows: list[dict[str, str]] = []
    for number, row in enumerate(content, start=1):
        cells: dict[str, str] = {}
        for key, value in row.items():
            if isinstance(value, dict) and isinstance(value.get("choices"), list):
                faults.append(Fault(number, key, "has several choices; an item needs one rating per rater"))
            elif _is_scalar(value):
                cells[key] = _text(value)
            elif isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
                single = next((value[0][kind] for kind in ("rating", "number") if kind in value[0]), None)
                if _is_scalar(single):
                    cells[key] = _text(single)
        rows.append(cells)
    index = pd.Index(range(1, len(rows) + 1), name="line", dtype=int)
    return pd.DataFrame(rows, index=index, dtype=str).fillna(""), faults


def _answers(results: Sequence[Any], task: int) -> tuple[dict[str, str], list[Fault]]:
    """Answers of an annotation by the name of their control. Results of other types, such as regions, are ignored."""
    answers: dict[str, str] = {}
    faults: list[Fault] = []
    for result in results:
        kind = result.get("type") if isinstance(result, dict) else None
        if kind not in VALUES:
            continue
        control, value = str(result.get("from_name", kind)), result.get("value") or {}
        answer = value.get(VALUES[kind]) if isinstance(value, dict) else None
        if isinstance(answer, list):
            if len(answer) != 1:
                problem = f"has {len(answer)} choices in one annotation; an item needs one rating per rater"
                faults.append(Fault(task, control, problem))
                continue
            answer = answer[0]
        if not _is_scalar(answer):
            faults.append(Fault(task, control, "has a result without a value"))
        elif control in answers:
            faults.append(Fault(task, control, "has two results in one annotation; regions cannot be rated one by one"))
        else:
            answers[control] = _text(answer)
    return answers, faults


def _rater(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        found = next((completed_by[key] for key in ("email", "username", "id") if completed_by.get(key)), "")
        return _text(found)
    return _text(completed_by)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
