"""Tracks shared by all task types: linear heads, k-nearest neighbours, and few-shot training."""

from collections.abc import Mapping, Sequence
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

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # candidates of the strict recipe, selected on validation
N_DRAWS = 10  # draws of few-shot training


class SourcesAndFolds(TypedDict):
    """Source and fold of each scored item."""

    group: list[str]
    fold: IntArray


@dataclass(frozen=True)
class TrackInput:
    """Input of a track.

    Attributes
    ----------
    data : TaskData
        Clips and labels.
    features : Features
        Embeddings of the clips.
    folds : sequence of Fold
        Training, validation and test clips.
    settings : ProbeSettings
        Settings of the run.
    recipe : str
        `xares`, `strict` or `strict_given_splits`.
    hop : float or None
        Seconds between frames; None if unknown.
    """

    data: TaskData
    features: Features
    folds: Sequence[Fold]
    settings: ProbeSettings
    recipe: str
    hop: float | None = None

    @property
    def published(self) -> bool:
        """Whether this is the published recipe (xares)."""
        return self.recipe == XARES

    @property
    def test_clips(self) -> IntArray:
        """Test clips of all folds, fold by fold."""
        return np.concatenate([fold.test for fold in self.folds])

    def sources_and_folds(self, clips: IntArray) -> SourcesAndFolds:
        """Source and test fold of items that belong to these clips."""
        number = np.zeros(len(self.data.clips), dtype=np.int64)
        for fold in self.folds:
            number[fold.test] = fold.number
        return {"group": [self.data.group[clip] for clip in clips], "fold": number[clips]}


@dataclass(frozen=True)
class TrackResult:
    """Result of a track on the test items.

    Attributes
    ----------
    predictions : Predictions
        Outputs of the heads.
    clips : (n,) int
        Clip of each item.
    chosen : str
        Hyperparameters selected on validation.
    item_kind : str
        Unit of the items: clips, crops or utterances.
    """

    predictions: Predictions
    clips: IntArray
    chosen: str = ""
    item_kind: str = "clips"


@dataclass(frozen=True)
class HeadOutputs:
    """Outputs of linear heads on the test rows.

    Attributes
    ----------
    outputs : list of (r, n_outputs) float
        For each seed, the outputs on the rows of all test clips, fold by fold.
    chosen : str
        Learning rates selected on validation.
    """

    outputs: list[NDArray[Any]]
    chosen: str

    def mean_by_clip(self, clip: IntArray, clips: IntArray) -> list[NDArray[Any]]:
        """Average the outputs over the rows of each clip.

        Parameters
        ----------
        clip : (r,) int
            Clip of each row.
        clips : (n,) int
            Order of the result.
        """
        positions = np.searchsorted(np.unique(clip), clips)
        return [np.asarray(mean_by_clip(each, clip)[0][positions]) for each in self.outputs]


def train_linear_heads(
    inputs: TrackInput,
    labels: NDArray[Any],
    config: HeadConfig,
    choose: SelectionMetric,
    rate: float,
    *,
    whole_clips: bool = False,
) -> HeadOutputs:
    """Train the heads of all folds, seeds and learning rates together.

    Parameters
    ----------
    inputs : TrackInput
        Embeddings, folds and settings.
    labels : (R, …) array
        Label of each row.
    config : HeadConfig
        Loss and training parameters.
    choose : callable
        Score that selects epoch and learning rate.
    rate : float
        Learning rate of the published recipe.
    whole_clips : bool
        Whether batches consist of clips with all their rows instead of rows.

    Returns
    -------
    HeadOutputs
        Of the best learning rate for each fold and seed.
    """
    features, first_seed = inputs.features, inputs.settings.seed
    row_folds = [
        Fold(fold.number, *map(features.row_indices, (fold.train, fold.valid, fold.test))) for fold in inputs.folds
    ]
    heads = train_heads(
        features.x,
        labels,
        inputs.folds if whole_clips else row_folds,
        config,
        choose,
        seeds=[first_seed] if inputs.published else range(first_seed, first_seed + inputs.settings.seeds),
        learning_rates=[rate] if inputs.published else LEARNING_RATES,
        offsets=features.offsets if whole_clips else None,
        best_rate_only=True,
        device=inputs.settings.device,
    )
    by_seed: dict[int, list[NDArray[Any]]] = {}
    for head in heads:
        by_seed.setdefault(head.seed, []).append(head.test)
    chosen = "" if inputs.published else "learning rate " + ", ".join(f"{head.learning_rate:g}" for head in heads)
    return HeadOutputs([np.concatenate(outputs) for outputs in by_seed.values()], chosen)


def knn_track(inputs: TrackInput) -> TrackResult:
    """k-NN probe: xares votes for crops with k = 10, strict uses clip means and selects k on validation."""
    features, labels, published = inputs.features, np.asarray(inputs.data.labels), inputs.published
    x = features.x if published else features.means()
    clip = features.clip if published else np.arange(len(inputs.data.clips))
    recipe: Literal["strict", "published"] = "published" if published else "strict"
    predicted, chosen = [], []
    for fold in inputs.folds:
        parts = (fold.train, fold.valid, fold.test)
        train, valid, test = map(features.row_indices, parts) if published else parts
        k, device = PUBLISHED_K, inputs.settings.device
        if not published:
            by_k = knn_predict(x[train], labels[clip[train]], x[valid], K_CANDIDATES, device=device, overwrite=True)
            k = best_k({each: float((by_k[each] == labels[clip[valid]]).mean()) for each in K_CANDIDATES})
            chosen.append(f"{k}")
        # Indexing copies the rows, so they may be overwritten.
        found = knn_predict(x[train], labels[clip[train]], x[test], (k,), recipe=recipe, device=device, overwrite=True)
        predicted.append(found[k])
    items = clip[features.row_indices(inputs.test_clips)] if published else inputs.test_clips
    classes = [np.concatenate(predicted)]
    predictions = ClassPredictions(
        **inputs.sources_and_folds(items), labels=labels[items], classes=classes, by_fold=published
    )
    item_kind = "crops" if published and features.crops else "clips"
    return TrackResult(predictions, items, "" if published else f"k {', '.join(chosen)}", item_kind)


def best_k(shares: Mapping[int, float]) -> int:
    """Select the number of neighbours.

    Parameters
    ----------
    shares : mapping
        {k: share of correct validation clips}, in increasing order of k.

    Returns
    -------
    int
        The k with the highest share; the middle one on ties, and of two the larger. Few validation clips often leave
        several k tied, and the extreme ones are worse on other clips (METRICS.md).

    Examples
    --------
    >>> best_k({1: 0.9, 5: 0.9, 10: 0.9, 20: 0.8}), best_k({1: 0.9, 5: 0.9, 10: 0.8})
    (5, 5)
    """
    tied = [k for k, share in shares.items() if share == max(shares.values())]
    return tied[len(tied) // 2]


def few_shot_track(inputs: TrackInput, track: str, shots: int) -> TrackResult:
    """Heads or k-NN classifiers of every draw, on clip means; validation is not used.

    Parameters
    ----------
    inputs : TrackInput
        Its folds are the draws, which differ only in the training clips.
    track : str
        `linear` or `knn`.
    shots : int
        Training clips per class; k is the larger of 10 and `shots`.
    """
    draws, labels, x = inputs.folds, np.asarray(inputs.data.labels), inputs.features.means()
    items, k = draws[0].test, max(PUBLISHED_K, shots)
    outputs: list[Any] = []
    if track == LINEAR:
        n = len(inputs.data.classes)
        outputs = [few_shot_logits(x[draw.train], labels[draw.train], x[items], n) for draw in draws]
        classes = [each.argmax(axis=1) for each in outputs]
    else:
        device = inputs.settings.device
        classes = [knn_predict(x[draw.train], labels[draw.train], x[items], (k,), device=device)[k] for draw in draws]
    sources_and_folds = replace(inputs, folds=draws[:1]).sources_and_folds(items)
    predictions = ClassPredictions(
        **sources_and_folds, labels=labels[items], outputs=outputs, classes=classes, draws=True
    )
    return TrackResult(predictions, items, "" if track == LINEAR else f"k {k}")
