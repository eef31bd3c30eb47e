"""The clips of a task with their labels, splits or folds, and sources."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earmark.audio.clips import Clip, shown_clip
from earmark.probing.labels import Labels


@dataclass(frozen=True)
class TaskData:
    """The clips of a task.

    labels: by the task's type: clip (N,) int64, positions in classes; multilabel (N, C) 0/1; regression (N, k);
    frame: each clip's events (onset, offset, position in classes) in seconds; retrieval: each clip's captions; asr:
    transcripts. classes: of the training labels; empty where labels are no classes. split: (N,) train, valid or test;
    where the published recipe chooses the epoch on the test clips, there is no valid. fold: (N,). One of them is None.
    group: each clip's source recording or speaker where it is known, else the clip itself. names: what outputs call the
    clips: their path in the manifest, or x.tar:member.
    """

    clips: list[Clip]
    labels: Labels
    classes: list[str]
    split: NDArray[np.str_] | None
    fold: NDArray[np.str_] | None
    group: list[str]
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", [shown_clip(clip) for clip in self.clips])

    @property
    def parts(self) -> NDArray[np.str_]:
        """(N,) the split or fold of each clip, whichever there is."""
        parts = self.split if self.fold is None else self.fold
        assert parts is not None
        return parts

    @property
    def clip_classes(self) -> list[Collection[int]]:
        """The classes that each clip's label names; none where labels are no classes."""
        if not self.classes:
            return [()] * len(self.clips)
        if isinstance(self.labels, list):
            return [{int(event[2]) for event in events} for events in self.labels]
        return [(int(x),) for x in self.labels] if self.labels.ndim == 1 else [np.flatnonzero(x) for x in self.labels]

    def subset(self, kept: NDArray[np.bool_]) -> "TaskData":
        """The clips where `kept` is True."""
        places = np.flatnonzero(kept)

        def of(each: Any) -> Any:
            return [each[place] for place in places] if isinstance(each, list) else each[places]

        split, fold = (None if part is None else of(part) for part in (self.split, self.fold))
        return TaskData(of(self.clips), of(self.labels), self.classes, split, fold, of(self.group), of(self.names))
