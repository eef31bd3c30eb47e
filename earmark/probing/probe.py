"""One task probed: its clips embedded once, then every layer, track and protocol scored on the same rows."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from earmark.embeddings.store import EmbeddingStore
from earmark.errors import EarmarkError, MissingError
from earmark.metrics.estimate import Estimate
from earmark.models.encoders.base import Encoder
from earmark.models.encoders.precomputed import GivenEmbeddings
from earmark.probing.comparison import own
from earmark.probing.confusion import by_frame, confusion, hardest, per_class, per_label
from earmark.probing.data import TaskData
from earmark.probing.evaluation import Answers, score
from earmark.probing.features import (
    STRICT,
    STRICT_GIVEN,
    XARES,
    Rows,
    Watch,
    drawn_folds,
    embedded,
    ids_of,
    published_folds,
    require_taught,
    strict_folds,
    view_of,
)
from earmark.probing.predictions import predictions
from earmark.probing.sources import Spanning, by_source, spanning
from earmark.probing.tasks import Task
from earmark.probing.tracks import DRAWS, KNN, TRAINED, Settings, few_shots, linear, neighbours

IntArray = NDArray[np.int64]

HARDEST = 8  # classes whose confusions are shown
VERSION = 4  # raise it whenever a score of the same embeddings changes
ALSO = {("regression", "mse"): ("mae",), ("regression", "mae"): ("mse",)}  # metrics reported beside the task's own


@dataclass(frozen=True)
class Row:
    """One score. layer: None for the encoder's own output. chosen: learning rates or k that validation chose."""

    task: str
    track: str
    protocol: str
    metric: str
    score: Estimate
    n_test: int
    folds: int
    seeds: int
    seconds: float
    layer: int | None = None
    shots: int | None = None
    chosen: str = ""


@dataclass
class Probed:
    """A finished task. predictions: {(track, protocol): a row for each test item}; outputs: the numbers behind them,
    where a class or label was chosen by them. classes, confusions: as `per_class` and `hardest` give them, with track
    and protocol. failed: tracks and protocols that could not be scored, with the error. left_out: {what: how many}.
    spanning: the counts, where sources span folds or splits; by_source: how `strict` divides the data then, in words.
    """

    rows: list[Row] = field(default_factory=list)
    predictions: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
    outputs: dict[tuple[str, str], dict[str, NDArray[Any]]] = field(default_factory=dict)
    failed: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    spanning: Spanning | None = None
    by_source: str = ""


def probe(
    task: Task,
    data: TaskData,
    encoder: Encoder | GivenEmbeddings,
    settings: Settings,
    store: EmbeddingStore,
    *,
    batch_size: int,
    root: Path,
    allow_missing: bool = False,
    watch: Watch = lambda made, n: made,
    done: Collection[tuple[str, str]] = (),
) -> Probed:
    """Every score of a task. EarmarkError or ValueError for data or embeddings that cannot be probed at all.

    What goes wrong with one track and protocol is noted, and the others go on. done: those that are not asked for.
    """
    view = view_of(task, layers=settings.layers is not None)
    rows, kept = embedded(
        encoder,
        data.clips,
        view,
        store,
        batch_size=batch_size,
        allow_missing=allow_missing,
        watch=watch,
        ids=ids_of(task.name, data, root),
    )
    found = Probed()
    if not kept.all():
        found.left_out[f"clips of {task.name} without an embedding"] = int((~kept).sum())
        data = _without(task, data, ~kept)
    divided = _divided(task, data, settings, found)
    for layer, of_layer in _layers(rows, encoder, view.layers, settings.layers):
        for track in settings.tracks:
            if track == KNN and not task.knn:
                continue
            for protocol, arranged in divided.items():
                if (track, protocol) in done:
                    continue
                if isinstance(arranged, str):
                    found.failed.append(_failure((track, protocol, layer), arranged))
                    continue
                started = time.perf_counter()
                try:
                    answers, chosen, seen = _ask(task, arranged, of_layer, encoder, settings, track, protocol)
                    _note(found, task, arranged, answers, settings, (track, protocol, layer), chosen, seen, started)
                except Exception as error:  # an accelerator without memory, say; what is done is worth keeping
                    found.failed.append(_failure((track, protocol, layer), error))
    return found


def _divided(task: Task, data: TaskData, settings: Settings, found: Probed) -> dict[str, TaskData | str]:
    """{protocol: the data in its splits or folds, or why there are none}; notes what spans.

    Where sources span what is given, `strict` is by source, and the given splits or folds are a protocol of their own.
    """
    asked = settings.protocols if settings.shots is None else (STRICT,)
    divided: dict[str, TaskData | str] = dict.fromkeys(asked, data)
    found.spanning = spanning(data)
    if found.spanning is None or STRICT not in divided:
        return divided
    try:
        anew = by_source(data, settings.seed)
        require_taught(anew.data, strict_folds(anew.data, settings.seed))
    except ValueError as error:
        found.by_source = f"not possible by source: {error}"
        return {**divided, STRICT: f"strict is {found.by_source}", STRICT_GIVEN: data}
    found.by_source = anew.how
    if anew.left_out:
        found.left_out[f"clips of {task.name} whose source is tested or validates ({STRICT})"] = anew.left_out
    return {**divided, STRICT: anew.data, STRICT_GIVEN: data}


def _failure(place: tuple[str, str, int | None], error: Exception | str) -> dict[str, Any]:
    """again: whether to try again the next time; a text is what the data make of it, each time."""
    track, protocol, layer = place
    plain = isinstance(error, (EarmarkError, ValueError, str))
    text = str(error) if plain else f"{type(error).__name__}: {error}"
    told = {"error": text, "missing": isinstance(error, MissingError), "again": isinstance(error, Exception)}
    return {"track": track, "protocol": protocol, "layer": layer, **told}


def _without(task: Task, data: TaskData, missing: NDArray[np.bool_]) -> TaskData:
    """The data without some clips; EarmarkError where a split or fold lost all of its clips."""
    left = data.take(~missing)
    parts, of_left = (data.split, left.split) if data.fold is None else (data.fold, left.fold)
    assert parts is not None and of_left is not None
    if empty := sorted(set(parts.tolist()) - set(of_left.tolist())):
        raise EarmarkError(f"{task.name}: no clip of {', '.join(empty)} has an embedding; nothing can stand in for it.")
    return left


def _layers(
    rows: Rows, encoder: Encoder | GivenEmbeddings, several: bool, wanted: tuple[int, ...] | None
) -> Iterator[tuple[int | None, Rows]]:
    """The rows of each wanted layer, from one pass over the audio."""
    if not several or wanted is None or isinstance(encoder, GivenEmbeddings):
        yield None, rows
        return
    each = rows.x.reshape(len(rows.x), encoder.layers, -1)
    numbers = wanted or tuple(range(encoder.layers))
    if beyond := [number for number in numbers if number >= encoder.layers]:
        raise ValueError(f"layer {beyond[0]}: {encoder.name} has the layers 0 to {encoder.layers - 1}")
    for number in numbers:
        yield number, replace(rows, x=np.ascontiguousarray(each[:, number]))


def _ask(
    task: Task,
    data: TaskData,
    rows: Rows,
    encoder: Encoder | GivenEmbeddings,
    settings: Settings,
    track: str,
    protocol: str,
) -> tuple[Answers, str, IntArray]:
    """Answers on the test items, what validation chose, and the clip of each test item."""
    folds = published_folds(data) if protocol == XARES else strict_folds(data, settings.seed)
    require_taught(data, folds)
    if settings.shots is not None:
        if task.type != "clip":
            raise ValueError(f"few-shot training needs clips of one class; {task.name} is a {task.type} task")
        draws = drawn_folds(np.asarray(data.labels), folds[0], settings.shots, DRAWS, settings.seed)
        return few_shots(data, rows, draws, track, settings.shots)
    if track == KNN:
        return neighbours(data, rows, folds, protocol)
    if task.type in TRAINED and len(folds) > 1:
        raise ValueError(f"{task.type} tasks are trained on one split; give train, valid and test in place of folds")
    if task.type in TRAINED:
        return TRAINED[task.type](task, data, rows, folds[0], settings, protocol)
    hop = getattr(encoder, "hop_seconds", None) if task.type == "frame" else None
    return linear(task, data, rows, folds, settings, protocol, hop)


def metrics_of(task: Task, track: str) -> tuple[str, ...]:
    """What a task is scored by on a track, first what stands for it. Neighbours name a class and rank nothing."""
    if track == KNN:
        return ("accuracy",)
    return own(task), *(("eer",) if task.reader == "spoof" else ALSO.get((task.type, task.metric), ()))


def _note(
    found: Probed,
    task: Task,
    data: TaskData,
    answers: Answers,
    settings: Settings,
    place: tuple[str, str, int | None],
    chosen: str,
    clips: IntArray,
    started: float,
) -> None:
    """Score the answers, and keep what they were."""
    track, protocol, layer = place
    for reason, count in answers.left_out.items():
        found.left_out[f"{reason} ({task.name}, {track}, {protocol})"] = count
    for metric in metrics_of(task, track):
        rng = np.random.default_rng((settings.seed, crc32(task.name.encode())))
        estimate = score(metric, answers, settings.replicates, rng)
        if estimate.value is None:
            found.failed.append(_failure(place, f"{metric} does not exist: {estimate.why}"))
        heads = len(answers.outputs) or len(answers.classes)
        seconds = round(time.perf_counter() - started, 3)
        folds = len(np.unique(answers.fold))
        found.rows.append(
            Row(
                task.name,
                track,
                protocol,
                metric,
                estimate,
                answers.n,
                folds,
                heads,
                seconds,
                layer,
                settings.shots,
                chosen,
            )
        )
    if layer is not None:
        return
    found.predictions[track, protocol] = predictions(task, data, answers, clips)
    if answers.outputs and task.type in ("clip", "multilabel"):
        outputs = np.stack(answers.outputs).astype(np.float32)
        found.outputs[track, protocol] = {"outputs": outputs, "labels": np.asarray(answers.labels)}
    where = {"track": track, "protocol": protocol}
    if task.type == "multilabel" or (answers.edges is not None and not task.one_label_per_frame):
        found.classes += [{**where, **row} for row in per_label(answers, data.classes)]
    elif answers.classes or task.one_label_per_frame:
        table = confusion(by_frame(answers) if task.one_label_per_frame else answers, len(data.classes))
        found.confusions.append({**where, **hardest(table, data.classes, HARDEST)})
        found.classes += [{**where, **row} for row in per_class(table, data.classes)]
