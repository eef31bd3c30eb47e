"""The clips of a task with labels, splits or folds, and sources."""

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

    Attributes
    ----------
    clips : list of Clip
        N clips.
    labels : array or list of length N
        By task type: clip (N,) int64 class indices; multilabel (N, C) 0/1; regression (N, k); frame: the events
        (onset, offset, class index) of each clip, in seconds; retrieval: captions of each clip; asr: transcripts.
    classes : list of str
        Class names in training; empty if labels are not classes.
    split : (N,) str or None
        `train`, `valid` or `test`; None if there are folds. Without `valid`, the published recipe selects the epoch
        on the test clips.
    fold : (N,) str or None
        Fold of each clip; None if there are splits.
    group : list of str
        Source of each clip (recording or speaker) where known, otherwise the clip itself.
    names : list of str
        Names of the clips in outputs: the path in the manifest or release, or x.tar:member.
    own_split : str
        Why splits or folds are not the published ones, where that is known beforehand; otherwise empty.
    """

    clips: list[Clip]
    labels: Labels
    classes: list[str]
    split: NDArray[np.str_] | None
    fold: NDArray[np.str_] | None
    group: list[str]
    names: list[str] = field(default_factory=list)
    own_split: str = ""

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", [shown_clip(clip) for clip in self.clips])

    @property
    def parts(self) -> NDArray[np.str_]:
        """(N,) split or fold of each clip."""
        parts = self.split if self.fold is None else self.fold
        assert parts is not None
        return parts

    @property
    def clip_classes(self) -> list[Collection[int]]:
        """Class indices in the label of each clip; empty if labels are not classes."""
        if not self.classes:
            return [()] * len(self.clips)
        if isinstance(self.labels, list):
            return [{int(event[2]) for event in events} for events in self.labels]
        return [(int(x),) for x in self.labels] if self.labels.ndim == 1 else [np.flatnonzero(x) for x in self.labels]

    def subset(self, mask: NDArray[np.bool_]) -> "TaskData":
        """The clips where `mask`, (N,) bool, is True."""
        indices = np.flatnonzero(mask)

        def pick(each: Any) -> Any:
            return [each[index] for index in indices] if isinstance(each, list) else each[indices]

        split, fold = (None if part is None else pick(part) for part in (self.split, self.fold))
        clips, labels, group, names = map(pick, (self.clips, self.labels, self.group, self.names))
        return TaskData(clips, labels, self.classes, split, fold, group, names, self.own_split)
