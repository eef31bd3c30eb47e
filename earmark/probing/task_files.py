"""Select tasks by name, by `all`, or from a user's TOML file.

The file of a user's task names a manifest (see `layouts`):

  name = "creaky"
  type = "clip"               # clip, frame, regression, retrieval or asr
  metric = "accuracy"         # a metric of the type; default: its first metric
  data = "creaky.csv"         # relative to this file, otherwise to the data root
  multilabel = false          # clip tasks: any number of labels per clip
  epochs = 10                 # optional, as are learning_rate, batch_size, weight, domain,
  crop_seconds = 10           # crop_seconds and segment_seconds (frame tasks)
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from earmark.errors import EarmarkError, MissingError, shown_path
from earmark.probing.task_types import TYPES, metrics_by_type, type_class
from earmark.probing.tasks import Task
from earmark.probing.xares import published_tasks

SEGMENT_SECONDS = 1.0  # default of frame tasks
MULTILABEL = "multilabel"  # in a file: a clip task with multilabel = true
TYPE_NAMES = tuple(dict.fromkeys(kind.name for kind in TYPES if kind.name != MULTILABEL))
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


def select_tasks(wanted: Sequence[str | Path]) -> list[Task]:
    """Select tasks as `select_valid_tasks` does.

    Raises
    ------
    MissingError
        If a name or a file does not exist.
    EarmarkError
        If a task file is invalid (all of them are listed), or if two tasks have the same name.
    """
    tasks, errors = select_valid_tasks(wanted)
    if errors:
        raise EarmarkError("\n".join(map(str, errors.values())))
    return tasks


def select_valid_tasks(wanted: Sequence[str | Path]) -> tuple[list[Task], dict[str, EarmarkError]]:
    """Select tasks and collect the errors of invalid task files.

    Parameters
    ----------
    wanted : sequence of str or Path
        Task names, `all` (published tasks that the suite does not disable, including private ones), or paths that end
        in .toml.

    Returns
    -------
    tasks : list of Task
        Each task once, in the given order.
    errors : dict
        {file name: error} of invalid task files.

    Raises
    ------
    MissingError
        If a name or a file does not exist; the message suggests similar names.
    EarmarkError
        If two different tasks have the same name.
    """
    unknown: list[str] = []
    errors: dict[str, EarmarkError] = {}
    selected: list[Task] = []
    for name in map(str, wanted):
        try:
            if name.endswith(".toml"):
                selected.append(read_task_file(Path(name)))
            elif name == "all":
                selected += [task for task in published_tasks().values() if not task.disabled]
            elif name in published_tasks():
                selected.append(published_tasks()[name])
            else:
                unknown.append(_unknown_task(name))
        except MissingError:
            raise
        except EarmarkError as error:
            file_name = Path(name).name
            errors[f"{Path(name).resolve().parent.name}/{file_name}" if file_name in errors else file_name] = error
    if unknown:
        raise MissingError(
            "\n".join([*unknown, "`uv run probe.py list` lists all tasks. For your own task, give its TOML file."])
        )
    return _without_duplicates(selected), errors


def _unknown_task(name: str) -> str:
    names = {
        label.casefold(): task.name for task in published_tasks().values() for label in (task.formal_name, task.name)
    }
    suggestions = [names[label] for label in difflib.get_close_matches(name.casefold(), names, n=3, cutoff=0.5)]
    hint = f"; did you mean {_join_names(list(dict.fromkeys(suggestions)))}?" if suggestions else "."
    return f"{name}: unknown task{hint}"


def _join_names(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _without_duplicates(selected: Sequence[Task]) -> list[Task]:
    by_name: dict[str, Task] = {}
    for task in selected:
        if by_name.setdefault(task.name, task) != task:
            raise EarmarkError(f"{task.name}: two different tasks have this name. Change the `name` of one.")
    return list(by_name.values())


# --- a user's file --------------------------------------------------------------------------------------------------


class _File(BaseModel):
    """Keys of a task file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    type: Literal[TYPE_NAMES]  # type: ignore[valid-type]
    data: Annotated[str, Field(min_length=1)]
    metric: str | None = None
    multilabel: bool = False
    domain: str = ""
    epochs: Count = 10
    batch_size: Count = 32
    learning_rate: Positive = 1e-3
    weight: Positive = 1.0
    crop_seconds: Positive | None = None
    segment_seconds: Positive | None = None


def _type_name(content: Mapping[str, Any]) -> str | None:
    """Type name of the task in a file, as far as it is defined."""
    if content.get("multilabel") is True and content.get("type") == "clip":
        return MULTILABEL
    return next((name for name in TYPE_NAMES if name == content.get("type")), None)


def _conflicts(content: Mapping[str, Any]) -> list[str]:
    """Valid values that contradict each other or a published task."""
    faults, type_name, metric = [], _type_name(content), content.get("metric")
    if isinstance(content.get("name"), str) and content["name"] in published_tasks():
        faults.append(f"name: {content['name']!r} is the name of a published task; choose another name")
    if type_name is None:
        return faults
    if content.get("multilabel") is True and type_name != MULTILABEL:
        faults.append(f"multilabel: not available for {type_name} tasks, only for clip tasks")
    metrics = metrics_by_type()[type_name]
    if isinstance(metric, str) and metric not in metrics:
        faults.append(f"metric: {metric!r} is not a metric of {type_name} tasks ({', '.join(metrics)})")
    type_ = type_class(type_name, metric or metrics[0])
    if "segment_seconds" in content and type_ is not None and not type_.scores_segments:
        faults.append(f"segment_seconds: {type_name} tasks scored by {metric or metrics[0]} have no segments")
    return faults


def read_task_file(path: Path) -> Task:
    """Read a user's task.

    Raises
    ------
    MissingError
        If the file does not exist.
    EarmarkError
        If the file is invalid; the message lists each faulty key.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingError(f"{shown_path(path)}: task file not found.") from error
    except OSError as error:
        raise EarmarkError(f"{shown_path(path)}: cannot be read: {error.strerror}.") from error
    except ValueError as error:  # invalid TOML or UTF-8
        raise EarmarkError(f"{shown_path(path)}: invalid TOML: {error}.") from error
    faults = _conflicts(content)
    try:
        fields = _File.model_validate(content)
    except ValidationError as error:
        raise EarmarkError(_faults_message(path, [*_field_faults(error), *faults])) from None
    type_name = _type_name(content)
    metric = fields.metric or metrics_by_type().get(type_name or "", ("",))[0]
    type_ = type_class(type_name or "", metric)
    if faults or type_ is None:
        raise EarmarkError(_faults_message(path, faults))
    return Task(
        name=fields.name,
        formal_name=fields.name,
        suite="yours",
        domain=fields.domain,
        type=type_.name,
        metric=metric,
        epochs=fields.epochs,
        learning_rate=fields.learning_rate,
        batch_size=fields.batch_size,
        crop_seconds=fields.crop_seconds,
        segment_seconds=fields.segment_seconds or (SEGMENT_SECONDS if type_.scores_segments else None),
        weight=fields.weight,
        knn=type_.knn,
        reader=type_.reader,
        manifest=fields.data,
        home=path.parent,
    )


def _field_faults(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            suggestions = difflib.get_close_matches(key, _File.model_fields, n=1)
            lines.append(f"{key}: unknown key{f'; did you mean {suggestions[0]}?' if suggestions else ''}")
        elif fault["type"] == "missing":
            lines.append(f"{key}: is missing")
        else:
            lines.append(f"{key}: {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return lines


def _faults_message(path: Path, lines: Sequence[str]) -> str:
    """All faults and the valid keys."""
    count = f"{len(lines)} fault{'s' if len(lines) != 1 else ''}"
    keys = ", ".join(_File.model_fields)
    return "\n".join([f"{shown_path(path)}: {count}", *(f"  {line}" for line in lines), f"Valid keys: {keys}."])
