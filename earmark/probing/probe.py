"""One task probed: its clips embedded once, then every layer, track and protocol scored on the same rows."""

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
from earmark.probing.evaluation import score
from earmark.probing.features import ClipEmbedder, Features, candidate_ids
from earmark.probing.labels import near_duplicate_names
from earmark.probing.options import KNN, STRICT, STRICT_GIVEN_SPLITS, XARES, ProbeSettings
from earmark.probing.outcome import TaskOutcome
from earmark.probing.schema import ClassTable, Confusion, Failure, ScoreKey, SharedSources, TaskScore
from earmark.probing.sources import make_source_disjoint, source_overlap
from earmark.probing.splits import few_shot_folds, published_folds, require_training_classes, strict_folds
from earmark.probing.task_types import TaskType, task_type
from earmark.probing.tasks import Task
from earmark.probing.tracks import N_DRAWS, TrackInput, TrackResult, few_shot_track, knn_track
from earmark.probing.xares import differences_from_published

VERSION = 8  # raise it whenever a score of the same embeddings changes, or what is kept of it


@dataclass
class ProbeResult:
    """A finished task. predictions: {(track, protocol): a row for each test item}; outputs: the numbers behind them,
    where a class or label was chosen by them.
    """

    outcome: TaskOutcome = field(default_factory=TaskOutcome)
    predictions: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    outputs: dict[tuple[str, str], dict[str, NDArray[Any]]] = field(default_factory=dict)


def probe(
    task: Task,
    data: TaskData,
    embedder: ClipEmbedder,
    settings: ProbeSettings,
    *,
    data_root: Path,
    done: Collection[tuple[str, str]] = (),
) -> ProbeResult:
    """Every score of a task. EarmarkError or ValueError for data or embeddings that cannot be probed at all.

    What goes wrong with one track and protocol is noted, and the others go on. done: those that are not asked for.
    """
    kind, result = task_type(task), ProbeResult()
    outcome = result.outcome
    outcome.alike_classes = near_duplicate_names(data.classes)
    request = kind.embedding_request(layers=settings.layers is not None)
    rows, kept = embedder.embed(data.clips, request, candidate_ids(task.name, data, data_root))
    if not kept.all():
        outcome.left_out[f"clips of {task.name} without an embedding"] = int((~kept).sum())
        data = drop_clips(task, data, ~kept)
    folds = data.fold is not None
    outcome.unlike_published = differences_from_published(task, data.classes, data.parts.tolist(), folds=folds)
    divided = _divided(task, data, settings, outcome)
    wanted = settings.layers if request.layers else None
    hop = embedder.hop_seconds if kind.frames else None  # wrong times of frames are no fault of a clip's embedding
    for layer, of_layer in _layers(rows, embedder.encoder, wanted):
        for track in settings.tracks:
            if track == KNN and not task.knn:
                continue
            for protocol, arranged in divided.items():
                key = ScoreKey(track, protocol, layer)
                if (track, protocol) in done:
                    continue
                if isinstance(arranged, str):
                    outcome.failed.append(_failure(key, arranged))
                    continue
                started = time.perf_counter()
                try:
                    found = _run_track(kind, arranged, of_layer, hop, settings, key)
                    _score(result, kind, found, settings, key, started)
                    if layer is None:
                        _describe(result, kind, arranged, found, key)
                except Exception as error:  # an accelerator without memory, say; what is done is worth keeping
                    outcome.failed.append(_failure(key, error))
    return result


def _divided(task: Task, data: TaskData, settings: ProbeSettings, outcome: TaskOutcome) -> dict[str, TaskData | str]:
    """{protocol: the data in its splits or folds, or why there are none}; notes what spans.

    Where sources span what is given, `strict` is by source, and the given splits or folds are a protocol of their own.
    """
    asked = settings.protocols if settings.shots is None else (STRICT,)
    divided: dict[str, TaskData | str] = dict.fromkeys(asked, data)
    spans = source_overlap(data)
    if spans is None:
        return divided
    how = ""
    if STRICT in divided:
        divided[STRICT_GIVEN_SPLITS] = data
        try:
            anew = make_source_disjoint(data, settings.seed)
            require_training_classes(anew.data, strict_folds(anew.data, settings.seed))
        except ValueError as error:
            how = f"not possible by source: {error}"
            divided[STRICT] = f"strict is {how}"
        else:
            how, divided[STRICT] = anew.description, anew.data
            if anew.n_excluded:
                outcome.left_out[f"clips of {task.name} whose source is tested or validates ({STRICT})"] = (
                    anew.n_excluded
                )
    outcome.shared_sources = SharedSources(task=task.name, strict=how, **asdict(spans))
    return divided


def _failure(key: ScoreKey, error: Exception | str) -> Failure:
    """Tried again the next time, but for a text: that is what the data make of it, each time."""
    plain = isinstance(error, (EarmarkError, ValueError, str))
    return Failure(
        **asdict(key),
        error=str(error) if plain else f"{type(error).__name__}: {error}",
        missing=isinstance(error, MissingError),
        again=isinstance(error, Exception),
    )


def drop_clips(task: Task, data: TaskData, missing: NDArray[np.bool_]) -> TaskData:
    """The data without some clips; EarmarkError where a split or fold lost all of its clips."""
    left = data.subset(~missing)
    if empty := sorted(set(data.parts.tolist()) - set(left.parts.tolist())):
        raise EarmarkError(f"{task.name}: no clip of {', '.join(empty)} has an embedding; nothing can stand in for it.")
    return left


def _layers(
    rows: Features, encoder: Encoder | PrecomputedEmbeddings, wanted: tuple[int, ...] | None
) -> Iterator[tuple[int | None, Features]]:
    """The rows of each wanted layer, from one pass over the audio."""
    if wanted is None or isinstance(encoder, PrecomputedEmbeddings):
        yield None, rows
        return
    each = rows.x.reshape(len(rows.x), encoder.layers, -1)
    numbers = wanted or tuple(range(encoder.layers))
    if beyond := [number for number in numbers if number >= encoder.layers]:
        raise ValueError(f"layer {beyond[0]}: {encoder.name} has the layers 0 to {encoder.layers - 1}")
    for number in numbers:
        yield number, replace(rows, x=np.ascontiguousarray(each[:, number]))


def _run_track(
    kind: TaskType, data: TaskData, rows: Features, hop: float | None, settings: ProbeSettings, key: ScoreKey
) -> TrackResult:
    """Predictions on the test items."""
    folds = published_folds(data) if key.protocol == XARES else strict_folds(data, settings.seed)
    require_training_classes(data, folds)
    if settings.shots is not None:
        if not kind.supports_few_shot:
            raise ValueError(f"few-shot training needs clips of one class; {kind.task.name} is a {kind.name} task")
        draws = few_shot_folds(np.asarray(data.labels), folds[0], settings.shots, N_DRAWS, settings.seed)
        return few_shot_track(TrackInput(data, rows, draws, settings, key.protocol), key.track, settings.shots)
    on = TrackInput(data, rows, folds, settings, key.protocol, hop)
    return knn_track(on) if key.track == KNN else kind.train(on)


def _score(
    result: ProbeResult, kind: TaskType, found: TrackResult, settings: ProbeSettings, key: ScoreKey, started: float
) -> None:
    """Note every score of the predictions."""
    task, predictions, outcome = kind.task, found.predictions, result.outcome
    for reason, count in predictions.left_out.items():
        outcome.left_out[f"{reason} ({task.name}, {key.track}, {key.protocol})"] = count
    for metric in kind.metrics_on(key.track):
        rng = np.random.default_rng((settings.seed, crc32(task.name.encode())))
        estimate = score(metric, predictions, settings.replicates, rng)
        if estimate.value is None:
            outcome.failed.append(_failure(key, f"{metric} does not exist: {estimate.why}"))
        outcome.scores.append(
            TaskScore(
                task=task.name,
                formal_name=task.formal_name,
                domain=task.domain,
                **asdict(key),
                metric=metric,
                score=estimate,
                n_test=predictions.n,
                counts=found.item_kind,
                weight=task.weight,
                private=task.private,
                folds=len(np.unique(predictions.fold)),
                n_heads=predictions.n_heads,
                seconds=round(time.perf_counter() - started, 3),
                shots=settings.shots,
                chosen=found.chosen,
            )
        )


def _describe(result: ProbeResult, kind: TaskType, data: TaskData, found: TrackResult, key: ScoreKey) -> None:
    """Keep the predictions, the outputs behind them, and what they are class by class."""
    predictions, place = found.predictions, (key.track, key.protocol)
    result.predictions[place] = predictions_table(kind, data, found)
    if predictions.outputs and kind.keeps_outputs:
        outputs = np.stack(predictions.outputs).astype(np.float32)
        result.outputs[place] = {"outputs": outputs, "labels": np.asarray(predictions.labels)}
    tables = kind.class_tables(predictions, data.classes)
    if tables.rows:
        result.outcome.classes.append(ClassTable(track=key.track, protocol=key.protocol, rows=tables.rows))
    if tables.lowest_recall is not None:
        confused = Confusion(track=key.track, protocol=key.protocol, **dict(tables.lowest_recall))
        result.outcome.confusions.append(confused)


def predictions_table(kind: TaskType, data: TaskData, found: TrackResult) -> pd.DataFrame:
    """A row for each test item: what it is, and what the heads said."""
    predictions = found.predictions
    table: dict[str, Any] = {"clip": [data.names[clip] for clip in found.clips], "group": list(predictions.group)}
    table["fold"] = predictions.fold if data.fold is None or predictions.draws else data.fold[found.clips]
    columns = kind.prediction_columns(predictions, np.array(data.classes, dtype=object))
    if columns.label is not None:
        table["label"] = columns.label
    return pd.DataFrame(table | {f"said_{i}": each for i, each in enumerate(columns.predicted)})
