"""Store and reload the outcome of a task: its scores and failures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from pydantic import Field

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError
from earmark.files.atomic import write_together
from earmark.probing.options import RECIPES, TRACKS, ProbeSettings
from earmark.probing.schema import ClassTable, Confusion, FailedTask, Failure, SharedSources, TaskScore
from earmark.probing.tasks import Task
from earmark.report.provenance import file_name, shown_text
from earmark.report.schema import Input, StrictModel


class TaskOrigin(StrictModel):
    """What an outcome was computed from: everything that a report needs without the encoder and the data.

    Attributes
    ----------
    release : str
        Version of this toolkit.
    versions : list of int
        Versions of the scores and of the preprocessing.
    settings : dict
        `ProbeSettings`.
    allow_missing : bool
        Whether clips without an embedding were excluded.
    encoder_identity, encoder_name : str
        Identity of weights, source and settings, and name in reports.
    encoder : dict
        Description of the encoder.
    warnings : list of str
        Warnings about the encoder.
    task : dict
        `Task`, without its folder.
    own_task : bool
        Whether it is a user's task.
    labels_hash : str
        Digest of the labels; empty if there were no data.
    manifest : str
        The manifest, relative to the result folder; empty for tar files.
    inputs : list of Input
        Files with the labels, as summaries list them.
    """

    release: str
    versions: list[int]
    settings: dict[str, Any]
    allow_missing: bool
    encoder_identity: str
    encoder_name: str
    encoder: dict[str, Any]
    warnings: list[str]
    task: dict[str, Any]
    own_task: bool
    labels_hash: str = ""
    manifest: str = ""
    inputs: list[Input] = Field(default_factory=list)

    @property
    def run_key(self) -> str:
        """Digest of everything that the tasks of one report have in common.

        The device is left out: CPU and GPU give the same scores to 1e-3, and jobs of one array may get either.
        """
        settings = {name: value for name, value in self.settings.items() if name != "device"}
        common = [self.release, self.versions, settings, self.allow_missing, self.encoder_identity]
        return sha256(json.dumps(common, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def probe_settings(self) -> ProbeSettings:
        """The settings."""
        known = {field.name for field in fields(ProbeSettings)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.settings.items()
            if name in known
        }
        return ProbeSettings(**values)

    def original_task(self) -> Task:
        """The task; the folder of a user's task is not recorded and becomes the working directory."""
        known = {field.name for field in fields(Task)} - {"home"}
        values = {name: value for name, value in self.task.items() if name in known}
        return Task(**values, home=Path() if self.own_task else None)

    def differences(self, other: "TaskOrigin") -> str:
        """What differs from the settings, release and encoder of another outcome, in words; empty if nothing does.

        Parameters
        ----------
        other : TaskOrigin
            The outcome to compare with; its values come second.
        """
        found = [
            f"{name} {_shown(value)} instead of {_shown(other.settings.get(name))}"
            for name, value in self.settings.items()
            if name != "device" and _plain(value) != _plain(other.settings.get(name))
        ]
        if self.allow_missing != other.allow_missing:
            found.append("with --allow-missing" if self.allow_missing else "without --allow-missing")
        if (self.release, self.versions) != (other.release, other.versions):
            found.append("another release")
        if self.encoder_identity != other.encoder_identity:
            found.append("another encoder or an earlier state of it")
        return ", ".join(found)


def _plain(value: Any) -> str:
    return json.dumps(value, default=str)


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


class TaskOutcome(StrictModel):
    """Scores and failures of a task.

    Attributes
    ----------
    key : str
        Digest of everything that the scores depend on.
    scores, classes, confusions : list
        Scores; metrics by class; confusions.
    failed : list of Failure
        Failures of the task or of a track and recipe.
    left_out : dict
        {reason: number of excluded clips}.
    predictions : list of str
        Names of the prediction files.
    shared_sources : SharedSources or None
        Sources in several folds or splits.
    alike_classes : list of lists of str
        Class names that differ only in case or spaces.
    unlike_published : str
        How the data differ from those of the published scores.
    origin : TaskOrigin or None
        What it was computed from; None in outcomes of the first releases.
    """

    key: str = ""
    scores: list[TaskScore] = Field(default_factory=list)
    classes: list[ClassTable] = Field(default_factory=list)
    confusions: list[Confusion] = Field(default_factory=list)
    failed: list[Failure] = Field(default_factory=list)
    left_out: dict[str, int] = Field(default_factory=dict)
    predictions: list[str] = Field(default_factory=list)
    shared_sources: SharedSources | None = None
    alike_classes: list[list[str]] = Field(default_factory=list)
    unlike_published: str = ""
    origin: TaskOrigin | None = None

    @classmethod
    def from_error(cls, error: Exception | str) -> Self:
        """Outcome of a task that failed as a whole."""
        return cls(failed=[Failure(error=str(error), missing=isinstance(error, MissingError))])

    @property
    def completed(self) -> set[tuple[str, str]]:
        """(track, recipe) pairs with all their scores."""
        return {(row.track, row.protocol) for row in self.scores} - {
            (failure.track, failure.protocol) for failure in self.failed
        }

    @property
    def is_final(self) -> bool:
        """Whether there is nothing to retry."""
        return not any(failure.again for failure in self.failed)

    def failed_tasks(self, name: str, script: str) -> list[FailedTask]:
        """The failures in the form of a summary.

        Parameters
        ----------
        name : str
            Name of the task.
        script : str
            Script name for commands in messages.
        """
        return [
            FailedTask(
                task=name,
                track=failure.track,
                protocol=failure.protocol,
                error=shown_text(failure.error.removeprefix(f"{name}: ").replace(SCRIPT_PLACEHOLDER, script)),
            )
            for failure in self.failed
        ]

    def with_failures_of(self, retry: "TaskOutcome") -> "TaskOutcome":
        """This outcome with the failures of a retry that produced no scores."""
        return self.model_copy(update={"failed": [*self.failed, *retry.failed]})

    def continuing(self, earlier: "TaskOutcome", kept_files: Sequence[str]) -> "TaskOutcome":
        """This outcome together with the completed tracks and recipes of an earlier run.

        Parameters
        ----------
        earlier : TaskOutcome
            Outcome of the earlier run.
        kept_files : sequence of str
            Its prediction files that stay valid.

        Returns
        -------
        TaskOutcome
            In the order of a complete run.
        """
        completed = earlier.completed
        return self.model_copy(
            update={
                "scores": _merge(earlier.scores, self.scores, completed),
                "classes": _merge(earlier.classes, self.classes, completed),
                "confusions": _merge(earlier.confusions, self.confusions, completed),
                "left_out": {**earlier.left_out, **self.left_out},
                "predictions": [*kept_files, *self.predictions],
            }
        )


class _HasTrackAndRecipe(Protocol):
    track: str
    protocol: str


Item = TypeVar("Item", bound=_HasTrackAndRecipe)


def _merge(earlier: Sequence[Item], new: Sequence[Item], completed: set[tuple[str, str]]) -> list[Item]:
    """Sort by layer (None first), track and recipe."""

    def order(item: Item) -> tuple[int, int, int]:
        layer = getattr(item, "layer", None)
        return -1 if layer is None else layer, TRACKS.index(item.track), RECIPES.index(item.protocol)

    return sorted([*(item for item in earlier if (item.track, item.protocol) in completed), *new], key=order)


# --- on disk ------------------------------------------------------------------------------------------------


TASKS, FAILED = "tasks", "failed"  # folders of outcomes: with scores, and failures of whole tasks
ITEMS = "items.npz"  # suffix of the files that comparisons of encoders read


def prediction_files(task: str) -> dict[str, tuple[str, str]]:
    """{name of a possible prediction file: (track, recipe)}."""
    name = file_name(task)
    return {f"{name}_{t}_{p}.{kind}": (t, p) for t, p, kind in product(TRACKS, RECIPES, ("csv", "npz", ITEMS))}


def stored_outcome(folder: Path, task: str, key: str) -> TaskOutcome | None:
    """Load the outcome of an earlier run.

    Parameters
    ----------
    folder : Path
        Result folder of the encoder.
    task : str
        Name of the task.
    key : str
        Digest that the stored outcome must have.

    Returns
    -------
    TaskOutcome or None
        None if there is none with this key, if it is from an incompatible release, or if prediction files are missing.
    """
    outcome = _read(folder, folder / TASKS / f"{file_name(task)}.json")
    return outcome if outcome is not None and outcome.key == key else None


def _read(folder: Path, file: Path) -> TaskOutcome | None:
    """The outcome in a file; None if it is from an incompatible release or if prediction files are missing."""
    try:
        outcome = TaskOutcome.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return outcome if all((folder / "predictions" / name).is_file() for name in outcome.predictions) else None


def stored_outcomes(folder: Path) -> list[tuple[str, TaskOutcome]]:
    """Load every outcome of a result folder that records what it was computed from.

    Parameters
    ----------
    folder : Path
        Result folder of an encoder.

    Returns
    -------
    list of (str, TaskOutcome)
        Task and outcome, sorted by task: first those with scores, then the failures of whole tasks.
    """
    found = []
    for kind in (TASKS, FAILED):
        for file in sorted((folder / kind).glob("*.json")):
            outcome = _read(folder, file)
            if outcome is not None and outcome.origin is not None:
                found.append((str(outcome.origin.task.get("name", file.stem)), outcome))
    return found


def store_failure(folder: Path, task: str, outcome: TaskOutcome) -> None:
    """Write the failure of a whole task, so that the report of another process can list it.

    It is a file of its own: scores of the task with other settings or data stay. Failures for which something is
    missing (data, a library) are not written, as they say nothing about the encoder.
    """
    if not outcome.scores and outcome.failed and not all(failure.missing for failure in outcome.failed):
        write_together({folder / FAILED / f"{file_name(task)}.json": outcome.model_dump_json() + "\n"})


def store_origin(folder: Path, task: str, outcome: TaskOutcome) -> None:
    """Write an outcome again, with what it was computed from."""
    write_together({folder / TASKS / f"{file_name(task)}.json": outcome.model_dump_json() + "\n"})


def has_results(folder: Path) -> bool:
    """Whether a result folder holds an outcome or a report."""
    stored = any(next((folder / kind).glob("*.json"), None) for kind in (TASKS, FAILED))
    return stored or (folder / "summary.json").exists()


def store_outcome(
    folder: Path, task: str, new: TaskOutcome, tables: Mapping[str, str | bytes], earlier: TaskOutcome
) -> TaskOutcome:
    """Write an outcome and its prediction files together with the completed part of an earlier run.

    Parameters
    ----------
    folder : Path
        Result folder of the encoder.
    task : str
        Name of the task.
    new : TaskOutcome
        Outcome of this run.
    tables : mapping
        {file name: content} of its predictions.
    earlier : TaskOutcome
        Outcome of an earlier run with the same key.

    Returns
    -------
    TaskOutcome
        Both outcomes combined.
    """
    files, completed = prediction_files(task), earlier.completed
    kept = [name for name in earlier.predictions if files.get(name) in completed]
    outcome = new.model_copy(update={"predictions": list(tables)}).continuing(earlier, kept)
    # Remove prediction files of tracks and recipes that are not part of this outcome.
    contents = {folder / "predictions" / name: tables.get(name) for name in files if name not in kept}
    text = outcome.model_dump_json() + "\n"
    file = f"{file_name(task)}.json"
    write_together({**contents, folder / TASKS / file: text, folder / FAILED / file: None})
    return outcome
