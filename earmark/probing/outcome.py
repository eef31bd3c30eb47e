"""What is known of a task once it is finished, or has failed, and how it is kept on disk."""

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
    """A task's scores and failures. key: a digest of all that they depend on. left_out: {what: how many}. predictions:
    the names of the files of them. alike_classes: that differ only in case or blanks. unlike_published: how its data
    differ from those that published scores are of.
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
        """Of a task of which nothing could be scored."""
        return cls(failed=[Failure(error=str(error), missing=isinstance(error, MissingError))])

    @property
    def completed(self) -> set[tuple[str, str]]:
        """Tracks and protocols that have all their scores."""
        return {(row.track, row.protocol) for row in self.scores} - {(one.track, one.protocol) for one in self.failed}

    @property
    def is_final(self) -> bool:
        """Whether there is nothing to try again."""
        return not any(one.again for one in self.failed)

    def failed_tasks(self, name: str, script: str) -> list[FailedTask]:
        """As a summary has them; name: of the task; script: what commands in messages call."""
        return [
            FailedTask(
                task=name,
                track=one.track,
                protocol=one.protocol,
                error=shown_text(one.error.removeprefix(f"{name}: ").replace(SCRIPT_PLACEHOLDER, script)),
            )
            for one in self.failed
        ]

    def with_failures_of(self, later: "TaskOutcome") -> "TaskOutcome":
        """With the failures of a later try, which found out nothing."""
        return self.model_copy(update={"failed": [*self.failed, *later.failed]})

    def continuing(self, earlier: "TaskOutcome", kept: Sequence[str]) -> "TaskOutcome":
        """With what an earlier run knew of tracks and protocols that it had done, in the order of a whole run.

        kept: their predictions' files.
        """
        done = earlier.completed
        return self.model_copy(
            update={
                "scores": _merged(earlier.scores, self.scores, done),
                "classes": _merged(earlier.classes, self.classes, done),
                "confusions": _merged(earlier.confusions, self.confusions, done),
                "left_out": {**earlier.left_out, **self.left_out},
                "predictions": [*kept, *self.predictions],
            }
        )


class _Placed(Protocol):
    track: str
    protocol: str


Item = TypeVar("Item", bound=_Placed)


def _merged(known: Sequence[Item], new: Sequence[Item], done: set[tuple[str, str]]) -> list[Item]:
    """Layer by layer, what has none first; then by track and protocol."""

    def order(item: Item) -> tuple[int, int, int]:
        layer = getattr(item, "layer", None)
        return -1 if layer is None else layer, TRACKS.index(item.track), RECIPES.index(item.protocol)

    return sorted([*(item for item in known if (item.track, item.protocol) in done), *new], key=order)


# --- on disk ------------------------------------------------------------------------------------------------


def prediction_files(task: str) -> dict[str, tuple[str, str]]:
    """{every file of predictions that a task may have: its track and protocol}."""
    name = file_name(task)
    return {f"{name}_{t}_{p}.{kind}": (t, p) for t, p, kind in product(TRACKS, RECIPES, ("csv", "npz"))}


def stored_outcome(folder: Path, task: str, key: str) -> TaskOutcome | None:
    """What an earlier run found with the same key, if the predictions that it wrote are still there.

    A file of an earlier release is none.
    """
    try:
        text = (folder / "tasks" / f"{file_name(task)}.json").read_text(encoding="utf-8")
        known = TaskOutcome.model_validate(json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    there = all((folder / "predictions" / name).is_file() for name in known.predictions)
    return known if known.key == key and there else None


def store_outcome(
    folder: Path, task: str, found: TaskOutcome, tables: Mapping[str, str | bytes], earlier: TaskOutcome
) -> TaskOutcome:
    """Write what was found, with the predictions' files in `tables`, beside what was done earlier; returns both."""
    places, done = prediction_files(task), earlier.completed
    kept = [name for name in earlier.predictions if places.get(name) in done]
    outcome = found.model_copy(update={"predictions": list(tables)}).continuing(earlier, kept)
    # Files of tracks and protocols that were not asked for now would stand beside scores that they do not belong to.
    contents = {folder / "predictions" / name: tables.get(name) for name in places if name not in kept}
    text = outcome.model_dump_json() + "\n"
    write_together({**contents, folder / "tasks" / f"{file_name(task)}.json": text})
    return outcome
