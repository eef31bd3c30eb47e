"""What heads said of each test item, as a table that can be checked by hand."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.metrics.retrieval import rank_captions, rank_clips
from earmark.metrics.sound_events import segment_maxima
from earmark.probing.data import TaskData
from earmark.probing.evaluation import Answers
from earmark.probing.tasks import Task

IntArray = NDArray[np.int64]
Names = NDArray[np.object_]
Told = tuple[Any, list[Any]]  # the label of each item, and what each head said


def predictions(task: Task, data: TaskData, answers: Answers, clips: IntArray) -> pd.DataFrame:
    """A row for each test item: what it is, and what the heads said."""
    table: dict[str, Any] = {"clip": [data.names[clip] for clip in clips], "group": list(answers.group)}
    table["fold"] = answers.fold if data.fold is None or answers.draws else data.fold[clips]
    label, said = SAID["classes" if answers.classes else task.type](answers, np.array(data.classes, dtype=object))
    if label is not None:
        table["label"] = label
    return pd.DataFrame(table | {f"said_{i}": each for i, each in enumerate(said)})


def _classes(answers: Answers, names: Names) -> Told:
    return names[answers.labels], [names[classes] for classes in answers.classes]


def _labels(answers: Answers, names: Names) -> Told:
    def several(table: NDArray[Any]) -> list[str]:
        return ["|".join(names[row > 0]) for row in table]

    return several(answers.labels), [several(each) for each in answers.outputs]


def _numbers(answers: Answers, names: Names) -> Told:
    def several(table: NDArray[Any]) -> list[str]:
        return ["|".join(f"{value:.6g}" for value in row) for row in table]

    return several(answers.labels), [several(each) for each in answers.outputs]


def _frames(answers: Answers, names: Names) -> Told:
    """Labels as `segment:label`, segments counted from 0; a frame that has one label each as the label alone."""
    assert answers.edges is not None
    clips = list(pairwise(answers.edges.tolist()))
    if answers.labels.ndim == 1:
        said = [each.argmax(axis=1) for each in answers.outputs]
        known = [*names, ""]  # −1 is no label
        labels = ["|".join(known[code] for code in answers.labels[first:last]) for first, last in clips]
        return labels, [["|".join(names[each[first:last]]) for first, last in clips] for each in said]

    def several(table: NDArray[Any]) -> list[str]:
        found = []
        for first, last in clips:
            present = segment_maxima(table[first:last] > 0, answers.segment_frames, whole=answers.whole_segments)
            found.append("|".join(f"{segment}:{names[label]}" for segment, label in np.argwhere(present)))
        return found

    return several(answers.labels), [several(each) for each in answers.outputs]


def _texts(answers: Answers, names: Names) -> Told:
    return answers.labels, list(answers.outputs)


def _ranks(answers: Answers, names: Names) -> Told:
    """The rank of a clip's first caption among all; then, after a colon, the clip's rank for each of its captions."""
    assert answers.owner is not None
    owner = answers.owner
    captions = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])  # of each clip

    def both(similarity: NDArray[Any]) -> list[str]:
        of_clips, of_captions = (rank(similarity, owner).first_rank for rank in (rank_captions, rank_clips))
        return [f"{rank}:{'|'.join(map(str, of_captions[own]))}" for rank, own in zip(of_clips, captions, strict=True)]

    return None, [both(each) for each in answers.outputs]


SAID: dict[str, Callable[[Answers, Names], Told]] = {
    "classes": _classes,
    "multilabel": _labels,
    "regression": _numbers,
    "frame": _frames,
    "asr": _texts,
    "retrieval": _ranks,
}
