"""Probe one task: embed its clips once, then score every layer, track and recipe."""

import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.errors import EarmarkError, MissingError
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import PrecomputedEmbeddings
from earmark.probing.data import TaskData
from earmark.probing.evaluation import CALIBRATION_ERROR, score_on, source_bootstrap
from earmark.probing.features import ClipEmbedder, Features, candidate_ids
from earmark.probing.labels import near_duplicate_names
from earmark.probing.options import KNN, STRICT, STRICT_GIVEN_SPLITS, XARES, ProbeSettings
from earmark.probing.outcome import TaskOutcome
from earmark.probing.schema import ClassTable, Confusion, Failure, ScoreKey, SharedSources, TaskScore
from earmark.probing.sources import make_source_disjoint, source_overlap
from earmark.probing.splits import few_shot_folds, published_folds, require_training_classes, strict_folds
from earmark.probing.stored_predictions import predictions_to_npz
from earmark.probing.task_types import TaskType, task_type
from earmark.probing.tasks import Task
from earmark.probing.tracks import N_DRAWS, TrackInput, TrackResult, few_shot_track, knn_track
from earmark.probing.xares import differences_from_published

VERSION = 9  # increase it when scores of the same embeddings or stored results change


@dataclass
class ProbeResult:
    """Result of a task.

    Attributes
    ----------
    outcome : TaskOutcome
        Scores and failures.
    predictions : dict
        {(track, recipe): table with one row per test item}.
    outputs : dict
        {(track, recipe): arrays of logits and labels}, for types that keep them.
    items : dict
        {(track, recipe): content of a file with everything that a comparison of encoders needs}.
    """

    outcome: TaskOutcome = field(default_factory=TaskOutcome)
    predictions: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    outputs: dict[tuple[str, str], dict[str, NDArray[Any]]] = field(default_factory=dict)
    items: dict[tuple[str, str], bytes] = field(default_factory=dict)


def probe(
    task: Task,
    data: TaskData,
    embedder: ClipEmbedder,
    settings: ProbeSettings,
    *,
    data_root: Path,
    done: Collection[tuple[str, str]] = (),
) -> ProbeResult:
    """Compute all scores of a task.

    A failure of one track and recipe is recorded, and the others continue.

    Parameters
    ----------
    task : Task
        The task.
    data : TaskData
        Its clips and labels.
    embedder : ClipEmbedder
        Source of the embeddings.
    settings : ProbeSettings
        Settings of the run.
    data_root : Path
        Folder with the data of all tasks, for ids of precomputed embeddings.
    done : collection of (str, str)
        Tracks and recipes to skip.

    Raises
    ------
    EarmarkError, ValueError
        If the data or the embeddings cannot be probed at all.
    """
    type_, result = task_type(task), ProbeResult()
    outcome = result.outcome
    outcome.alike_classes = near_duplicate_names(data.classes)
    request = type_.embedding_request(layers=settings.layers is not None)
    features, has_embedding = embedder.embed(data.clips, request, candidate_ids(task.name, data, data_root))
    if not has_embedding.all():
        outcome.left_out[f"clips of {task.name} without an embedding"] = int((~has_embedding).sum())
        data = drop_clips(task, data, ~has_embedding)
    folds = data.fold is not None
    outcome.unlike_published = differences_from_published(
        task, data.classes, data.parts.tolist(), folds=folds, own_split=data.own_split
    )
    data_by_recipe = _data_by_recipe(task, data, settings, outcome)
    layers = settings.layers if request.layers else None
    hop = embedder.hop_seconds if type_.frames else None  # clip embeddings do not depend on the hop
    for layer, layer_features in _layers(features, embedder.encoder, layers):
        for track in settings.tracks:
            if track == KNN and not task.knn:
                continue
            for recipe, recipe_data in data_by_recipe.items():
                key = ScoreKey(track, recipe, layer)
                if (track, recipe) in done:
                    continue
                if isinstance(recipe_data, str):
                    outcome.failed.append(_failure(key, recipe_data))
                    continue
                started = time.perf_counter()
                try:
                    track_result = _run_track(type_, recipe_data, layer_features, hop, settings, key)
                    _store_scores(result, type_, track_result, settings, key, started)
                    if layer is None:
                        _store_predictions(result, type_, recipe_data, track_result, key)
                except Exception as error:  # such as out of accelerator memory; keep finished scores
                    outcome.failed.append(_failure(key, error))
    return result


def _data_by_recipe(
    task: Task, data: TaskData, settings: ProbeSettings, outcome: TaskOutcome
) -> dict[str, TaskData | str]:
    """{recipe: data in its splits or folds, or the reason why there are none}; records overlapping sources.

    If sources overlap between the given parts, `strict` uses source-disjoint parts, and the given ones become the
    recipe `strict_given_splits`.
    """
    recipes = settings.protocols if settings.shots is None else (STRICT,)
    data_by_recipe: dict[str, TaskData | str] = dict.fromkeys(recipes, data)
    overlap = source_overlap(data)
    if overlap is None:
        return data_by_recipe
    description = ""
    if STRICT in data_by_recipe:
        data_by_recipe[STRICT_GIVEN_SPLITS] = data
        try:
            disjoint = make_source_disjoint(data, settings.seed)
            require_training_classes(disjoint.data, strict_folds(disjoint.data, settings.seed))
        except ValueError as error:
            description = f"no source-disjoint splits: {error}"
            data_by_recipe[STRICT] = description
        else:
            description, data_by_recipe[STRICT] = disjoint.description, disjoint.data
            if disjoint.n_excluded:
                outcome.left_out[f"clips of {task.name} whose source is in the test or validation set ({STRICT})"] = (
                    disjoint.n_excluded
                )
    outcome.shared_sources = SharedSources(task=task.name, strict=description, **asdict(overlap))
    return data_by_recipe


def _failure(key: ScoreKey, error: Exception | str) -> Failure:
    """Make a failure; an exception is retried in the next run, a text is not."""
    expected = isinstance(error, (EarmarkError, ValueError, str))
    return Failure(
        **asdict(key),
        error=str(error) if expected else f"{type(error).__name__}: {error}",
        missing=isinstance(error, MissingError),
        again=isinstance(error, Exception),
    )


def drop_clips(task: Task, data: TaskData, missing: NDArray[np.bool_]) -> TaskData:
    """Remove clips from the data.

    Parameters
    ----------
    task : Task
        The task.
    data : TaskData
        N clips.
    missing : (N,) bool
        Clips to remove.

    Raises
    ------
    EarmarkError
        If a split or fold has no clips left.
    """
    remaining = data.subset(~missing)
    if empty := sorted(set(data.parts.tolist()) - set(remaining.parts.tolist())):
        raise EarmarkError(f"{task.name}: no clip of {', '.join(empty)} has an embedding.")
    return remaining


def _layers(
    features: Features, encoder: Encoder | PrecomputedEmbeddings, layers: tuple[int, ...] | None
) -> Iterator[tuple[int | None, Features]]:
    """Yield each requested layer and its features."""
    if layers is None or isinstance(encoder, PrecomputedEmbeddings):
        yield None, features
        return
    by_layer = features.x.reshape(len(features.x), encoder.layers, -1)
    numbers = layers or tuple(range(encoder.layers))
    if out_of_range := [number for number in numbers if number >= encoder.layers]:
        raise ValueError(f"layer {out_of_range[0]}: {encoder.name} has layers 0 to {encoder.layers - 1}")
    for number in numbers:
        yield number, replace(features, x=np.ascontiguousarray(by_layer[:, number]))


def _run_track(
    type_: TaskType, data: TaskData, features: Features, hop: float | None, settings: ProbeSettings, key: ScoreKey
) -> TrackResult:
    """Train and predict the test items."""
    folds = published_folds(data) if key.protocol == XARES else strict_folds(data, settings.seed)
    require_training_classes(data, folds)
    if settings.shots is not None:
        if not type_.supports_few_shot:
            raise ValueError(f"few-shot training needs one class per clip; {type_.task.name} is a {type_.name} task")
        draws = few_shot_folds(np.asarray(data.labels), folds[0], settings.shots, N_DRAWS, settings.seed)
        return few_shot_track(TrackInput(data, features, draws, settings, key.protocol), key.track, settings.shots)
    inputs = TrackInput(data, features, folds, settings, key.protocol, hop)
    return knn_track(inputs) if key.track == KNN else type_.train(inputs)


def _store_scores(
    result: ProbeResult,
    type_: TaskType,
    track_result: TrackResult,
    settings: ProbeSettings,
    key: ScoreKey,
    started: float,
) -> None:
    """Record the scores of the predictions."""
    task, predictions, outcome = type_.task, track_result.predictions, result.outcome
    for reason, count in predictions.left_out.items():
        outcome.left_out[f"{reason} ({task.name}, {key.track}, {key.protocol})"] = count
    rng = np.random.default_rng((settings.seed, crc32(task.name.encode())))
    bootstrap = source_bootstrap(predictions, settings.replicates, rng)
    # Heads of the published recipe may be selected on test clips, those of few-shot training on no validation clips.
    calibration = key.protocol != XARES and settings.shots is None
    for metric in type_.metrics_on(key.track, calibration=calibration):
        estimate = score_on(metric, predictions, bootstrap)
        if estimate.value is None and metric != CALIBRATION_ERROR:  # which few test sources leave undefined
            outcome.failed.append(_failure(key, f"{metric} is undefined: {estimate.why}"))
        outcome.scores.append(
            TaskScore(
                task=task.name,
                formal_name=task.formal_name,
                domain=task.domain,
                **asdict(key),
                metric=metric,
                score=estimate,
                n_test=predictions.n,
                counts=track_result.item_kind,
                weight=task.weight,
                private=task.private,
                folds=len(np.unique(predictions.fold)),
                n_heads=predictions.n_heads,
                seconds=round(time.perf_counter() - started, 3),
                shots=settings.shots,
                chosen=track_result.chosen,
            )
        )


def _store_predictions(
    result: ProbeResult, type_: TaskType, data: TaskData, track_result: TrackResult, key: ScoreKey
) -> None:
    """Record predictions, outputs and metrics by class."""
    predictions, file_key = track_result.predictions, (key.track, key.protocol)
    result.predictions[file_key] = predictions_table(type_, data, track_result)
    result.items[file_key] = predictions_to_npz(predictions, [data.names[clip] for clip in track_result.clips])
    if predictions.outputs and type_.keeps_outputs:
        outputs = np.stack(predictions.outputs).astype(np.float32)
        result.outputs[file_key] = {"outputs": outputs, "labels": np.asarray(predictions.labels)}
    tables = type_.class_tables(predictions, data.classes)
    if tables.rows:
        result.outcome.classes.append(ClassTable(track=key.track, protocol=key.protocol, rows=tables.rows))
    if tables.lowest_recall is not None:
        confusion = Confusion(track=key.track, protocol=key.protocol, **dict(tables.lowest_recall))
        result.outcome.confusions.append(confusion)


def predictions_table(type_: TaskType, data: TaskData, track_result: TrackResult) -> pd.DataFrame:
    """Table of predictions with one row per test item.

    Parameters
    ----------
    type_ : TaskType
        Formats labels and predictions.
    data : TaskData
        Names of clips and classes.
    track_result : TrackResult
        The predictions.

    Returns
    -------
    DataFrame
        Columns clip, group (the source), fold, label (if there is one to show) and said_<i>, the prediction of head i.
    """
    predictions = track_result.predictions
    table: dict[str, Any] = {
        "clip": [data.names[clip] for clip in track_result.clips],
        "group": list(predictions.group),
    }
    table["fold"] = predictions.fold if data.fold is None or predictions.draws else data.fold[track_result.clips]
    columns = type_.prediction_columns(predictions, np.array(data.classes, dtype=object))
    if columns.label is not None:
        table["label"] = columns.label
    return pd.DataFrame(table | {f"said_{i}": each for i, each in enumerate(columns.predicted)})
