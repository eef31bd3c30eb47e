"""Store and reload the outcome of a task: its scores and failures."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Protocol, Self, TypeVar

from pydantic import Field

from earmark.errors import SCRIPT_PLACEHOLDER, MissingError
from earmark.files.atomic import write_together
from earmark.probing.options import RECIPES, TRACKS
from earmark.probing.schema import ClassTable, Confusion, FailedTask, Failure, SharedSources, TaskScore
from earmark.report.provenance import file_name, shown_text
from earmark.report.schema import StrictModel


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
    try:
        text = (folder / "tasks" / f"{file_name(task)}.json").read_text(encoding="utf-8")
        outcome = TaskOutcome.model_validate(json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    complete = all((folder / "predictions" / name).is_file() for name in outcome.predictions)
    return outcome if outcome.key == key and complete else None


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
    write_together({**contents, folder / "tasks" / f"{file_name(task)}.json": text})
    return outcome
