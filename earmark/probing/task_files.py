"""Which tasks were asked for: by name, all of them, or a user's own from a TOML file.

A user's task is a few lines beside a manifest (`layouts` says what that holds):

  name = "creaky"
  type = "clip"               # clip, frame, regression, retrieval, asr
  metric = "accuracy"         # one that goes with the type; without it, the first that does
  data = "creaky.csv"         # relative to this file where it is there, else to the data root
  multilabel = false          # clip tasks: any number of labels each
  epochs = 10                 # and, where the defaults do not fit, learning_rate, batch_size, weight, domain,
  crop_seconds = 10           # crop_seconds, segment_seconds (frame tasks)
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

SEGMENT_SECONDS = 1.0  # of a frame task that does not say
MULTILABEL = "multilabel"  # in a file, a clip task that says so
TYPE_NAMES = tuple(dict.fromkeys(kind.name for kind in TYPES if kind.name != MULTILABEL))
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


def select_tasks(wanted: Sequence[str | Path]) -> list[Task]:
    """As `chosen_or_broken`; EarmarkError where files are no tasks (every such file)."""
    found, broken = select_valid_tasks(wanted)
    if broken:
        raise EarmarkError("\n".join(map(str, broken.values())))
    return found


def select_valid_tasks(wanted: Sequence[str | Path]) -> tuple[list[Task], dict[str, EarmarkError]]:
    """The tasks of names, of `all`, and of files that end in .toml, each once, in the order asked for.

    all: the table's, less those its suite disables; private ones are among them. Second: files that are no tasks, by
    the names of the files. MissingError names what is no task and the names nearest to it, and files that are not
    there. EarmarkError when two tasks have one name.
    """
    unknown: list[str] = []
    broken: dict[str, EarmarkError] = {}
    found: list[Task] = []
    for name in map(str, wanted):
        try:
            if name.endswith(".toml"):
                found.append(read_task_file(Path(name)))
            elif name == "all":
                found += [task for task in published_tasks().values() if not task.disabled]
            elif name in published_tasks():
                found.append(published_tasks()[name])
            else:
                unknown.append(_unknown(name))
        except MissingError:
            raise
        except EarmarkError as error:
            short = Path(name).name
            broken[f"{Path(name).resolve().parent.name}/{short}" if short in broken else short] = error
    if unknown:
        raise MissingError("\n".join([*unknown, "`uv run probe.py list` shows all; a task of your own is FILE.toml."]))
    return _each_once(found), broken


def _unknown(name: str) -> str:
    known = {
        label.casefold(): task.name for task in published_tasks().values() for label in (task.formal_name, task.name)
    }
    near = [known[label] for label in difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)]
    return f"{name}: no such task{f'; did you mean {_listed(list(dict.fromkeys(near)))}?' if near else '.'}"


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _each_once(found: Sequence[Task]) -> list[Task]:
    by_name: dict[str, Task] = {}
    for task in found:
        if by_name.setdefault(task.name, task) != task:
            raise EarmarkError(f"{task.name}: two different tasks have this name. Give one of them another `name`.")
    return list(by_name.values())


# --- a user's file --------------------------------------------------------------------------------------------------


class _File(BaseModel):
    """What the file may say."""

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


def _type_name(given: Mapping[str, Any]) -> str | None:
    """The type of task that a file means, as far as it says so."""
    if given.get("multilabel") is True and given.get("type") == "clip":
        return MULTILABEL
    return next((name for name in TYPE_NAMES if name == given.get("type")), None)


def _misfits(given: Mapping[str, Any]) -> list[str]:
    """Values that are well formed each but do not go with the others, or with the published tasks."""
    wrong, kind, metric = [], _type_name(given), given.get("metric")
    if isinstance(given.get("name"), str) and given["name"] in published_tasks():
        wrong.append(f"name: {given['name']!r} is a published task; choose another")
    if kind is None:
        return wrong
    if given.get("multilabel") is True and kind != MULTILABEL:
        wrong.append(f"multilabel: only clip tasks may be, not {kind} tasks")
    metrics = metrics_by_type()[kind]
    if isinstance(metric, str) and metric not in metrics:
        wrong.append(f"metric: {metric!r} is none of {kind} tasks: {', '.join(metrics)}")
    of_task = type_class(kind, metric or metrics[0])
    if "segment_seconds" in given and of_task is not None and not of_task.scores_segments:
        wrong.append(f"segment_seconds: {kind} tasks scored by {metric or metrics[0]} have no segments")
    return wrong


def read_task_file(path: Path) -> Task:
    """A user's task. MissingError where there is no file, EarmarkError with everything wrong in it: key, what, why."""
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingError(f"{shown_path(path)}: no such task file.") from error
    except OSError as error:
        raise EarmarkError(f"{shown_path(path)}: cannot be read: {error.strerror}.") from error
    except ValueError as error:  # TOML's and UTF-8's
        raise EarmarkError(f"{shown_path(path)}: is no TOML: {error}.") from error
    wrong = _misfits(content)
    try:
        given = _File.model_validate(content)
    except ValidationError as error:
        raise EarmarkError(_faulty(path, [*_malformed(error), *wrong])) from None
    name = _type_name(content)
    metric = given.metric or metrics_by_type().get(name or "", ("",))[0]
    kind = type_class(name or "", metric)
    if wrong or kind is None:
        raise EarmarkError(_faulty(path, wrong))
    return Task(
        name=given.name,
        formal_name=given.name,
        suite="yours",
        domain=given.domain,
        type=kind.name,
        metric=metric,
        epochs=given.epochs,
        learning_rate=given.learning_rate,
        batch_size=given.batch_size,
        crop_seconds=given.crop_seconds,
        segment_seconds=given.segment_seconds or (SEGMENT_SECONDS if kind.scores_segments else None),
        weight=given.weight,
        knn=kind.knn,
        reader=kind.reader,
        manifest=given.data,
        home=path.parent,
    )


def _malformed(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, _File.model_fields, n=1)
            lines.append(f"{key}: no such key{f'; did you mean {near[0]}?' if near else ''}")
        elif fault["type"] == "missing":
            lines.append(f"{key}: is missing")
        else:
            lines.append(f"{key}: {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return lines


def _faulty(path: Path, lines: Sequence[str]) -> str:
    """Every fault with its key, then the keys there are."""
    count = f"{len(lines)} fault{'s' if len(lines) != 1 else ''}"
    keys = ", ".join(_File.model_fields)
    return "\n".join([f"{shown_path(path)}: {count}", *(f"  {line}" for line in lines), f"The keys are {keys}."])
