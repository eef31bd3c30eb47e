"""The tracks that all tasks share: linear heads trained together, nearest neighbours, few shots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from earmark.probing.data import TaskData
from earmark.probing.evaluation import ClassPredictions, Predictions
from earmark.probing.features import Features
from earmark.probing.heads.few_shot import few_shot_logits
from earmark.probing.heads.knn import K_CANDIDATES, PUBLISHED_K, knn_predict
from earmark.probing.heads.linear import Fold, HeadConfig, train_heads
from earmark.probing.heads.selection import SelectionMetric, mean_by_clip
from earmark.probing.options import LINEAR, XARES, ProbeSettings

IntArray = NDArray[np.int64]

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of the strict protocol, chosen on validation
N_DRAWS = 10  # of few-shot training


class SourcesAndFolds(TypedDict):
    """The source and fold of each scored item."""

    group: list[str]
    fold: IntArray


@dataclass(frozen=True)
class TrackInput:
    """What a track works on: a task's data, the rows of its clips, and which clips train, choose and test.

    hop: seconds from frame to frame; None where nothing says so.
    """

    data: TaskData
    rows: Features
    folds: Sequence[Fold]
    settings: ProbeSettings
    recipe: str
    hop: float | None = None

    @property
    def published(self) -> bool:
        """Whether the recipe is the published one."""
        return self.recipe == XARES

    @property
    def test_clips(self) -> IntArray:
        """The test clips of all folds, fold after fold."""
        return np.concatenate([fold.test for fold in self.folds])

    def sources_and_folds(self, clips: IntArray) -> SourcesAndFolds:
        """Of items that belong to these clips, each tested in one of the folds."""
        number = np.zeros(len(self.data.clips), dtype=np.int64)
        for fold in self.folds:
            number[fold.test] = fold.number
        return {"group": [self.data.group[clip] for clip in clips], "fold": number[clips]}


@dataclass(frozen=True)
class TrackResult:
    """What a track gives on the test items. clips: (n,) the clip of each. chosen: what validation chose, in words.
    counts: what the items are.
    """

    predictions: Predictions
    clips: IntArray
    chosen: str = ""
    item_kind: str = "clips"


@dataclass(frozen=True)
class HeadOutputs:
    """For each seed the outputs of its heads on the rows of all test clips, fold after fold; chosen: learning rates."""

    outputs: list[NDArray[Any]]
    chosen: str

    def mean_by_clip(self, clip: IntArray, clips: IntArray) -> list[NDArray[Any]]:
        """The mean over each clip's rows, in the order of `clips`. clip: of each row."""
        at = np.searchsorted(np.unique(clip), clips)
        return [np.asarray(mean_by_clip(each, clip)[0][at]) for each in self.outputs]


def train_linear_heads(
    on: TrackInput,
    labels: NDArray[Any],
    recipe: HeadConfig,
    choose: SelectionMetric,
    rate: float,
    *,
    whole_clips: bool = False,
) -> HeadOutputs:
    """Heads of all folds, seeds and learning rates, trained together on labels by row.

    rate: of the published recipe. whole_clips: batches are of clips with all their rows.
    """
    rows, first = on.rows, on.settings.seed
    in_rows = [Fold(own.number, *map(rows.row_indices, (own.train, own.valid, own.test))) for own in on.folds]
    heads = train_heads(
        rows.x,
        labels,
        on.folds if whole_clips else in_rows,
        recipe,
        choose,
        seeds=[first] if on.published else range(first, first + on.settings.seeds),
        learning_rates=[rate] if on.published else LEARNING_RATES,
        offsets=rows.offsets if whole_clips else None,
        best_rate_only=True,
        device=on.settings.device,
    )
    by_seed: dict[int, list[NDArray[Any]]] = {}
    for head in heads:
        by_seed.setdefault(head.seed, []).append(head.test)
    chosen = "" if on.published else "learning rate " + ", ".join(f"{head.learning_rate:g}" for head in heads)
    return HeadOutputs([np.concatenate(outputs) for outputs in by_seed.values()], chosen)


def knn_track(on: TrackInput) -> TrackResult:
    """Nearest neighbours: published on crops as they are, strict on the means of clips with k chosen on validation."""
    rows, labels, published = on.rows, np.asarray(on.data.labels), on.published
    x = rows.x if published else rows.means()
    clip = rows.clip if published else np.arange(len(on.data.clips))
    kind: Literal["strict", "published"] = "published" if published else "strict"
    named, chosen = [], []
    for fold in on.folds:
        parts = (fold.train, fold.valid, fold.test)
        train, valid, test = map(rows.row_indices, parts) if published else parts
        k = PUBLISHED_K
        if not published:
            tried = knn_predict(x[train], labels[clip[train]], x[valid], K_CANDIDATES)
            k = max(K_CANDIDATES, key=lambda each: float((tried[each] == labels[clip[valid]]).mean()))
            chosen.append(f"{k}")
        named.append(knn_predict(x[train], labels[clip[train]], x[test], (k,), protocol=kind)[k])
    items = clip[rows.row_indices(on.test_clips)] if published else on.test_clips
    classes = [np.concatenate(named)]
    predictions = ClassPredictions(
        **on.sources_and_folds(items), labels=labels[items], classes=classes, by_fold=published
    )
    counts = "crops" if published and rows.crops else "clips"
    return TrackResult(predictions, items, "" if published else f"k {', '.join(chosen)}", counts)


def few_shot_track(on: TrackInput, track: str, shots: int) -> TrackResult:
    """Heads or neighbours of every draw, on the means of clips; validation clips are not looked at.

    Folds are draws, which differ in what trains alone. Of neighbours the nearest 10 vote, or as many as a class has
    shots.
    """
    draws, labels, x = on.folds, np.asarray(on.data.labels), on.rows.means()
    items, k = draws[0].test, max(PUBLISHED_K, shots)
    outputs: list[Any] = []
    if track == LINEAR:
        n = len(on.data.classes)
        outputs = [few_shot_logits(x[one.train], labels[one.train], x[items], n) for one in draws]
        classes = [each.argmax(axis=1) for each in outputs]
    else:
        classes = [knn_predict(x[one.train], labels[one.train], x[items], (k,))[k] for one in draws]
    placed = replace(on, folds=draws[:1]).sources_and_folds(items)
    predictions = ClassPredictions(**placed, labels=labels[items], outputs=outputs, classes=classes, draws=True)
    return TrackResult(predictions, items, "" if track == LINEAR else f"k {k}")
